"""The last layer for the first token alone: the same logits and gradients, and nothing stays."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from support import composed, experiment, read_rounds, small_classifier
from torch import Tensor
from transformers import PreTrainedModel

from pruneloop.training import Shortcut
from pruneloop.training.first_token import FirstTokenOnly

TAKEN = ["Bert", "Roberta", "XLMRoberta", "Camembert", "Electra"]
LEFT_ALONE = ["Albert", "DebertaV2", "DistilBert", "ModernBert", "XLNet"]
ROWS = {
    "input_ids": torch.arange(60).view(5, 12) % 40 + 5,
    "attention_mask": (torch.arange(12) < torch.tensor([[12], [9], [2], [12], [5]])).long(),
    "labels": torch.tensor([0, 1, 0, 1, 1]),
}


def model_of(family: str, **changed: object) -> PreTrainedModel:
    """Return a model whose biases are none of 0, as those of a new one would be."""
    model = small_classifier(family, num_hidden_layers=2, **changed).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    return model


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", TAKEN)
def test_logits_and_gradients_are_the_plain_ones(family: str, attention: str, padded: bool) -> None:
    rows = {name: rows for name, rows in ROWS.items() if padded or name != "attention_mask"}
    model = model_of(family, attn_implementation=attention)
    short = Shortcut(model)
    assert short.taken

    def outcome() -> tuple[Tensor, dict[str, Tensor]]:
        model.zero_grad()
        given = model(**rows)
        given.loss.backward()
        return given.logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}

    plain, gradients = outcome()
    with short():
        quick, found = outcome()
    assert (plain - quick).abs().max() <= 1e-6 * max(1.0, float(plain.abs().max()))
    # Of the largest of all: a key's bias has none but noise.
    far = 1e-6 * max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, found[name], atol=far), name


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_row_that_is_all_padding_gives_numbers(attention: str) -> None:
    """As a tokenizer without special tokens makes of a text that it reads nothing of."""
    model = model_of("Bert", attn_implementation=attention)
    mask = ROWS["attention_mask"] * torch.tensor([[1], [1], [0], [1], [1]])
    with Shortcut(model)():
        given = model(**ROWS | {"attention_mask": mask})
        given.loss.backward()
    assert given.logits.isfinite().all()
    plain = model(**ROWS | {"attention_mask": mask}).logits
    assert torch.allclose(given.logits, plain, atol=1e-6)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("family", LEFT_ALONE)
def test_other_families_are_left_alone(family: str) -> None:
    model = model_of(family)
    short = Shortcut(model)
    assert not short.taken
    with short():
        quick = model(**ROWS).logits
    assert torch.equal(quick, model(**ROWS).logits)


def test_a_model_that_reads_more_than_the_first_token_is_left_alone() -> None:
    model = model_of("Bert")
    pooler = model.bert.pooler
    pooler.forward = lambda states: torch.tanh(pooler.dense(states.mean(dim=1)))
    assert not Shortcut(model).taken


def test_it_computes_less_inside_and_nothing_stays_outside() -> None:
    model = model_of("Bert")
    layer, short = model.bert.encoder.layer[-1], Shortcut(model)
    before, plain = set(vars(layer)), model(**ROWS).logits
    seen: list[torch.Size] = []
    layer.intermediate.register_forward_hook(lambda m, i, out: seen.append(out.shape[:2]))
    with short():
        model(**ROWS)
    with pytest.raises(ZeroDivisionError), short():
        raise ZeroDivisionError
    assert set(vars(layer)) == before
    assert torch.equal(model(**ROWS).logits, plain)
    assert seen == [(5, 1), (5, 12)]
    deepcopy(model)


def test_training_draws_dropout_for_attention_too() -> None:
    model = model_of("Bert", attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0)
    short = Shortcut(model)
    assert not model.training
    model.train()
    for part in model.bert.encoder.layer[0].modules():
        part.eval()
    with short():
        one, other = model(**ROWS).logits, model(**ROWS).logits
    assert not torch.equal(one, other)


def test_what_dropout_leaves_is_read_as_the_plain_model_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is left of the shares does not add up to 1, and the bias of values counts as often."""

    def every_third(given: Tensor, p: float = 0.5, training: bool = True, *_: object) -> Tensor:
        kept = torch.arange(given.shape[-1]) % 3 != 0
        return given * kept * 1.5 if p and training else given

    monkeypatch.setattr(torch.nn.functional, "dropout", every_third)
    # Attention that calls torch's dropout by its name.
    rates = {"attention_probs_dropout_prob": 0.3, "hidden_dropout_prob": 0.0}
    model = model_of("Bert", attn_implementation="eager", **rates)
    short = Shortcut(model)
    with torch.no_grad():
        still = model(**ROWS).logits
        model.train()
        plain = model(**ROWS).logits
        with short():
            quick = model(**ROWS).logits
    assert (plain - still).abs().max() > 1e-2
    assert (plain - quick).abs().max() <= 1e-6 * max(1.0, float(plain.abs().max()))


def test_a_run_takes_it_and_its_checkpoint_is_the_plain_models(tmp_path, monkeypatch) -> None:
    """The export's proof, which compares logits bit for bit, knows nothing of it."""
    entered = 0
    real = FirstTokenOnly.__enter__

    def counted(self) -> None:
        nonlocal entered
        entered += 1
        real(self)

    def run(name: str) -> list[dict]:
        overrides = ("data.train_rows=120", "data.test_rows=40", "model.hidden=16", "rounds=1")
        folder = tmp_path / name
        folder.mkdir()
        experiment(composed(*overrides, "model.intermediate=32", "device=cpu"), folder, [])
        return read_rounds(folder)

    monkeypatch.setattr(FirstTokenOnly, "__enter__", counted)
    with_it = run("short")
    assert entered == 8  # the proof, four steps, three evaluations
    monkeypatch.setattr("pruneloop.training.first_token._last_layer", lambda model: None)
    entered = 0
    without = run("plain")
    assert entered == 0
    for one, other in zip(with_it, without, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)  # no dropout here
        assert one["zeros"] == other["zeros"]


def test_layers_that_are_skipped_are_not_overridden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last layer may be one that a prune has taken: its shortcut would compute it again."""

    def never(self) -> None:
        raise AssertionError("the shortcut is taken")

    words = ("data.train_rows=120", "data.test_rows=40", "model.hidden=16", "rounds=1")
    words += ("model.intermediate=32", "device=cpu", "prune=units", "prune.units=[layers]")
    monkeypatch.setattr(FirstTokenOnly, "__enter__", never)
    monkeypatch.setattr("pruneloop.training.first_token._proves_equal", lambda *_: True)
    experiment(composed(*words, "prune.amount=0.5"), tmp_path, [])
    assert read_rounds(tmp_path)[-1]["zeros"] > 0
