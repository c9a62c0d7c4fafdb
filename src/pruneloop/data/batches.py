"""Batches of rows of similar length, padded to the longest among them."""

from collections.abc import Iterator, Sequence
from copy import copy

import numpy
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

Batch = dict[str, Tensor]

# Batches are cut out of shuffled windows of this many batches, sorted by length.
_WINDOW = 50


class TrainingBatches:
    """One process's batches of an epoch: a pure function of (seed, round, epoch).

    All processes see the same global order and take turns: process `rank` of `world`
    takes every `world`-th batch. Where the count does not divide, the first batches
    come once more, so that all processes take the same number of steps.
    """

    def __init__(
        self,
        rows: Dataset,
        collator: DataCollatorWithPadding,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._rows = _read(rows)
        self._lengths: list[int] = rows["length"][:]
        self._collator = collator
        self._batch_size = batch_size
        self.seed = seed
        self._rank, self._world = rank, world
        self._teacher: Tensor | None = None

    def taught(self, logits: Tensor | None) -> "TrainingBatches":
        """Return the same batches, each with its rows' part of a teacher's logits."""
        found = copy(self)
        found._teacher = logits
        return found

    def __len__(self) -> int:
        """The number of batches of an epoch for one process."""
        batches = -(-len(self._lengths) // self._batch_size)
        return -(-batches // self._world)

    def order(self, round_number: int, epoch: int) -> list[list[int]]:
        """Return the row numbers of this process's batches."""
        sequence = numpy.random.SeedSequence((self.seed, round_number, epoch))
        generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
        shuffled = torch.randperm(len(self._lengths), generator=generator).tolist()
        window = self._batch_size * _WINDOW
        batches = []
        for start in range(0, len(shuffled), window):
            rows = sorted(shuffled[start : start + window], key=self._lengths.__getitem__)
            batches += [
                rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)
            ]
        mixed = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        mixed += mixed[: -len(mixed) % self._world]
        return mixed[self._rank :: self._world]

    def epoch(self, round_number: int, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches behind the first `skip`."""
        order = self.order(round_number, epoch)[skip:]
        loader = DataLoader(
            self._rows,
            batch_sampler=order,
            collate_fn=self._collator,
            # Its own generator: making an iterator must not draw from the global one.
            generator=torch.Generator(),
        )
        for rows, batch in zip(order, loader, strict=True):
            yield batch if self._teacher is None else batch | {"teacher": self._teacher[rows]}


def _read(rows: Dataset) -> Dataset:
    """Return what a model reads of rows."""
    return rows.remove_columns("length")


def shortest_first(rows: Dataset) -> list[int]:
    """Return the row numbers in the order of `evaluation_loader`."""
    lengths: Sequence[int] = rows["length"][:]
    return sorted(range(len(lengths)), key=lengths.__getitem__)


def evaluation_size(batch_size: int, on_gpu: bool) -> int:
    """Return how many rows to measure at once: on a GPU more, as there is room without gradients.

    An H100 measured 2.3 times as many rows a second in sixteen times the batch as in four times. A
    CPU's caches hold less: four times the batch took 1.1 (2 x 64) to 1.4 times (4 x 256) as long.
    """
    return batch_size * (16 if on_gpu else 1)


def evaluation_loader(
    rows: Dataset, collator: DataCollatorWithPadding, batch_size: int
) -> DataLoader[Batch]:
    """Return a loader over all rows once, shortest first."""
    ordered = _read(rows.select(shortest_first(rows)))
    return DataLoader(ordered, batch_size, collate_fn=collator, generator=torch.Generator())


def padding(tokenizer: PreTrainedTokenizerBase, on_gpu: bool) -> DataCollatorWithPadding:
    """Return what pads a batch to its longest row, on a GPU to a multiple of 8."""
    return DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if on_gpu else None)
