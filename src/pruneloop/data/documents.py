"""Rows of JSON: a row a line, one array, or rows somewhere inside of documents."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pruneloop.config import FilesData
from pruneloop.data.cells import ErrorValue, Row
from pruneloop.data.tables import Table
from pruneloop.errors import InputError, shortened

_NOTHING = object()


class _Twice(ValueError):
    """A key stands twice in an object: which of its values counts, nobody knows."""


def json_table(content: str, name: str, config: FilesData) -> Table:
    """Return the rows of a JSON file.

    Raises:
        InputError: it is not JSON, or has no rows, or none with the columns.
    """
    found = list(_documents(content, name))
    if config.records is not None:
        found = [row for document in found for row in _nested(document, config.records)]
    else:
        found = [row for document in found for row in _items(document)]
    rows = [_row(row, config) for row in found]
    _check_columns(found, rows, name, config)
    return Table(iter(rows))


def _parsed(text: str) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: it is none, has a key twice, or is nested too deeply.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise _Twice(f"the key {twice!r} stands twice in an object")
        return found

    def whole(digits: str) -> int | ErrorValue:
        return int(digits) if len(digits) <= 300 else ErrorValue("is a number of over 300 digits")

    try:
        return json.loads(text, object_pairs_hook=once, parse_int=whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _said(error: ValueError) -> str:
    what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return f"not JSON ({what})" if not isinstance(error, _Twice) else what


def _documents(content: str, name: str) -> Iterator[Row]:
    """Yield each document, as the only cell of a row: the whole file, or each of its lines."""
    lines = re.split("\r\n|\r|\n", content)  # JSON allows other line ends within a string
    filled = [number for number, line in enumerate(lines, 1) if line.strip()]
    if filled and (content.lstrip().startswith("[") or not _by_line(lines, filled)):
        yield Row(name, filled[0], {"": _whole(content, name)})
        return
    for number in filled:
        line, place = lines[number - 1], f"{name}, line {number}"
        try:
            yield Row(place, number, {"": _parsed(line)}, line)
        except ValueError as error:
            yield Row(place, number, {}, line, _said(error))


def _by_line(lines: Sequence[str], filled: Sequence[int]) -> bool:
    """Return whether the first or second line that is not empty is a document by itself."""
    for number in filled[:2]:
        try:
            if isinstance(_parsed(lines[number - 1]), dict):
                return True
        except json.JSONDecodeError:
            continue
        except ValueError:
            return True  # JSON, but not what we take
    return False


def _whole(content: str, name: str) -> Any:
    try:
        return _parsed(content)
    except json.JSONDecodeError as error:
        line = len(re.findall("\r\n|\r|\n", content[: error.pos])) + 1
        hint = "; one document a line, or one array of them?" if "Extra data" in error.msg else ""
        raise InputError(f"{name}, line {line}: {_said(error)}{hint}") from None
    except ValueError as error:
        raise InputError(f"{name}: {_said(error)}") from None


def _items(document: Row) -> Iterator[Row]:
    """Yield the rows of an array; any other document is a row itself."""
    value = document.cells.get("")
    if not isinstance(value, list) or document.raw:
        yield document
        return
    for number, item in enumerate(value, 1):
        yield Row(f"{document.place}, item {number}", number, {"": item})


def _nested(document: Row, path: str) -> Iterator[Row]:
    """Yield the rows at the end of a dotted path of keys; lists on the way are walked."""
    if document.fault:
        yield document
        return
    places = [("", document.cells[""])]
    for key in path.split("."):
        places = [(f"{at}.{key}", _member(item, key, document, at)) for at, item in _spread(places)]
    for number, (at, item) in enumerate(_spread(places), 1):
        yield Row(f"{document.place}, {at.lstrip('.')}", number, {"": item})


def _spread(places: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for at, value in places:
        if isinstance(value, list):
            yield from _spread([(f"{at}[{number}]", item) for number, item in enumerate(value)])
        elif value is not None:
            yield at, value


def _member(value: Any, key: str, document: Row, at: str) -> Any:
    if isinstance(value, dict) and key in value:
        return value[key]
    found = f"keys: {_keys(value)}" if isinstance(value, dict) else f"a {type(value).__name__}"
    place = f"{document.place}{', ' if at else ''}{at.lstrip('.')}"
    raise InputError(f"{place}: no key {key!r} of data.records; found {found}")


def _keys(value: dict[str, Any]) -> str:
    return shortened(", ".join(value), 200) or "none"


def _row(found: Row, config: FilesData) -> Row:
    """Return a row with an object's members as its cells."""
    if found.fault:
        return found
    value = found.cells[""]
    if not isinstance(value, dict):
        fault = "is not an object with columns"
        return Row(found.place, found.line, {"": value}, found.raw, fault)
    columns = [column for _, column in config.columns_read]
    value = _with_inner(value, columns)
    lacks = [column for column in columns if column not in value]
    fault = f"no column {lacks[0]!r}; found: {_keys(value)}" if lacks else ""
    return Row(found.place, found.line, value, found.raw, fault)


def _with_inner(value: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """Return an object, with what stands deeper in it under the dotted names asked for."""
    found = dict(value)
    for column in columns:
        inner: Any = value
        for key in column.split("."):
            inner = inner.get(key, _NOTHING) if isinstance(inner, dict) else _NOTHING
        if column not in value and inner is not _NOTHING:
            found[column] = inner
    return found


def _check_columns(found: list[Row], rows: list[Row], name: str, config: FilesData) -> None:
    """Make sure that some row has the columns."""
    objects = [row.cells for row in rows if not row.fault or "no column" in row.fault]
    for key, column in config.columns_read:
        if not objects or any(column in cells for cells in objects):
            continue
        first = dict(objects[0])
        hints = [f"data.records={path}" for path in _paths(first)]
        if hints and config.records is None:
            raise InputError(
                f"{name}: JSON without rows; keys: {_keys(first)}; there are rows inside: "
                f"{' or '.join(hints[:4])}"
            )
        what = "JSON without rows; keys" if len(found) == 1 else "found"
        raise InputError(
            f"{found[0].place}: no column {column!r} (data.{key}={column}); {what}: {_keys(first)}"
        )


def _paths(value: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted paths that lead to lists of objects, the innermost."""
    if path.count(".") > 6:
        return
    for key, inner in value.items():
        here = f"{path}.{key}".lstrip(".")
        first = inner[0] if isinstance(inner, list) and inner else inner
        if isinstance(first, dict):
            deeper = list(_paths(first, here))
            yield from deeper or ([here] if isinstance(inner, list) else [])
