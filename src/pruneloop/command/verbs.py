"""Commands besides training: `pruneloop VERB ...`, each a function of its arguments."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pruneloop.errors import ConfigError
from pruneloop.records import RunFolder


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, as everywhere."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def report(arguments: Sequence[str]) -> None:
    """Make the page of a run, or of a sweep, again, and say where it is."""
    parser = _Parser("pruneloop report", description=report.__doc__)
    parser.add_argument("folder", type=Path, help="the folder of a run, or of a sweep")
    folder = RunFolder(parser.parse_args(arguments).folder)
    from pruneloop.report.points import read_sweep
    from pruneloop.report.run import write_report
    from pruneloop.report.sweep import write_sweep

    if folder.rounds_jsonl.exists():
        write_report(folder)
        print(folder.report)
    else:
        print(write_sweep(read_sweep(folder.path)))


def inspect(arguments: Sequence[str]) -> None:
    """Count the zeros of any transformers checkpoint, permanent or with torch's masks."""
    parser = _Parser("pruneloop inspect", description=inspect.__doc__)
    parser.add_argument("checkpoint", type=Path, help="a folder, or a .safetensors or .bin file")
    checkpoint = parser.parse_args(arguments).checkpoint
    from pruneloop.inspection import table, zeros_of

    print(table(zeros_of(checkpoint)))


VERBS: dict[str, Callable[[Sequence[str]], None]] = {"report": report, "inspect": inspect}
"""What may stand in the place of the first KEY=VALUE."""
