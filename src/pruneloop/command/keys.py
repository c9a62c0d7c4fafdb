"""Every key in words: its default and meaning from conf/, its type and range from the classes."""

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pruneloop.command.choices import conf_folder
from pruneloop.config import known_fields

_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_NAMES |= {type(None): "null", Any: "name or list", list[str]: "list", list[Any]: "list"}
_NAMES |= {list[int]: "list of numbers"}
# Where a key's default and comment stand, the first that has it; then the group's others.
_FILES = {
    "": ["config.yaml"],
    "data": ["data/sample.yaml", "data/files.yaml", "data/hub.yaml"],
    "model": ["model/tiny.yaml", "model/pretrained.yaml"],
    "finetune": ["finetune/bert.yaml"],
    "prune": [
        *("prune/global_l1.yaml", "prune/structured_ln.yaml", "prune/n_m.yaml"),
        "prune/units.yaml",
    ],
    "rewind": ["rewind/learning_rate.yaml"],
    "distill": ["distill/none.yaml"],
}


@dataclass(frozen=True)
class Key:
    """A key: what it may be, what it is by default (None: must be given), and what it means."""

    name: str
    allowed: str
    default: str | None
    meaning: str

    @property
    def group(self) -> str:
        """The part before the dot; "" for those of a whole run."""
        return self.name.rpartition(".")[0]


def described() -> Iterator[Key]:
    """Yield every key that some choice of the groups has, once."""
    seen = set()
    conf = Path(conf_folder())
    for key, field in known_fields():
        if key in seen or is_dataclass(field.type):
            continue
        seen.add(key)
        group, _, name = key.rpartition(".")
        files, name = (_FILES[group], name) if group in _FILES else (_FILES[""], key)
        said = [found for file in files for found in _commented(conf / file)]
        value, comment = next((v, comment) for other, v, comment in said if other == name)
        kind = field.metadata.get("kind") or _allowed(field.type, field.metadata.get("range"))
        yield Key(key, kind, None if value == "???" else value, comment)


def _allowed(kind: Any, limits: Any) -> str:
    """Return a field's type and range in words."""
    if limits is not None:
        words = [f"{limits}"] + ([limits.meaning] if limits.meaning else [])
        null = ["null"] if type(None) in get_args(kind) else []
        return ", ".join(words + null)
    if isinstance(kind, types.UnionType):
        return " or ".join(_allowed(part, None) for part in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(member.name for member in kind)
    return _NAMES[kind]


def _commented(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (key, value, comment) of a YAML file; keys of a nested part are dotted."""
    comment: list[str] = []
    prefix, after_key = "", False
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.match(r"( *)(\w+):\s*([^#]*?)\s*(#.*)?$", line)
        if line.lstrip().startswith("#"):
            comment = [] if after_key else comment
            comment.append(line.lstrip("# "))
            after_key = False
        elif found:
            indent, key, value, _ = found.groups()
            after_key = bool(value)
            prefix = prefix if indent else ""
            yield prefix + key, value, " ".join(comment)
            if not indent and not value:
                prefix = f"{key}."
        else:
            comment, prefix = [], ""
