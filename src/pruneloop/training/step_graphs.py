"""Training steps as CUDA graphs: one launch each, where launching every kernel takes longer.

A step of a BERT is two thousand kernels of a few microseconds. A graph replays what was once
captured, so only a step that is the same kernels every time may become one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pruneloop.training.objectives import Batch

Numbers = tuple[Tensor, ...]

# Their forwards branch on no value and draw no number on the CPU, which a graph would freeze.
_FAMILIES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")


def can_be_captured(model: nn.Module, accelerator: Accelerator) -> bool:
    """Whether steps of a model may become graphs.

    Not with the scaler of fp16, which waits for the GPU to know whether a step overflowed, nor
    with several processes, which wait for each other.
    """
    return (
        accelerator.device.type == "cuda"
        and accelerator.num_processes == 1
        and getattr(accelerator, "scaler", None) is None
        and getattr(getattr(model, "config", None), "model_type", None) in _FAMILIES
    )


@dataclass(frozen=True)
class _Graph:
    """A captured step: what it reads, how it is done again, and where it leaves its numbers."""

    batch: Batch
    replay: Callable[[], None]
    numbers: Numbers


class StepGraphs:
    """A step, captured for every shape of its batch when that comes first, then replayed.

    Whatever else the step reads and writes must stay the same tensors as long as this is used:
    weights, moments, masks, the learning rate. Its numbers are good until the next step. Dropout
    draws what it would draw without graphs (torch counts a replay's numbers).
    """

    def __init__(self, step: Callable[[Batch], Numbers], rehearse: Callable[[Batch], None]) -> None:
        """Set up without capturing anything.

        Args:
            step: given a batch on its device, does a step of it and returns some numbers.
            rehearse: runs the same kernels but changes nothing that a step reads, so that
                libraries set themselves up outside of a capture.
        """
        self._step = step
        self._rehearse = rehearse
        self._graphs: dict[tuple[object, ...], _Graph] = {}

    def __call__(self, batch: Batch) -> Numbers:
        """Do a step of a batch, wherever that is."""
        shapes = tuple((name, value.shape, value.dtype) for name, value in batch.items())
        if shapes not in self._graphs:
            self._graphs[shapes] = self._capture(batch)
        graph = self._graphs[shapes]
        for name, value in batch.items():
            graph.batch[name].copy_(value, non_blocking=True)
        graph.replay()
        return graph.numbers

    @cached_property
    def _pool(self) -> Any:
        """The memory of all graphs: they take turns, and each needs it in its own turn only."""
        return torch.cuda.graph_pool_handle()

    def _capture(self, batch: Batch) -> _Graph:
        here = torch.cuda.current_device()
        own = {name: value.to("cuda", copy=True) for name, value in batch.items()}
        # As torch's notes on CUDA graphs have it: on a stream of its own.
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.random.fork_rng([here]), torch.cuda.stream(aside):
            self._rehearse(own)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            numbers = self._step(own)
        return _Graph(own, graph.replay, numbers)
