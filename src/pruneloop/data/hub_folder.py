"""A local folder that is laid out as a data set of the hub is: which file is of which split.

`datasets` would take signs of its path for patterns, and keep what it read under the path's
name and date. So the files are found here, and read as any others.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
import pyarrow.parquet
import yaml

from pruneloop.config import CorpusData, FilesData, Format, HubData, Layout, Quoting
from pruneloop.data.cells import Row
from pruneloop.data.files import rows_of
from pruneloop.data.unpacking import DATA_ENDINGS, ending
from pruneloop.errors import InputError

# What a split may be called in a file's name, as `datasets` knows it.
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_MAX_BYTES = 1 << 32


def folder_rows(folder: Path, split: str, config: HubData) -> Iterator[Row]:
    """Yield the rows of a split.

    Raises:
        InputError: there is no such split or configuration, or a file cannot be read.
    """
    splits = _splits(folder, config)
    if split not in splits:
        raise InputError(
            f"{config.name}: no split {split!r}; found: {', '.join(splits) or 'no data file'}"
        )
    shared = {key.name: getattr(config, key.name) for key in fields(CorpusData)}
    as_files = FilesData(
        **shared,
        title=None,
        path=str(folder),
        train=splits[split],
        test=None,
        format=Format.auto,
        layout=Layout.table,
        columns=[],
        records=None,
        delimiter=None,
        quoting=Quoting.minimal,
        encoding="auto",
        max_bytes=_MAX_BYTES,
    )
    names = _class_names(folder / splits[split][0], config.label)
    for row in rows_of(splits[split], as_files):
        yield named(row, config.label, names)


def named(row: Row, label: str, names: list[str]) -> Row:
    """Return a row with the name of its class in the place of the number; -1 is none."""
    number = row.cells.get(label)
    if not names or isinstance(number, bool) or not isinstance(number, int) or number >= len(names):
        return row
    return replace(row, cells={**row.cells, label: names[number] if number >= 0 else None})


def _class_names(path: Path, label: str) -> list[str]:
    """Return the names of classes that `datasets` wrote into a parquet file."""
    if path.suffix.lower() != ".parquet":
        return []
    try:
        with path.open("rb") as file:
            said = (pyarrow.parquet.read_schema(file).metadata or {}).get(b"huggingface", b"{}")
        feature = json.loads(said)["info"]["features"][label]
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError):
        return []  # what is wrong with the file is said when its rows are read
    return list(feature.get("names", [])) if isinstance(feature, dict) else []


def _splits(folder: Path, config: HubData) -> dict[str, list[str]]:
    """Return the names of each split's files, relative to the folder, in a total order."""
    said = _configurations(folder)
    if said or config.config is not None:
        return _of_configuration(folder, said, config)
    files = _data_files(folder)
    told = [(_split_of(name), name) for name in files]
    found = {split: [name for other, name in told if other == split] for split in _WORDS}
    found = {split: names for split, names in found.items() if names}
    return found or ({"train": files} if files else {})


def _data_files(folder: Path) -> list[str]:
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        name.as_posix()
        for name in names
        if ending(name.name) in DATA_ENDINGS
        and not any(part.startswith((".", "__")) for part in name.parts)
    )


def _split_of(name: str) -> str | None:
    """Return the split that a file's name speaks of, or else the nearest folder's."""
    for part in reversed(PurePosixPath(name).parts):
        words = re.split(r"[-._ 0-9]+", part)
        for split, known in _WORDS.items():
            if any(word in known for word in words):
                return split
    return None


def _configurations(folder: Path) -> list[dict[str, Any]]:
    """Return what a data set's card says of its configurations and files."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = re.match(r"\ufeff?---\s*\n(.*?)\n---", text, re.DOTALL)
    try:
        said = yaml.safe_load(found.group(1)) if found else None
    except yaml.YAMLError as error:
        raise InputError(f"{card}: its head is no YAML") from error
    configs = said.get("configs") if isinstance(said, dict) else None
    return [each for each in configs or [] if isinstance(each, dict) and "data_files" in each]


def _of_configuration(
    folder: Path, said: list[dict[str, Any]], config: HubData
) -> dict[str, list[str]]:
    names = [str(each.get("config_name", "default")) for each in said]
    wanted = config.config or ("default" if "default" in names else names[0])
    if wanted not in names or (config.config is None and len(names) > 1 and wanted != "default"):
        raise InputError(
            f"data.config={config.config}: {config.name} has the configurations "
            f"{', '.join(names) or 'none'}"
        )
    files = said[names.index(wanted)]["data_files"]
    if not isinstance(files, list) or not all(isinstance(each, dict) for each in files):
        files = [{"split": "train", "path": files}]
    found: dict[str, list[str]] = {}
    for each in files:
        patterns = each["path"] if isinstance(each["path"], list) else [each["path"]]
        paths = {path for pattern in patterns for path in folder.glob(str(pattern))}
        names = [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
        found.setdefault(str(each["split"]), []).extend(sorted(names))
    return found
