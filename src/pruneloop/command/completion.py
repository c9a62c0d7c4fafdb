"""Completion of values: Hydra offers keys and presets, and of an enum only what it is already."""

import os
from collections.abc import Sequence
from enum import Enum

from pruneloop.command.output import say
from pruneloop.config import known_fields


def values(line: str) -> list[str]:
    """Return KEY=VALUE for every name that the last word of a command line can become.

    Nothing where its key takes other values than names; Hydra then knows more.
    """
    key, equals, begun = line.rpartition(" ")[2].partition("=")
    if not equals:
        return []
    kinds = {field.type for name, field in known_fields() if name == key}
    names = [name for kind in kinds if isinstance(kind, type) for name in _names(kind)]
    return [f"{key}={name}" for name in dict.fromkeys(names) if name.startswith(begun)]


def complete(words: Sequence[str]) -> bool:
    """Answer a shell that asks for the values of a key; return whether there was an answer."""
    asks = [word for word in words if word.startswith("query=")]
    found = values(os.environ.get("COMP_LINE", "")) if asks else []
    if found:
        say(["\n".join(found) if asks[0] == "query=fish" else " ".join(found)])
    return bool(found)


def _names(kind: type) -> list[str]:
    if kind is bool:
        return ["true", "false"]
    return [member.name for member in kind] if issubclass(kind, Enum) else []
