"""How long one text takes: medians of alternating runs, in processor time."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedTokenizerBase

from pruneloop.records import Text, parts_of

RUNS = 15
_WARM = 2


def medians(calls: Mapping[str, Callable[[], object]], runs: int = RUNS) -> dict[str, float]:
    """Return the median of every call's seconds; they take turns, so that all meet the same."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_WARM + runs):
        for name, call in calls.items():
            started = time.process_time()
            call()
            taken[name].append(time.process_time() - started)
    return {name: statistics.median(seconds[_WARM:]) for name, seconds in taken.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute in one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def text_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], tokens: int) -> str:
    """Return a text of about so many tokens, the special ones included, out of real texts."""
    words = [part for text in texts for part in parts_of(text) if part.strip()]
    joined = ""
    for number in range(tokens):  # a text has a token at least
        joined += f" {words[number % len(words)]}"
    read = tokenizer(joined, truncation=True, max_length=tokens, return_offsets_mapping=True)
    return joined[: max(end for _, end in read["offset_mapping"])].strip()
