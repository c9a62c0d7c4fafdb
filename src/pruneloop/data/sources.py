"""Where rows come from: the built-in sample, files, or the hub.

Every source ends as a `Corpus` of texts and label names. Files are read strictly: what
cannot be read for certain is an error with its line, or is left out and listed on request.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from datasets import load_dataset, load_dataset_builder
from datasets.exceptions import DatasetGenerationError, DatasetsError
from datasets.packaged_modules.csv.csv import Csv
from huggingface_hub import constants

from pruneloop.config import DataConfig, FilesData, HubData, SampleData
from pruneloop.data import sample
from pruneloop.data.cells import BadCell, Row, spelled
from pruneloop.data.files import names_of, rows_of
from pruneloop.data.hub_folder import folder_rows, named
from pruneloop.data.rows import Corpus, Rows, collect
from pruneloop.data.unpacking import from_home
from pruneloop.errors import EnvironmentFault, InputError, reason
from pruneloop.records import Text
from pruneloop.redaction import without_secrets

__all__ = ["Corpus", "Rows", "load"]

log = logging.getLogger(__name__)


def load(config: DataConfig) -> Corpus:
    """Read the rows that the configuration names.

    Raises:
        InputError: something about the rows is wrong; the message says where.
        EnvironmentFault: a download failed, or an extra is not installed.
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


def _load_files(config: FilesData) -> Corpus:
    def read(files: str | list[str]) -> Rows:
        return collect(rows_of(files, config), config, _called(files))

    test = read(config.test) if config.test is not None else None
    return Corpus(read(config.train), test, name=config.title or _called(config.train))


def _called(files: str | list[str]) -> str:
    """Return what one file or several are called in messages."""
    names = [Path(without_secrets(name)).name for name in names_of(files)]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def read_texts(config: FilesData) -> list[Text]:
    """Return the texts, or pairs, of the file `data.train`, row by row; of a row without one, "".

    They are left as they stand there, and need no label beside them.

    Raises:
        InputError: the file cannot be read for certain; the message says where.
        EnvironmentFault: a download failed.
    """
    # Where the reader wants a label, the text serves.
    return [
        _text(row, config) for row in rows_of(config.train, replace(config, label=config.texts[0]))
    ]


def _text(row: Row, config: FilesData) -> Text:
    try:
        if row.fault:
            raise BadCell(row.fault)
        found = [spelled(row.cells[column]) or "" for column in config.texts]
        return found[0] if len(found) == 1 else (found[0], found[1])
    except BadCell as error:
        raise InputError(f"{row.place}: {error}") from None


# -- the hub -------------------------------------------------------------------------


def _load_hub(config: HubData) -> Corpus:
    folder = from_home(config.name)
    rows = _Local(folder, config) if folder.is_dir() else _Remote(config)

    def read(split: str) -> Rows:
        return collect(rows.of(split), config, f"{config.name} {split}")

    test = read(config.test) if config.test else None
    return Corpus(read(config.train), test, name=config.name)


class _Local:
    """A folder here that is laid out like a data set of the hub."""

    def __init__(self, folder: Path, config: HubData) -> None:
        self._folder, self._config = folder, config

    def of(self, split: str) -> Iterator[Row]:
        return folder_rows(self._folder, split, self._config)


class _Remote:
    """A data set of the hub, of the commit that it names."""

    def __init__(self, config: HubData) -> None:
        self._config = config
        name, revision = config.name, config.revision
        try:
            builder = load_dataset_builder(name, config.config, revision=revision)
            # pandas takes the reviews NA and null for missing values.
            options = {"keep_default_na": False} if isinstance(builder, Csv) else {}
            self._splits = load_dataset(name, config.config, revision=revision, **options)
        except (OSError, ValueError, RuntimeError, DatasetsError) as error:
            known = (ValueError, FileNotFoundError, DatasetGenerationError)
            kind = InputError if isinstance(error, known) else EnvironmentFault
            raise kind(f"data.name={name}: cannot be loaded ({reason(error)})") from error
        if constants.HF_HUB_OFFLINE:
            log.info(f"data.name={name}: offline, so its copy in the cache is read{self._since()}")

    def _since(self) -> str:
        """Say when the copy was made."""
        files = [file["filename"] for rows in self._splits.values() for file in rows.cache_files]
        if not files:
            return ""
        made = min(Path(file).stat().st_mtime for file in files)
        return f", of {time.strftime('%Y-%m-%d %H:%M', time.localtime(made))}"

    def of(self, split: str) -> Iterator[Row]:
        config, name = self._config, f"{self._config.name} {split}"
        if split not in self._splits:
            found = ", ".join(self._splits)
            raise InputError(f"{config.name}: no split {split!r}; found: {found}")
        table = self._splits[split]
        columns = [column for _, column in config.columns_read]
        if any("." in column for column in columns):
            table = table.flatten()  # structs into columns with dotted names
        for key, column in config.columns_read:
            if column not in table.column_names:
                raise InputError(
                    f"{name}: no column {column!r} (data.{key}={column}); "
                    f"found: {', '.join(table.column_names)}"
                )
        classes = list(getattr(table.features[config.label], "names", None) or [])
        cells_of = (table[column][:] for column in columns)
        for number, values in enumerate(zip(*cells_of, strict=True), 1):
            cells = dict(zip(columns, values, strict=True))
            yield named(Row(f"{name}, row {number}", number, cells), config.label, classes)
