"""What the last layer for the first token alone gains, against the plain model.

    python scripts/bench_first_token.py [--hidden 256 --layers 4 --length 64 --repeats 15]

A training step and an evaluation of the same model on the same batch, in turns, on one
thread; process CPU time, medians, and the medians of the ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from pruneloop.training import Shortcut


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of a piece of work."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    """Measure, and print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = (("hidden", 256), ("layers", 4), ("length", 64), ("batch", 32), ("repeats", 15))
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=8002,
        hidden_size=given.hidden,
        num_hidden_layers=given.layers,
        num_attention_heads=max(given.hidden // 64, 1),
        intermediate_size=4 * given.hidden,
    )
    model = BertForSequenceClassification(config)
    ids = torch.randint(5, 8002, (given.batch, given.length))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch["attention_mask"][::2, given.length // 2 :] = 0
    labels = torch.zeros(given.batch, dtype=torch.long)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    short = Shortcut(model)
    assert short.taken

    def step() -> None:
        model.train()(**batch, labels=labels).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def evaluation() -> None:
        with torch.inference_mode():
            model.eval()(**batch)

    for what, work in (("training step", step), ("evaluation", evaluation)):
        pairs = []
        for _ in range(given.repeats + 1):  # the first warms up
            found = []
            for context in (nullcontext, short):
                with context():
                    found.append(seconds(work))
            pairs.append(found)
        plain, first = (1e3 * statistics.median(column) for column in zip(*pairs[1:], strict=True))
        ratio = statistics.median(a / b for a, b in pairs[1:])
        print(f"{what}: {plain:.1f} ms plain, {first:.1f} ms with, {ratio:.2f}x")


if __name__ == "__main__":
    main()
