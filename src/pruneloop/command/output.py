"""What goes out of a process: no secret, nothing that acts on a terminal, in any encoding."""

import io
import logging
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

from pruneloop.errors import EnvironmentFault, printable
from pruneloop.redaction import unusable_token, without_secrets

_make = logging.getLogRecordFactory()


def guard_output() -> None:
    """Have every log line, also of libraries, and the terminal take what texts may hold."""
    logging.setLogRecordFactory(_guarded)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for a terminal that has no Hangul


def _guarded(*args: Any, **options: Any) -> logging.LogRecord:
    record = _make(*args, **options)
    try:
        text = record.getMessage()
    except Exception:  # a library's own mistake, which logging reports
        return record
    record.msg = "\n".join(map(printable, without_secrets(text).split("\n")))
    record.args = None
    return record


def say(lines: Iterable[str], json: bool = False) -> None:
    """Print lines for as long as somebody reads them; what would act on a terminal is escaped."""
    shown = _json_escaped if json else printable
    try:
        for line in lines:
            print("\n".join(map(shown, line.split("\n"))))
        sys.stdout.flush()
    except BrokenPipeError:  # such as `head`, which has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _json_escaped(line: str) -> str:
    """Escape what JSON lets stand, and terminals act on, as JSON does."""
    return re.sub("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", _escape, line)


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def check_tokens() -> None:
    """Make sure that the environment's tokens can be tokens; one that is not is never shown.

    Raises:
        EnvironmentFault: one holds a line end, a space, or what no header can carry.
    """
    if name := unusable_token():
        raise EnvironmentFault(
            f"{name}: holds a space, a line end or another sign that no token has; set it anew"
        )


def say_the_last_words() -> None:
    """Flush what was printed; where a terminal is gone, that must not change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
