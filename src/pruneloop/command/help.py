"""`pruneloop --help` and `pruneloop help GROUP`: the words of conf/, key by key."""

import re
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from pruneloop.command.choices import GROUPS, conf_folder, meant, options
from pruneloop.command.keys import Key, described
from pruneloop.errors import ConfigError

_HEAD = """Fine-tune a Korean text classifier and prune it, round after round.

  pruneloop KEY=VALUE ...         run it; -m sweeps over comma-separated values
  pruneloop predict RUN TEXT ...  what the pruned model says of texts
  pruneloop evaluate RUN          measure it again, or on other rows
  pruneloop report RUN            make the page of a run or a sweep again
  pruneloop inspect CHECKPOINT    count the zeros of any checkpoint
  pruneloop help GROUP            the keys of one group: {groups}
  pruneloop --cfg job             the whole configuration; --version, --shell-completion
"""
_WIDTH = 88


def whole_help() -> str:
    """Return all keys, group by group."""
    keys = list(described())
    parts = sorted({key.group for key in keys}, key=[key.group for key in keys].index)
    head = _HEAD.format(groups=", ".join(filter(None, parts)))
    return "\n".join([head, *(_of_group(part, keys) for part in parts)])


def group_help(group: str) -> str:
    """Return the keys of one group, and its options.

    Raises:
        ConfigError: there is no such group.
    """
    keys = list(described())
    known = sorted({key.group for key in keys if key.group} | {*GROUPS})
    if group not in known:
        near = meant(group, known)
        raise ConfigError(f"help {group}: no such group{near}; one of {', '.join(known)}")
    return _of_group(group, keys)


def _of_group(group: str, keys: list[Key]) -> str:
    lines = [f"{group}={'|'.join(options(group))}"] if group in GROUPS else []
    if group in ("recipe", "experiment"):
        lines += [f"  {name:<14}{_first_line(group, name)}" for name in options(group)]
    mine = [key for key in keys if key.group == group]
    lines += [line for _, same in groupby(mine, lambda k: k.meaning) for line in _said(list(same))]
    return "\n".join(lines) + "\n"


def _said(keys: list[Key]) -> Iterator[str]:
    """Yield the lines of keys that follow one another and share a meaning."""
    for key in keys:
        given = f"{key.name}={key.default}" if key.default is not None else f"{key.name}=..."
        yield f"  {given:<32}{'' if len(given) < 32 else ' '}{key.allowed}"
    yield from textwrap.wrap(
        keys[0].meaning, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
    )


def _first_line(group: str, option: str) -> str:
    text = (Path(conf_folder()) / group / f"{option}.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not re.match("# @package", line)]
    return lines[0].lstrip("# ")
