"""What following a teacher's logits costs a training step, against the same step without.

    python scripts/bench_distillation.py [--hidden 256 --layers 4 --steps 12 --repeats 9]

Both train the same model on the same batches, in turns, on one thread; process CPU time,
medians. The teacher's logits are looked up, as in a run.
"""

import argparse
import statistics
import time

import torch
from accelerate import Accelerator
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification

from pruneloop.data.batches import TrainingBatches
from pruneloop.training import CrossEntropy, Distillation, FineTuning, Objective, Recipe


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("hidden", 256), ("layers", 4), ("steps", 12), ("repeats", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heads = given.hidden // 64
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=8002,
            hidden_size=given.hidden,
            num_hidden_layers=given.layers,
            num_attention_heads=heads,
            intermediate_size=4 * given.hidden,
        )
    )
    rows = 32 * given.steps
    ids = torch.randint(5, 8002, (rows, 32)).tolist()
    table = Dataset.from_dict(
        {"input_ids": ids, "label": [0, 1] * (rows // 2), "length": [32] * rows}
    )

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        found = torch.tensor([row["input_ids"] for row in batch])
        labels = torch.tensor([row["label"] for row in batch])
        return {"input_ids": found, "attention_mask": torch.ones_like(found), "labels": labels}

    batches = TrainingBatches(table, collate, 32, 0)  # type: ignore[arg-type]
    accelerator = Accelerator(cpu=True)
    recipe = Recipe(1, 1e-5, 1, 0.0, 0.0, 1.0)
    logits = torch.randn(rows, 2)

    def seconds(objective: Objective, taught: torch.Tensor | None) -> float:
        tuning = FineTuning(
            model, batches.taught(taught), accelerator, lambda: None, recipe, 0, 1, objective
        )
        begun = time.process_time()
        for _ in tuning:
            pass
        return (time.process_time() - begun) / tuning.steps

    plain, followed = [], []
    for _ in range(given.repeats + 1):  # the first of each warms up
        plain.append(seconds(CrossEntropy(), None))
        followed.append(seconds(Distillation(0.9, 2.0), logits))
    without, with_it = (statistics.median(times[1:]) for times in (plain, followed))
    print(f"step without a teacher {1e3 * without:7.1f} ms")
    print(f"step with its logits   {1e3 * with_it:7.1f} ms, {with_it / without:.3f}x")


if __name__ == "__main__":
    main()
