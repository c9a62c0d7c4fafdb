"""The model card of a checkpoint: what it is, what it scores, and how it was made."""

from collections.abc import Sequence

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from pruneloop.records import RoundRecord, RunFacts, last_kept
from pruneloop.report.answer import answers
from pruneloop.report.page import render


def model_card(facts: RunFacts, rounds: Sequence[RoundRecord]) -> str:
    """Return README.md for a checkpoint: metadata with a model-index, and the text."""
    # The folders of this machine are nobody else's business.
    kept = last_kept(rounds)
    base = facts.base_model or facts.model.rstrip("/").split("/")[-1]
    name = f"{base.split('/')[-1]}-sparse-{100 * kept.sparsity:.0f}"
    told = ("rounds", "seed", "prune.", "finetune.")
    settings = {k: v for k, v in facts.config.items() if k.startswith(told)}
    data = _metadata(facts, kept, name)
    text = render(
        "card.md",
        facts=facts,
        rounds=rounds,
        last=kept,
        base=base,
        settings=settings,
        answers=answers(rounds, facts),
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))


def _metadata(facts: RunFacts, kept: RoundRecord, name: str) -> ModelCardData:
    """Return what the hub shows and searches, with the test scores as a model-index."""
    scores = {"accuracy": kept.test_accuracy, "f1": kept.test_macro_f1}
    return ModelCardData(
        language="ko",
        license=facts.licence,
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=facts.base_model,
        datasets=facts.data.hub_name,
        tags=["pruning", "sparsity", "pruneloop"],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type=facts.data.hub_name or "custom",
                dataset_name=facts.data.name,
                dataset_split="test",
                metric_type=metric,
                metric_name="macro-F1" if metric == "f1" else metric,
                metric_value=round(value, 6),
            )
            for metric, value in scores.items()
        ],
    )
