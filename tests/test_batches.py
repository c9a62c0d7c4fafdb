"""Batches: every row once, the same for the same (seed, round, epoch), little padding."""

import itertools
import random

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding

from pruneloop.data.batches import TrainingBatches, evaluation_loader, padding
from pruneloop.model.tokenizers import train_wordpiece

COUNT = 1003


@pytest.fixture(scope="module")
def rows() -> Dataset:
    """Rows whose first token is their number, of 3 to 60 tokens."""
    rng = random.Random(0)
    ids = [[number, *[5] * rng.randrange(2, 60)] for number in range(COUNT)]
    return Dataset.from_dict(
        {"input_ids": ids, "label": [0] * COUNT, "length": [len(row) for row in ids]}
    )


@pytest.fixture(scope="module")
def collator() -> DataCollatorWithPadding:
    return padding(train_wordpiece(["좋다"], vocab_size=100, max_length=64), on_gpu=False)


@pytest.fixture(scope="module")
def batches(rows: Dataset, collator: DataCollatorWithPadding) -> TrainingBatches:
    return TrainingBatches(rows, collator, batch_size=8, seed=0)


def test_an_epoch_has_every_row_once(batches: TrainingBatches) -> None:
    order = batches.order(round_number=1, epoch=0)
    assert len(order) == len(batches) == 126
    assert sorted(itertools.chain(*order)) == list(range(COUNT))
    assert max(map(len, order)) == 8


def test_batches_come_as_ordered(batches: TrainingBatches) -> None:
    seen = [batch["input_ids"][:, 0].tolist() for batch in batches.epoch(1, 0)]
    assert seen == batches.order(1, 0)


def test_the_order_follows_from_seed_round_and_epoch(
    rows: Dataset, collator: DataCollatorWithPadding, batches: TrainingBatches
) -> None:
    again = TrainingBatches(rows, collator, batch_size=8, seed=0)
    again.order(5, 5)  # what came before does not matter
    torch.manual_seed(1)
    assert again.order(2, 1) == batches.order(2, 1)
    other_seed = TrainingBatches(rows, collator, batch_size=8, seed=1)
    orders = [
        batches.order(2, 1),
        batches.order(1, 2),
        batches.order(2, 0),
        batches.order(0, 1),
        other_seed.order(2, 1),
    ]
    assert all(one != other for one, other in itertools.combinations(orders, 2))


@pytest.mark.parametrize("world", [2, 4, 5])
def test_processes_share_an_epoch(
    rows: Dataset, collator: DataCollatorWithPadding, batches: TrainingBatches, world: int
) -> None:
    """Of 126 batches, four and five processes get two and four of the first ones twice."""
    ranks = [TrainingBatches(rows, collator, 8, 0, rank, world) for rank in range(world)]
    orders = [rank.order(1, 0) for rank in ranks]
    steps = -(-126 // world)
    assert {len(order) for order in orders} == {len(rank) for rank in ranks} == {steps}
    taken = [batch for step in zip(*orders, strict=True) for batch in step]
    whole = batches.order(1, 0)
    assert taken == whole + whole[: steps * world - 126]


def test_batches_hold_rows_of_similar_length(batches: TrainingBatches, rows: Dataset) -> None:
    lengths = list(rows["length"])

    def padded(order: list[list[int]]) -> int:
        return sum(len(batch) * max(lengths[row] for row in batch) for batch in order)

    order = batches.order(1, 0)
    shuffled = random.Random(0).sample(range(COUNT), COUNT)
    at_random = [shuffled[start : start + 8] for start in range(0, COUNT, 8)]
    assert padded(order) < 1.1 * sum(lengths) < 1.5 * sum(lengths) < padded(at_random)


def test_lengths_do_not_follow_the_order_of_the_epoch(
    batches: TrainingBatches, rows: Dataset
) -> None:
    """Sorted windows are mixed again: no run from short to long."""
    longest = [max(rows["length"][row] for row in batch) for batch in batches.order(1, 0)]
    rises = sum(one < other for one, other in itertools.pairwise(longest))
    assert 40 < rises < 85


def test_an_iterator_draws_nothing_from_the_global_generator(
    batches: TrainingBatches, rows: Dataset, collator: DataCollatorWithPadding
) -> None:
    before = torch.get_rng_state()
    next(batches.epoch(1, 0))
    next(iter(evaluation_loader(rows, collator, 8)))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_has_every_row_once_and_pads_by_the_tokenizer(rows: Dataset) -> None:
    tokenizer = train_wordpiece(["좋다"], vocab_size=100, max_length=64)
    tokenizer.pad_token = "[MASK]"
    pad = tokenizer.pad_token_id
    assert pad == 4
    seen = []
    for batch in evaluation_loader(rows, padding(tokenizer, on_gpu=False), 8):
        assert set(batch) == {"input_ids", "attention_mask", "labels"}
        assert batch["input_ids"].shape[1] == batch["attention_mask"].sum(dim=1).max()
        assert (batch["input_ids"][batch["attention_mask"] == 0] == pad).all()
        assert (batch["attention_mask"].sum(dim=1) > 2).all()
        seen += batch["input_ids"][:, 0].tolist()
    assert len(seen) == COUNT
    assert sorted(seen) == list(range(COUNT))


def test_on_a_gpu_lengths_are_multiples_of_eight(collator: DataCollatorWithPadding) -> None:
    padded = padding(collator.tokenizer, on_gpu=True)([{"input_ids": [2, 5, 3]}])
    assert padded["input_ids"].shape == (1, 8)
