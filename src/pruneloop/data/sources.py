"""Where rows come from: the built-in sample, files, or the hub.

Every source ends as a `Corpus` of texts and label names. Files are read strictly: what
cannot be read for certain is an error with its line, and nothing is dropped in silence.
"""

import csv
import io
import json
import lzma
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
from datasets import DownloadManager, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetGenerationError, DatasetsError
from datasets.packaged_modules.csv.csv import Csv
from fsspec.utils import infer_compression

from pruneloop.config import (
    CorpusData,
    DataConfig,
    FilesData,
    Format,
    HubData,
    Normalization,
    Quoting,
    SampleData,
)
from pruneloop.data import sample
from pruneloop.errors import EnvironmentFault, InputError


@dataclass
class Rows:
    """Texts with their label names, and what was done to them on the way in."""

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    empty: int = 0
    normalized: int = 0

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Corpus:
    """A source's rows; `test` is None where the source has no test split."""

    train: Rows
    test: Rows | None
    name: str


def load(config: DataConfig) -> Corpus:
    """Read the rows that the configuration names.

    Raises:
        InputError: something about the rows is wrong; the message says where.
        EnvironmentFault: a download failed.
    """
    if isinstance(config, SampleData):
        return _load_sample(config)
    if isinstance(config, FilesData):
        return _load_files(config)
    assert isinstance(config, HubData)
    return _load_hub(config)


def _load_sample(config: SampleData) -> Corpus:
    train = sample.generate(config.train_rows, seed=config.split_seed)
    known = [text for text, _ in train]
    test = sample.generate(config.test_rows, seed=config.split_seed + 1, exclude=known)

    def rows(pairs: list[tuple[str, str]]) -> Rows:
        return Rows([text for text, _ in pairs], [label for _, label in pairs])

    return Corpus(rows(train), rows(test), name="built-in sample (synthetic, for trying out)")


# -- files ---------------------------------------------------------------------------


def _load_files(config: FilesData) -> Corpus:
    def read(name: str) -> Rows:
        location = _locate(config.path, name)
        rows = _clean(_read_file(_fetch(location), name, config), config, name)
        if not rows.texts:
            raise InputError(f"{name}: no row with a text; is the file empty?")
        return rows

    test = read(config.test) if config.test else None
    return Corpus(read(config.train), test, name=config.title or Path(config.train).name)


def _locate(folder: str | None, name: str) -> str:
    if folder is None or "://" in name or Path(name).is_absolute():
        return str(Path(name).expanduser()) if "://" not in name else name
    if "://" in folder:
        return f"{folder.rstrip('/')}/{name}"
    if not Path(folder).expanduser().is_dir():
        raise InputError(f"data.path={folder}: no such folder")
    return str(Path(folder).expanduser() / name)


def _fetch(location: str) -> Path:
    """Return a local path; a URL is downloaded once and kept in the datasets cache."""
    if "://" in location:
        try:
            return Path(str(DownloadManager().download(location)))
        except (OSError, ConnectionError) as error:
            raise EnvironmentFault(
                f"cannot download {location} ({type(error).__name__}); "
                "offline? give a local folder as data.path=/folder"
            ) from error
    for path in (Path(location), Path(location + ".gz")):
        if path.is_file():
            return path
    beside = Path(location).parent
    found = sorted(p.name for p in beside.iterdir() if p.is_file()) if beside.is_dir() else []
    listing = f"; {beside} has {', '.join(found[:8])}" if found else ""
    raise InputError(f"{location}: no such file{listing}")


def _decode(path: Path, name: str, encoding: str) -> str:
    # A download's file has lost its ending: the name tells how it is packed.
    packed = infer_compression(str(path)) or infer_compression(name)
    try:
        with fsspec.open(str(path), "rb", compression=packed) as file:
            raw = file.read()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{name}: cannot be read ({error})") from error
    tried = ["utf-8", "cp949"] if encoding == "auto" else [encoding]
    for candidate in tried:
        try:
            return raw.decode(candidate).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
        except LookupError:
            raise InputError(f"data.encoding={encoding}: no such encoding; try cp949") from None
    raise InputError(
        f"{name}: is not {' or '.join(tried)}; name its encoding, such as data.encoding=utf-16"
    )


def _read_file(path: Path, name: str, config: FilesData) -> Iterator[tuple[str, Any, Any]]:
    """Yield (place, text, label) of each row, as the file has them."""
    endings = Path(re.sub(r"\.(gz|xz|bz2)$", "", name)).suffix
    by_ending = {
        ".csv": Format.csv,
        ".tsv": Format.tsv,
        ".txt": Format.tsv,
        ".json": Format.json,
        ".jsonl": Format.json,
        ".parquet": Format.parquet,
    }
    kind = by_ending.get(endings) if config.format == Format.auto else config.format
    if kind is None:
        raise InputError(f"{name}: unknown kind of file; say data.format=csv, tsv, json or parquet")
    if kind == Format.parquet:
        yield from _parquet_rows(path, name, config)
        return
    content = _decode(path, name, config.encoding)
    rows = (
        _json_rows(content, name)
        if kind == Format.json
        else _table_rows(content, name, config, kind)
    )
    for place, row in rows:
        _require(config, list(row), place)
        yield place, row[config.text], row[config.label]


def _parquet_rows(path: Path, name: str, config: FilesData) -> Iterator[tuple[str, Any, Any]]:
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{name}: cannot be read as parquet ({error})") from error
    _require(config, list(table.column_names), name)
    columns = (table[config.text].to_pylist(), table[config.label].to_pylist())
    for number, (text, label) in enumerate(zip(*columns, strict=True), 1):
        yield f"{name}, row {number}", text, label


def _require(config: CorpusData, columns: list[str], place: str) -> None:
    for key, column in (("text", config.text), ("label", config.label)):
        if column not in columns:
            raise InputError(
                f"{place}: no column {column!r} (data.{key}={column}); found: {', '.join(columns)}"
            )


def _json_rows(content: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    before = 0
    try:
        if content.lstrip().startswith("["):
            rows = [(f"{name}, item {n}", row) for n, row in enumerate(json.loads(content), 1)]
        else:
            rows = []
            for before, line in enumerate(content.split("\n")):
                if line.strip():
                    rows.append((f"{name}, line {before + 1}", json.loads(line)))
    except json.JSONDecodeError as error:
        raise InputError(f"{name}, line {before + error.lineno}: not JSON ({error.msg})") from None
    for place, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{place}: is not an object with columns")
        yield place, row


def _table_rows(
    content: str, name: str, config: FilesData, kind: Format
) -> Iterator[tuple[str, dict[str, str]]]:
    delimiter = config.delimiter or ("\t" if kind == Format.tsv else ",")
    reader = csv.reader(
        io.StringIO(content, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if config.quoting == Quoting.none else csv.QUOTE_MINIMAL,
        strict=True,
    )
    csv.field_size_limit(2**31 - 1)
    lines = content.splitlines() if "\r" in content else content.split("\n")
    header: list[str] | None = None
    rows: list[tuple[str, dict[str, str]]] = []
    spread: list[tuple[str, list[str]]] = []  # rows of several lines, to be looked at again
    before = 0
    try:
        for cells in reader:
            first, last, before = before, reader.line_num, reader.line_num
            place = f"{name}, line {first + 1}"
            if not cells:
                continue
            if header is None:
                header = cells
                if len(set(header)) < len(header):
                    raise InputError(f"{place}: a column stands there twice: {', '.join(header)}")
                _require(config, header, place)
                continue
            if last - first > 1:
                spread.append((place, lines[first:last]))
            if len(cells) != len(header):
                _reject_swallowed(spread, rows, delimiter, header, config.label)
                raise InputError(
                    f"{place}: {len(cells)} columns instead of {len(header)}; quote the text, "
                    "or set data.delimiter or data.quoting"
                )
            rows.append((place, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise InputError(
            f"{name}, line {before + 1}: {error}; if quotes are plain characters in this "
            "file, say data.quoting=none"
        ) from None
    _reject_swallowed(spread, rows, delimiter, header or [], config.label)
    yield from rows


def _reject_swallowed(
    spread: list[tuple[str, list[str]]],
    rows: list[tuple[str, dict[str, str]]],
    delimiter: str,
    header: list[str],
    label: str,
) -> None:
    """A quoted text may span lines, but not if each of them is a row with a label itself."""
    doubtful = {place for place, _ in spread}
    labels = {row[label] for place, row in rows if place not in doubtful}
    numbers = all(known.strip().isdecimal() for known in labels)
    for place, lines in spread:
        cells = [line.rstrip("\r").split(delimiter) for line in lines]
        if any(len(row) != len(header) for row in cells):
            continue
        found = [row[header.index(label)] for row in cells]
        if all(value in labels or (numbers and value.strip().isdecimal()) for value in found):
            raise InputError(
                f"{place}: a stray quote swallows the next {len(lines) - 1} row(s); if quotes "
                "are plain characters in this file, say data.quoting=none"
            )


def _clean(rows: Iterable[tuple[str, Any, Any]], config: CorpusData, name: str) -> Rows:
    """Normalise texts and labels, and count what is dropped or changed."""
    clean = Rows()
    for place, text, label in rows:
        if text is None or not str(text).strip():
            clean.empty += 1
            continue
        if label is None or not str(label).strip():
            raise InputError(f"{place}: the label is missing")
        text, label = str(text), _normal(str(label).strip(), config)
        clean.texts.append(_normal(text, config))
        clean.normalized += clean.texts[-1] != text
        clean.labels.append(label)
    return clean


def _normal(text: str, config: CorpusData) -> str:
    return unicodedata.normalize("NFC", text) if config.normalize == Normalization.NFC else text


# -- the hub -------------------------------------------------------------------------


def _load_hub(config: HubData) -> Corpus:
    try:
        builder = load_dataset_builder(config.name, config.config, revision=config.revision)
        # pandas takes the reviews NA and null for missing values.
        options = {"keep_default_na": False} if isinstance(builder, Csv) else {}
        loaded = load_dataset(config.name, config.config, revision=config.revision, **options)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        known = (ValueError, FileNotFoundError, DatasetGenerationError)
        kind = InputError if isinstance(error, known) else EnvironmentFault
        raise kind(f"data.name={config.name}: cannot be loaded ({first})") from error

    def read(split: str) -> Rows:
        if split not in loaded:
            raise InputError(f"{config.name}: no split {split!r}; found: {', '.join(loaded)}")
        table = loaded[split]
        _require(config, list(table.column_names), f"{config.name} {split}")
        feature = table.features[config.label]
        named = getattr(feature, "names", None)  # a ClassLabel

        def label_of(value: Any) -> Any:
            return named[value] if named and isinstance(value, int) and value >= 0 else value

        rows = (
            (f"{config.name} {split}, row {n + 1}", row[config.text], label_of(row[config.label]))
            for n, row in enumerate(table)
        )
        return _clean(rows, config, split)

    test = read(config.test) if config.test else None
    return Corpus(read(config.train), test, name=config.name)
