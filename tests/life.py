"""Runs of the command as processes of their own that start at once.

A fork server has the heavy imports done; every life is a fresh fork of it, a real
process with its own memory, signals and exit code.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pruneloop.pipeline", "matplotlib.figure"])


def _live(folder: str, overrides: tuple[str, ...], before: Callable[[], None] | None) -> None:
    os.chdir(folder)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        file = os.open(f"{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    sys.argv = ["train.py", *overrides]
    if before is not None:
        before()
    from pruneloop.cli import main

    main()


class Life:
    """A run of the command in a folder; `before` is called in its process first."""

    def __init__(
        self, folder: Path, *overrides: str, before: Callable[[], None] | None = None
    ) -> None:
        self._folder = folder
        self._process = _CONTEXT.Process(target=_live, args=(str(folder), overrides, before))
        self._process.start()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    def over(self) -> bool:
        """Whether it has ended."""
        return not self._process.is_alive()

    def signal(self, kind: int) -> None:
        """Send it a signal, if it still lives."""
        if not self.over():
            os.kill(self.pid, kind)

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end; return its exit code, negative for a signal."""
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, "it is still running"
        return code

    @property
    def output(self) -> str:
        """What it has printed."""
        return (self._folder / "stdout.txt").read_text()

    @property
    def errors(self) -> str:
        """What it has printed on standard error."""
        return (self._folder / "stderr.txt").read_text()
