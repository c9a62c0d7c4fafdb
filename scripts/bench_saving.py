"""What the safe save costs at KoBERT's size, against a plain write of the same bytes.

    python scripts/bench_saving.py

The safe save is a state as a run saves it: weights, masks, AdamW's moments, flushed,
hashed, renamed. The plain write puts the same bytes into files that are there already
or new (as the states are) and flushes them. Both alternate; medians, in one process.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pruneloop.checkpoint import StateFolder, save_tensors

# KoBERT: 92.2 M parameters, 85.5 M of them prunable; AdamW keeps two moments of each.
PARAMETERS, PRUNABLE = 92_186_880, 85_524_480


def state() -> dict[str, dict[str, Tensor]]:
    """Return tensors of a running state's sizes, by file name."""
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(PARAMETERS, generator=generator)

    return {
        "masks": {"mask": torch.rand(PRUNABLE, generator=generator) > 0.5},
        "model": {"weight": noise()},
        "training": {"exp_avg": noise(), "exp_avg_sq": noise()},
    }


def safe(folder: Path, tensors: dict[str, dict[str, Tensor]]) -> None:
    """Save the way a run does."""
    states = StateFolder(folder)
    states.begin()
    for name, group in tensors.items():
        save_tensors(states.writing / f"{name}.safetensors", group)
    states.publish({})


def plain(folder: Path, tensors: dict[str, dict[str, Tensor]]) -> None:
    """Write the same bytes into new files, flush them, drop what is too many."""
    target = folder / f"plain-{time.monotonic_ns()}"
    target.mkdir()
    for name, group in tensors.items():
        with (target / name).open("wb") as file:
            for tensor in group.values():
                file.write(tensor.numpy().data)
            file.flush()
            os.fsync(file.fileno())
    for old in sorted(folder.glob("plain-*"))[:-2]:
        shutil.rmtree(old)


def seconds(task: Callable[[], None]) -> float:
    """Return how long a task takes; what others wrote is flushed first."""
    os.sync()
    begun = time.monotonic()
    task()
    return time.monotonic() - begun


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary one)")
    options = parser.parse_args()
    tensors = state()
    size = sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
    times: dict[str, list[float]] = {"safe": [], "plain": []}
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        for repeat in range(options.repeats + 2):
            for name, task in (("safe", safe), ("plain", plain)):
                taken = seconds(lambda task=task: task(Path(place), tensors))
                if repeat > 1:  # by then both have two generations on the disk
                    times[name].append(taken)
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"bytes of a state                   {size:,}")
    for name, found in times.items():
        print(
            f"{name:<6} median of {options.repeats}               "
            f"{medians[name]:.2f} s (from {min(found):.2f} to {max(found):.2f})"
        )
    print(f"safe / plain                       {medians['safe'] / medians['plain']:.2f}x")


if __name__ == "__main__":
    main()
