"""What can go wrong, and the exit code that each of it ends the process with."""

import unicodedata
from collections.abc import Sequence

from pruneloop.redaction import without_secrets

_LONGEST = 960  # with what the error frame puts in front, a line has less than 1,000


def printable(text: str) -> str:
    """Return a text of which no character acts on a terminal, or is invisible.

    Controls, escape sequences, marks of direction, line ends and lone surrogates are shown
    as Python escapes them.
    """
    if text.isprintable():
        return text
    acting = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in acting else char
        for char in text
    )


def utf8(text: str) -> bytes:
    """Return a text's bytes; what is half of a character, as of a file's name, is escaped."""
    return text.encode(errors="backslashreplace")


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters: its middle goes, as hints stand at the end."""
    if len(text) <= most:
        return text
    tail = most // 3
    return text[: most - tail - 5] + " ... " + text[-tail:]


def reason(error: BaseException) -> str:
    """Return the first line of what an exception says, or its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return names as a list for one line: the first ones, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class PruneloopError(Exception):
    """A failure with one line to say. `exit_code` 1 is reserved for our own bugs."""

    exit_code = 1

    def __str__(self) -> str:
        # Here, so that no message has to think of what a file's names and cells may hold.
        return shortened(printable(without_secrets(Exception.__str__(self))), _LONGEST)


class ConfigError(PruneloopError, ValueError):
    """The configuration asks for something that is not possible."""

    exit_code = 2


class InputError(PruneloopError, ValueError):
    """A data set, a model or a tokenizer is not what it should be."""

    exit_code = 3


class CheckpointError(PruneloopError):
    """A checkpoint is damaged, or belongs to another run."""

    exit_code = 4


class EnvironmentFault(PruneloopError):
    """The machine cannot do it: no CUDA, no space, no network, a folder in use."""

    exit_code = 5

    @classmethod
    def of(cls, error: OSError) -> "EnvironmentFault":
        """Say in one line what the system refused, and where."""
        place = f"{error.filename}: " if error.filename else ""
        return cls(f"{place}{error.strerror or error}")


class FolderInUse(EnvironmentFault):
    """Another run is at work in the folder; what it says there is its own."""


class PeerLost(EnvironmentFault):
    """Another process of the run has ended, and says itself why."""


class InvariantError(PruneloopError):
    """A number that must hold does not: a NaN, a wrong count, unequal masks."""

    exit_code = 6


class EmptyMatrix(InvariantError):
    """A prune would take the last weight of a matrix."""


class Preempted(BaseException):
    """A signal asked the run to stop; its state is saved and it can go on.

    No Exception, as KeyboardInterrupt is none: what a library or a sweep does about
    failures must not swallow it.
    """

    exit_code = 75


class Interrupted(Preempted):
    """The same by Ctrl-C: whoever pressed it does not want it started again by itself."""

    exit_code = 130
