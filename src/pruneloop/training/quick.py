"""How a model computes while it trains and is measured: quicker, and nowhere else."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from transformers import PreTrainedModel

from pruneloop.training.dropout import QuickDropout
from pruneloop.training.first_token import Shortcut


class Quick:
    """Calls give a context in which a model takes every way that it has."""

    def __init__(self, model: PreTrainedModel, short: Shortcut, compiled: bool) -> None:
        """Set up the ways.

        Args:
            model: where it is to train.
            short: the shortcut that it has, if any.
            compiled: have `torch.compile` write its kernels, at the first batch.
        """
        self._short = short
        self._others: list[AbstractContextManager[None]] = [QuickDropout(model)]
        if compiled:
            self._others.append(Compiled(model))

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with ExitStack() as ways:
            for way in (self._short(), *self._others):
                ways.enter_context(way)
            yield


class Compiled(AbstractContextManager[None]):
    """Has a model call what `torch.compile` has made of it, as long as the block runs.

    The model stays itself, with its parameters' names. Outside, hooks are seen again, which a
    compiled model would pass by.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        # For batches of any length at once: a recompilation takes half a minute.
        self._call = torch.compile(model._call_impl, dynamic=True)

    def __enter__(self) -> None:
        self._model._compiled_call_impl = self._call

    def __exit__(self, *_: object) -> None:
        self._model._compiled_call_impl = None
