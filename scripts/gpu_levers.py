"""What could make a training step faster, each lever on its own, at KoBERT's shape.

    python scripts/gpu_levers.py --device cuda
    python scripts/gpu_levers.py --device cpu --layers 1 --hidden 16 --batch 4 --steps 1

Rows are random tokens of as many lengths as KoBERT's tokenizer gives NSMC's reviews. Steps are
those of a run (`FineTuning`, half of the encoder pruned, bf16); evaluation, loading and saving
stand beside them. A GPU's times are between two waits for it, of a second epoch: the first one
warms up, compiles and captures.
"""

import argparse
import gc
import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from pruneloop.checkpoint import save_tensors
from pruneloop.data.batches import TrainingBatches, evaluation_size
from pruneloop.pruning import GlobalL1, Masks, PrunedModel, prunable_weights
from pruneloop.training import (
    Batch,
    CrossEntropy,
    FineTuning,
    Quick,
    Recipe,
    Shortcut,
    can_be_captured,
)

# Of KoBERT's tokens a review: the median, and what nine of ten do not exceed.
MEDIAN, TENTH = 19, 47
LONGEST = 128


@dataclass(frozen=True)
class Lever:
    """How a step differs from a run's own; the values are those of the run."""

    attention: str = "sdpa"
    multiple: int = 8
    padded: bool = True
    pinned: bool = False
    pruned: bool = True
    whole: bool = False
    captured: bool = True
    compiled: bool = False


STEPS = {
    "as it is": Lever(),
    "the whole last layer": Lever(whole=True),
    "without masks": Lever(pruned=False),
    "eager attention": Lever(attention="eager"),
    # The most that packing rows without padding can gain: as many tokens, and no mask.
    "no padding": Lever(padded=False),
    "lengths to 32": Lever(multiple=32),
    "pinned memory": Lever(pinned=True),
    "no CUDA graphs": Lever(captured=False),
    "compiled": Lever(compiled=True),
    "compiled, no CUDA graphs": Lever(compiled=True, captured=False),
}


class Ready:
    """Batches that are there already."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, round_number: int, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield them."""
        return iter(self._batches[skip:])


def lengths(rows: int) -> list[int]:
    """Return as many lengths as rows, spread as NSMC's are."""
    generator = torch.Generator().manual_seed(0)
    deviation = (math.log(TENTH) - math.log(MEDIAN)) / 1.2816
    drawn = torch.randn(rows, generator=generator).mul(deviation).add(math.log(MEDIAN)).exp()
    return drawn.round().clamp(3, LONGEST).int().tolist()


def table(rows: int) -> Dataset:
    """Return rows of random tokens."""
    generator = torch.Generator().manual_seed(1)
    sizes = lengths(rows)
    ids = [torch.randint(5, 8002, (size,), generator=generator).tolist() for size in sizes]
    return Dataset.from_dict({"input_ids": ids, "label": [0, 1] * (rows // 2), "length": sizes})


def collate(rows: list[dict[str, Any]], lever: Lever) -> Batch:
    """Pad a batch as a run does, or join its tokens to rows without padding."""
    labels = torch.tensor([row["label"] for row in rows])
    longest = max(len(row["input_ids"]) for row in rows)
    if not lever.padded:
        longest = max(sum(len(row["input_ids"]) for row in rows) // len(rows), 1)
        return {"input_ids": torch.randint(5, 8002, (len(rows), longest)), "labels": labels}
    width = -(-longest // lever.multiple) * lever.multiple
    ids = torch.ones(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[place, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def make_model(layers: int, hidden: int, attention: str) -> BertForSequenceClassification:
    """Return a classifier of KoBERT's shape, or a smaller one."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=8002,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(hidden // 64, 1),
        intermediate_size=4 * hidden,
        pad_token_id=1,
        attn_implementation=attention,
    )
    return BertForSequenceClassification(config)


def seconds(device: str, work: Callable[[], object]) -> float:
    """Return the wall time of a piece of work, and wait for the device before and after."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begun


def matrix_rate(device: str) -> float:
    """Return the operations a second of large matrix products in bf16: what is to be had."""
    size = 8192 if device == "cuda" else 256
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    torch.matmul(a, b)
    repeats = 20
    return 2 * size**3 * repeats / seconds(device, lambda: [a @ b for _ in range(repeats)])


@contextmanager
def waits(device: str) -> Iterator[list[str]]:
    """Collect what makes the program wait for the GPU."""
    found: list[str] = []
    if device != "cuda":
        yield found
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield found
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found += [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w)]


def steps_of(
    lever: Lever, device: str, layers: int, hidden: int, size: int, count: int
) -> dict[str, Any]:
    """Train some steps with a lever; return how fast they were and what they waited for."""
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="bf16")
    plain = make_model(layers, hidden, lever.attention)
    model = accelerator.prepare(plain)
    weights = prunable_weights(plain)
    pruned = PrunedModel(plain, weights, Masks.dense(weights))
    if lever.pruned:
        pruned.prune(GlobalL1(), [pruned.masks.prunable // 2])
    order = TrainingBatches(table(size * count), lambda rows: collate(rows, lever), size, 0)
    batches = list(order.epoch(1, 0))
    if lever.pinned and device == "cuda":
        batches = [{name: value.pin_memory() for name, value in b.items()} for b in batches]
    short = Shortcut(plain, skips=lever.whole)
    # A compiler is not at hand on every CPU, and nothing is learnt of one.
    quick = Quick(plain, short, lever.compiled and device == "cuda")

    def objective(given: nn.Module, batch: Batch) -> torch.Tensor:
        with quick():
            return CrossEntropy()(given, batch)

    recipe, captured = Recipe(2, 1e-5, 1, 0.1, 0.01, 1.0), lever.captured
    captured = captured and can_be_captured(plain, accelerator)
    steps = iter(
        FineTuning(
            model, Ready(batches), accelerator, pruned.hold, recipe, 0, 1, objective, captured
        )
    )
    warm = seconds(device, lambda: list(islice(steps, count)))
    with waits(device) as found:
        taken = seconds(device, lambda: list(steps))
    tokens = sum(batch["input_ids"].numel() for batch in batches)
    inside = sum(weight.numel() for weight in weights.values())
    return {
        "rows_a_second": size * count / taken,
        "milliseconds_a_step": 1e3 * taken / count,
        "padding": 1 - sum(lengths(size * count)) / tokens if lever.padded else 0.0,
        "share_of_matrix_rate": 6 * inside * tokens / taken / matrix_rate(device),
        "first_epoch_seconds": warm,
        "waits": {place: found.count(place) for place in set(found)},
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
    }


def loading(device: str, layers: int, hidden: int, size: int, count: int) -> dict[str, Any]:
    """Make the batches and nothing else."""
    order = TrainingBatches(table(size * count), lambda rows: collate(rows, Lever()), size, 0)
    taken = seconds(device, lambda: list(order.epoch(1, 0)))
    return {"rows_a_second": size * count / taken}


def evaluating(device: str, layers: int, hidden: int, size: int, count: int) -> dict[str, Any]:
    """Evaluate in a run's batches, in bf16."""
    model = make_model(layers, hidden, "sdpa").to(device).eval()
    many = evaluation_size(size, device == "cuda")
    order = TrainingBatches(table(size * count), lambda rows: collate(rows, Lever()), many, 0)
    batches = [
        {name: value.to(device) for name, value in batch.items()} for batch in order.epoch(1, 0)
    ]

    def work() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16), Shortcut(model)():
            for batch in batches:
                model(**batch)

    work()
    return {"rows_a_second": size * count / seconds(device, work)}


def saving(device: str, layers: int, hidden: int, size: int, count: int) -> dict[str, Any]:
    """Write a state: the weights and an optimiser's two moments of each."""
    model = make_model(layers, hidden, "sdpa").to(device)
    tensors = {
        f"{part}.{name}": value.detach().clone()
        for part in range(3)
        for name, value in model.named_parameters()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        taken = seconds(device, lambda: save_tensors(path, tensors))
        return {"seconds": taken, "bytes": path.stat().st_size}


BESIDE = {"loading": loading, "evaluation": evaluating, "saving": saving}
LEVERS = (*STEPS, *BESIDE)


def measure(
    name: str, device: str, layers: int, hidden: int, size: int, count: int
) -> dict[str, Any]:
    """Measure one of `LEVERS` over so many batches of a size."""
    gc.collect()
    torch.compiler.reset()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if name in BESIDE:
        return BESIDE[name](device, layers, hidden, size, count)
    return steps_of(STEPS[name], device, layers, hidden, size, count)


def main() -> None:
    """Measure all levers, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    for name, default in (("layers", 12), ("hidden", 768), ("batch", 64), ("steps", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", nargs="*", default=list(LEVERS))
    given = parser.parse_args()
    for name in given.only:
        sizes = (given.layers, given.hidden, given.batch, given.steps)
        print(json.dumps({name: measure(name, given.device, *sizes)}, indent=1), flush=True)


if __name__ == "__main__":
    main()
