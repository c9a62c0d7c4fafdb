"""Loading torch and transformers, which is most of what a short command does."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Load modules in the block without collecting garbage in between, of which they leave none.

    What they leave is never looked at again, at the end of the process neither: a third of the
    time. In a sweep only the first run loads anything.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
