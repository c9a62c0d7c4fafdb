"""Rows of files: what kind a file is, several that follow one another, folders of texts."""

import logging
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from pruneloop.config import BadRows, FilesData, Format, Layout
from pruneloop.data.cells import ErrorValue, Row
from pruneloop.data.decoding import decode
from pruneloop.data.documents import json_table
from pruneloop.data.tables import Cut, Table, delimited, shaped
from pruneloop.data.unpacking import DATA_ENDINGS, ending, is_url, locate, read_bytes, too_large
from pruneloop.errors import EnvironmentFault, InputError, printable, reason

log = logging.getLogger(__name__)

_KINDS = dict(
    zip(
        DATA_ENDINGS,
        [
            *(Format.csv, Format.tsv, Format.tsv),
            *(Format.json, Format.json, Format.json, Format.parquet, Format.xlsx),
        ],
        strict=True,
    )
)


def names_of(files: str | Sequence[str]) -> list[str]:
    """Return the names of one file or several."""
    return [files] if isinstance(files, str) else list(files)


def rows_of(files: str | Sequence[str], config: FilesData) -> Iterator[Row]:
    """Yield the rows of files, in their order.

    Raises:
        InputError: a file is not there or cannot be read, or their columns differ.
        EnvironmentFault: a download failed, or what reads a spreadsheet is not installed.
    """
    if config.layout == Layout.folders:
        for name in names_of(files):
            yield from _folder_rows(locate(config.path, name), name, config)
        return
    first: list[str] = []
    for name in names_of(files):
        table = _read(name, config)
        first = first or table.columns
        if table.columns and sorted(table.columns) != sorted(first):
            differ = sorted({*table.columns} ^ {*first})
            raise InputError(
                f"{name}: its columns are not those of {names_of(files)[0]}: only one of them has "
                f"{', '.join(differ) or 'a column twice'}"
            )
        yield from table.rows


def _read(name: str, config: FilesData) -> Table:
    inner, raw = read_bytes(locate(config.path, name), name, config.max_bytes)
    kind = _KINDS.get(ending(inner)) if config.format == Format.auto else config.format
    if kind is None:
        raise InputError(
            f"{name}: unknown kind of file; say data.format=csv, tsv, json, parquet or xlsx"
        )
    if kind in (Format.json, Format.parquet) and config.columns:
        raise InputError(
            f"{name}: data.columns is for csv, tsv and xlsx; {kind.name} names its own"
        )
    if kind == Format.parquet:
        return _parquet(raw, name, config)
    if kind == Format.xlsx:
        return shaped(_sheet(raw, name, config.max_bytes), name, config)
    content = decode(raw, name, config.encoding, config.bad_rows == BadRows.skip)
    del raw
    if kind == Format.json:
        return json_table(content, name, config)
    return delimited(content, name, config, kind)


# -- parquet -------------------------------------------------------------------------


def _parquet(raw: bytes, name: str, config: FilesData) -> Table:
    try:
        file = pyarrow.parquet.ParquetFile(BytesIO(raw))
        columns = list(file.schema_arrow.names)
        for key, column in config.columns_read:
            if columns.count(column) != 1:
                what = "no" if column not in columns else "more than one"
                raise InputError(
                    f"{name}: {what} column {column!r} (data.{key}={column}); "
                    f"found: {', '.join(columns)}"
                )
        plain = {file.schema.column(index).path for index in range(len(file.schema))}
        # As dictionaries, in which a text that is there a thousand times is held once.
        wanted = [column for _, column in config.columns_read if column in plain]
        file = pyarrow.parquet.ParquetFile(BytesIO(raw), read_dictionary=wanted)
        return Table(_parquet_rows(file, name, config), columns)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{name}: cannot be read as parquet ({reason(error)})") from error


def _parquet_rows(file: pyarrow.parquet.ParquetFile, name: str, config: FilesData) -> Iterator[Row]:
    number = size = 0
    wanted = list(dict.fromkeys(column for _, column in config.columns_read))
    if _pages(file, wanted) > config.max_bytes:
        raise too_large(name, config.max_bytes)
    try:
        for batch in file.iter_batches(batch_size=1024, columns=wanted):
            size += sum(_size(batch.column(column)) for column in wanted)
            if size > config.max_bytes:
                raise too_large(name, config.max_bytes)
            columns = [_decoded(batch.column(column)) for column in wanted]
            for cells in zip(*(column.to_pylist() for column in columns), strict=True):
                number += 1
                place = f"{name}, row {number}"
                yield Row(place, number, dict(zip(wanted, cells, strict=True)))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{name}: cannot be read as parquet ({reason(error)})") from error


def _pages(file: pyarrow.parquet.ParquetFile, wanted: Sequence[str]) -> int:
    """Return how many bytes the pages of columns have unpacked, as the file itself says."""
    groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in wanted)


def _size(column: pyarrow.Array) -> int:
    """Return how many bytes a column's values have at their full size, before they are decoded."""
    if pyarrow.types.is_dictionary(column.type) and not len(column.dictionary):
        return 0
    if pyarrow.types.is_dictionary(column.type) and _is_text(column.type.value_type):
        lengths = pyarrow.compute.binary_length(column.dictionary)
        return int(pyarrow.compute.sum(lengths.take(column.indices)).as_py() or 0)
    return int(column.nbytes)


def _is_text(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    return any(
        check(kind)
        for check in (
            types.is_string,
            types.is_large_string,
            types.is_binary,
            types.is_large_binary,
        )
    )


def _decoded(column: pyarrow.Array) -> pyarrow.Array:
    """Return a column's values at their full size; texts as bytes."""
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        # One text that is no UTF-8 must not take the others with it.
        column = column.cast(pyarrow.large_binary())
    return column


# -- spreadsheets --------------------------------------------------------------------


def _sheet(raw: bytes, name: str, limit: int) -> list[Cut]:
    """Return the rows of a workbook's first sheet."""
    try:
        import openpyxl
    except ImportError as error:
        raise EnvironmentFault(f'{name}: needs pip install "pruneloop[excel]"') from error
    from zipfile import ZipFile

    try:
        with ZipFile(BytesIO(raw)) as parts:
            if sum(part.file_size for part in parts.infolist()) > limit:
                raise too_large(name, limit)
        book = openpyxl.load_workbook(BytesIO(raw), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        if len(book.worksheets) > 1:
            others = ", ".join(other.title for other in book.worksheets[1:])
            log.info(printable(f"{name}: reads the sheet {sheet.title}, and not {others}"))
        sheet.reset_dimensions()  # which some writers get wrong
        rows = [[_value(cell) for cell in row] for row in sheet.iter_rows()]
    # What openpyxl raises of a damaged file is anything from KeyError to its own.
    except Exception as error:
        if isinstance(error, InputError | MemoryError):
            raise
        raise InputError(f"{name}: cannot be read as xlsx ({reason(error)})") from error
    numbered = enumerate(rows, 1)
    width = max((len(row) for row in rows), default=0)
    return [
        Cut(number, [*row, *[None] * (width - len(row))], "")
        for number, row in numbered
        if any(cell is not None for cell in row)
    ]


def _value(cell: Any) -> Any:
    return ErrorValue(f"is the error {cell.value}") if cell.data_type == "e" else cell.value


# -- folders of texts ----------------------------------------------------------------


def _folder_rows(location: str, name: str, config: FilesData) -> Iterator[Row]:
    folder = Path(location)
    if is_url(location) or not folder.is_dir():
        raise InputError(f"{name}: is no folder, as data.layout=folders needs")
    labels = [path for path in _listed(folder) if path.is_dir()]
    if not labels:
        raise InputError(f"{name}: has no folders; data.layout=folders reads one for each label")
    number = 0
    for label in labels:
        for path in _listed(label):
            number += 1
            yield _text_file(path, number, f"{name}/{label.name}/{path.name}", config)


def _listed(folder: Path) -> list[Path]:
    """Return what is in a folder, in a total order; dotfiles do not count."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))


def _text_file(path: Path, number: int, place: str, config: FilesData) -> Row:
    if path.suffix.lower() != ".txt" or not path.is_file():
        return Row(place, number, {}, path.name, "is no .txt file")
    _, raw = read_bytes(str(path), place, config.max_bytes)
    text = decode(raw, place, config.encoding, config.bad_rows == BadRows.skip).strip()
    return Row(place, number, {config.texts[0]: text, config.label: path.parent.name})
