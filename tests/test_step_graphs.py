"""Steps as CUDA graphs, with their capture replaced: what is captured when, and what it reads.

tests/test_cuda.py has the same with real graphs.
"""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from accelerate import Accelerator
from support import small_bert, small_classifier

from pruneloop.training import Batch, FineTuning, Recipe, can_be_captured, step_graphs
from pruneloop.training.step_graphs import Step, StepGraphs


class Batches(list[Batch]):
    """The same batches in every epoch."""

    def epoch(self, round_number: int, epoch: int, skip: int = 0) -> Iterator[Batch]:
        return iter(self[skip:])


def batches(*rows: int) -> Batches:
    """Return batches of so many rows each."""
    generator = torch.Generator().manual_seed(5)
    return Batches(
        {
            "input_ids": torch.randint(1, 30, (size, 6), generator=generator),
            "attention_mask": torch.ones(size, 6, dtype=torch.int64),
            "labels": torch.randint(0, 2, (size,), generator=generator),
        }
        for size in rows
    )


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches that were captured; a replay does the step anew, of its own batch alone."""
    seen: list[Batch] = []

    def capture(
        graphs: StepGraphs, batch: Batch, step: Step, rehearse: Callable[[Batch], None]
    ) -> step_graphs._Graph:
        own = {name: torch.zeros_like(value) for name, value in batch.items()}
        seen.append(own)
        rehearse({name: value.clone() for name, value in batch.items()})
        numbers = (torch.zeros(()), torch.zeros(()))

        def replay() -> None:
            for number, found in zip(numbers, step(own), strict=True):
                number.copy_(found)

        return step_graphs._Graph(own, replay, numbers)

    monkeypatch.setattr(StepGraphs, "_capture", capture)
    return seen


def fine_tuning(graphs: bool, accumulation: int = 1) -> tuple[FineTuning, list[torch.Tensor]]:
    torch.manual_seed(0)
    model = small_bert(vocab_size=30, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    asked, given = Recipe(1, 1e-3, accumulation, 0.1, 0.1, 1.0), batches(4, 4, 3, 4, 3)
    tuning = FineTuning(
        model, given, Accelerator(cpu=True), lambda: None, asked, 0, 1, captured=graphs
    )
    return tuning, [parameter.detach() for parameter in model.parameters()]


def test_every_shape_is_captured_once(captured: list[Batch]) -> None:
    """And training is what it is without."""
    losses = {}
    weights = {}
    for graphs in (False, True):
        tuning, weights[graphs] = fine_tuning(graphs)
        losses[graphs] = [progress.loss for progress in tuning]
    assert [len(batch["labels"]) for batch in captured] == [4, 3]
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
    assert all(map(torch.allclose, weights[True], weights[False]))


def test_a_state_goes_on_with_graphs(captured: list[Batch]) -> None:
    whole, weights = fine_tuning(True)
    stopped, others = fine_tuning(True)
    list(whole)
    next(iter(stopped))
    again, copies = fine_tuning(True)
    for copy, other in zip(copies, others, strict=True):
        copy.copy_(other)
    again.load_state(stopped.state())
    list(again)
    assert all(map(torch.equal, weights, copies))


def test_a_rounds_moments_go_with_it(captured: list[Batch]) -> None:
    """Without the garbage collector, which may come when the next round has no memory left."""
    tuning, _ = fine_tuning(True)
    assert list(tuning)
    moments = weakref.ref(tuning._update._optimizer)
    gc.disable()
    try:
        # The capture that stands in here keeps the step, which a real one does not.
        tuning._update._graphs._graphs.clear()
        del tuning
        assert moments() is None
    finally:
        gc.enable()


def test_nothing_is_collected_during_a_capture() -> None:
    with pytest.raises(ZeroDivisionError), step_graphs._no_collection():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()


def test_accumulated_gradients_are_of_no_graph(captured: list[Batch]) -> None:
    list(fine_tuning(True, accumulation=2)[0])
    assert not captured


def test_other_attention_is_not_captured() -> None:
    class OnAGpu:
        device, num_processes, scaler = torch.device("cuda"), 1, None

    model = small_classifier("Bert")
    assert can_be_captured(model, OnAGpu())
    model.set_attn_implementation("eager")
    assert not can_be_captured(model, OnAGpu())


def test_a_cpus_steps_are_no_graphs() -> None:
    assert not can_be_captured(small_classifier("Bert"), Accelerator(cpu=True))


@pytest.mark.parametrize(
    ("family", "processes", "scaler", "can"),
    [
        ("Bert", 1, None, True),
        ("Electra", 1, None, True),
        ("DebertaV2", 1, None, False),
        ("Bert", 2, None, False),
        ("Bert", 1, object(), False),
    ],
)
def test_what_can_be_captured(family: str, processes: int, scaler: object, can: bool) -> None:
    class OnAGpu:
        device = torch.device("cuda")

    OnAGpu.num_processes, OnAGpu.scaler = processes, scaler
    assert can_be_captured(small_classifier(family), OnAGpu()) is can
