"""Training steps as CUDA graphs: one launch each, where launching every kernel takes longer.

A step of a BERT is two thousand kernels of a few microseconds. A graph replays what was once
captured, so only a step that is the same kernels every time may become one.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pruneloop.training.first_token import FAMILIES
from pruneloop.training.objectives import Batch

Numbers = tuple[Tensor, ...]
Step = Callable[[Batch], Numbers]


def can_be_captured(model: nn.Module, accelerator: Accelerator) -> bool:
    """Whether steps of a model may become graphs.

    Not with the scaler of fp16, which waits for the GPU to know whether a step overflowed, nor
    with several processes, which wait for each other, nor with other attention than torch's own,
    for which transformers looks at the mask's values or copies a number to the GPU, nor of families
    whose forward may do such things, which a graph would freeze.
    """
    config = getattr(model, "config", None)
    return (
        accelerator.device.type == "cuda"
        and accelerator.num_processes == 1
        and getattr(accelerator, "scaler", None) is None
        and getattr(config, "model_type", None) in FAMILIES
        and getattr(config, "_attn_implementation", None) == "sdpa"
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
    draws on, since torch counts what a replay draws. A batch without padding gets its mask all the
    same, where a step without graphs leaves it out.
    """

    def __init__(self) -> None:
        self._graphs: dict[tuple[object, ...], _Graph] = {}

    def __call__(self, batch: Batch, step: Step, rehearse: Callable[[Batch], None]) -> Numbers:
        """Do a step of a batch, wherever that is.

        Nothing of the two is kept: with a cycle, a round's memory would outlive it.

        Args:
            step: given a batch on its device, does a step of it and returns some numbers.
            rehearse: runs the same kernels but changes nothing that a step reads, so that
                libraries set themselves up outside of a capture.
        """
        shapes = tuple((name, value.shape, value.dtype) for name, value in batch.items())
        if shapes not in self._graphs:
            self._graphs[shapes] = self._capture(batch, step, rehearse)
        graph = self._graphs[shapes]
        for name, value in batch.items():
            graph.batch[name].copy_(value, non_blocking=True)
        graph.replay()
        return graph.numbers

    @cached_property
    def _pool(self) -> Any:
        """The memory of all graphs: they take turns, and each needs it in its own turn only."""
        return torch.cuda.graph_pool_handle()

    def _capture(self, batch: Batch, step: Step, rehearse: Callable[[Batch], None]) -> _Graph:
        here = torch.cuda.current_device()
        own = {name: value.to("cuda", copy=True) for name, value in batch.items()}
        # As torch's notes on CUDA graphs have it: beside the stream that all else is on.
        aside = _stream(here)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.random.fork_rng([here]), torch.cuda.stream(aside):
            rehearse(own)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with _no_collection(), torch.cuda.graph(graph, pool=self._pool, stream=aside):
            numbers = step(own)
        return _Graph(own, graph.replay, numbers)


@lru_cache
def _stream(device: int) -> torch.cuda.Stream:
    """Return a device's stream for captures; each one used keeps 66 MiB for cuBLAS on an H100."""
    return torch.cuda.Stream(device)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Have no garbage collected: an old graph that goes during a capture makes it fail."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
