"""Write docs/configuration.md: every key with its type, range, default and meaning.

    python scripts/write_configuration.py

Types and ranges come from the classes in config.py, defaults and meanings from the values
and comments in conf/. A test compares the page with what this writes.
"""

import re
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pruneloop.config import known_fields

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
HEAD = """# Every key

Written by `scripts/write_configuration.py` from the types and ranges in `config.py` and the
values and comments in `conf/`. A key is set as `KEY=VALUE` on the command line.

| key | value | default | meaning |
|---|---|---|---|
"""
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
NAMES |= {
    type(None): "null",
    Any: "name or list",
    list[str]: "list",
    list[Any]: "list",
    list[int]: "list",
}
# Where a key's default and comment stand, the first that has it; then the group's others.
FILES = {
    "": ["config.yaml"],
    "data": ["data/sample.yaml", "data/files.yaml", "data/hub.yaml"],
    "model": ["model/tiny.yaml", "model/pretrained.yaml"],
    "finetune": ["finetune/bert.yaml"],
    "rewind": ["rewind/learning_rate.yaml"],
    "distill": ["distill/none.yaml"],
    "prune": ["prune/global_l1.yaml", "prune/structured_ln.yaml", "prune/n_m.yaml"],
}


def allowed(kind: Any, limits: Any) -> str:
    """Return a field's type and range in words."""
    if limits is not None:
        words = [f"{limits}"] + ([limits.meaning] if limits.meaning else [])
        null = ["null"] if type(None) in get_args(kind) else []
        return ", ".join(words + null)
    if isinstance(kind, types.UnionType):
        return " or ".join(allowed(part, None) for part in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.name}`" for member in kind)
    return NAMES[kind]


def commented(path: Path) -> Iterator[tuple[str, str, str]]:
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


def rows() -> Iterator[str]:
    """Yield the table's lines."""
    seen = set()
    for key, field in known_fields():
        group, _, name = key.rpartition(".")
        files = FILES.get(group, FILES[""])
        name = name if group in FILES else key
        if key in seen or is_dataclass(field.type):
            continue
        seen.add(key)
        said = [found for file in files for found in commented(ROOT / "conf" / file)]
        values = [(value, comment) for other, value, comment in said if other == name]
        if not values:
            continue
        value, comment = values[0]
        default = "must be given" if value == "???" else f"`{value}`"
        kind = field.metadata.get("kind") or allowed(field.type, field.metadata.get("range"))
        comment = comment.replace("|", r"\|")
        yield f"| `{key}` | {kind} | {default} | {comment} |"


def page() -> str:
    """Return the page."""
    return HEAD + "\n".join(rows()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
