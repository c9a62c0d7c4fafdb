"""Kinds of files: parquet, spreadsheets, archives, shards, folders; paths, bytes and limits."""

import bz2
import gzip
import io
import lzma
import os
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from support import HEADER, files_config, read

from pruneloop.data import files
from pruneloop.data.rows import Rows
from pruneloop.data.sources import load
from pruneloop.errors import EnvironmentFault, InputError

TABLE = HEADER + "좋다,1\n싫다,0\n"
SOUND = HEADER + "".join(f"좋다 {number},{number % 2}\n" for number in range(40))


def pairs(rows: Rows) -> list[tuple[str, str]]:
    return list(zip(rows.texts, rows.labels, strict=True))


BOTH = [("좋다", "1"), ("싫다", "0")]


# -- parquet -------------------------------------------------------------------------


def parquet(**columns: Any) -> bytes:
    target = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), target)
    return target.getvalue()


def test_numbers_through_an_empty_cell_are_the_same_labels(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(parquet(text=["가", "나"], label=[1, 0]))
    content = parquet(text=["가", "나", "다"], label=[1.0, None, 0.0])
    rows = read(tmp_path, "a.parquet", content, bad_rows="skip", max_bad=0.5)
    assert pairs(rows) == [("가", "1"), ("다", "0")]
    assert [(r.line, r.reason) for r in rows.rejected] == [(2, "the label is missing")]
    assert load(files_config(tmp_path, "b.parquet")).train.labels == ["1", "0"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([True, False], ["true", "false"]),
        ([b"x", "긍정".encode()], ["x", "긍정"]),
        ([Decimal("1.00"), Decimal("0.50")], ["1", "0.5"]),
        (pyarrow.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
    ],
)
def test_typed_labels_have_no_python_spelling(tmp_path: Path, labels: Any, said: list[str]) -> None:
    assert read(tmp_path, "a.parquet", parquet(text=["가", "나"], label=labels)).labels == said


@pytest.mark.parametrize("label", [[1], {"a": 1}, date(2026, 1, 2), None, float("nan")])
def test_other_labels_are_an_error_with_the_row(tmp_path: Path, label: Any) -> None:
    with pytest.raises(InputError, match=r"a\.parquet, row 1: the label is "):
        read(tmp_path, "a.parquet", parquet(text=["가"], label=[label]))


def test_a_text_that_is_no_utf8_is_a_bad_row(tmp_path: Path) -> None:
    texts = pyarrow.array([b"a", b"\xff"]).view(pyarrow.string())
    content = parquet(text=texts, label=[1, 0])
    rows = read(tmp_path, "a.parquet", content, bad_rows="skip", max_bad=0.5)
    assert rows.texts == ["a"] and rows.rejected[0].raw == r'{"text": "\\xff", "label": 0}'


# -- spreadsheets --------------------------------------------------------------------


def sheet(*rows: list[Any]) -> bytes:
    book = pytest.importorskip("openpyxl").Workbook()
    for row in rows:
        book.active.append(row)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def test_a_spreadsheet_is_read(tmp_path: Path) -> None:
    content = sheet(["text", "label"], ["좋다", 1.0], [None, None], [10, 0], [None, 1])
    rows = read(tmp_path, "A.XLSX", content)
    assert (pairs(rows), rows.empty) == ([("좋다", "1"), ("10", "0")], 1)


def test_a_spreadsheet_without_a_header(tmp_path: Path) -> None:
    content = sheet([1, "좋다"], [0, "싫다"])
    assert pairs(read(tmp_path, "a.xlsx", content, columns=["label", "text"])) == BOTH
    with pytest.raises(InputError, match=r"row 1: no column 'text'.*data\.columns"):
        read(tmp_path, "a.xlsx", content)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([date(2026, 1, 2), 1], "the text is of the type datetime"),
        (["좋다", "#N/A"], "the label is the error #N/A"),
        (["좋다", None], "the label is missing"),
        (["text", "label"], "is a header line"),
    ],
)
def test_a_bad_row_of_a_spreadsheet_is_named(tmp_path: Path, row: list[Any], why: str) -> None:
    with pytest.raises(InputError, match=rf"a\.xlsx, row 3: {why}"):
        read(tmp_path, "a.xlsx", sheet(["text", "label"], ["좋다", 1], row))


def test_without_its_reader_a_spreadsheet_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(EnvironmentFault, match=r'pip install "pruneloop\[excel\]"'):
        read(tmp_path, "a.xlsx", b"PK\x03\x04")


def test_a_broken_spreadsheet_is_an_input_error(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with pytest.raises(InputError, match=r"a\.xlsx: cannot be read as xlsx"):
        read(tmp_path, "a.xlsx", b"PK\x03\x04")


# -- archives ------------------------------------------------------------------------


def zipped(*members: tuple[str, str]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def tarred(name: str, content: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content.encode())
        archive.addfile(member, io.BytesIO(content.encode()))
    return target.getvalue()


def named(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("A.CSV", TABLE.encode()),
        ("a.csv.GZ", gzip.compress(TABLE.encode())),
        ("a.csv.xz", lzma.compress(TABLE.encode())),
        ("a.csv.bz2", bz2.compress(TABLE.encode())),
        ("a.zip", zipped(("d/a.csv", TABLE), ("__MACOSX/d/._a.csv", "x"), ("d/.b.csv", "x"))),
        ("A.ZIP", zipped(("README.md", "x"), ("a.tsv", TABLE.replace(",", "\t")))),
        ("a.tar.gz", tarred("d/a.csv", TABLE)),
        ("a.tar", gzip.decompress(tarred("d/a.csv", TABLE))),
        ("a.tar", tarred("d/a.csv", TABLE)),
        ("a.tar.bz2", bz2.compress(gzip.decompress(tarred("a.csv", TABLE)))),
    ],
    ids=named,  # packed bytes hold the time, and each worker has its own
)
def test_a_packed_file_is_read(tmp_path: Path, name: str, content: bytes) -> None:
    assert pairs(read(tmp_path, name, content)) == BOTH


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.zip", zipped(("a.csv", TABLE), ("b.csv", TABLE)), r"has 2: a\.csv, b\.csv"),
        ("a.zip", zipped(("__MACOSX/a.csv", "x")), "must hold one data file, and has 0"),
        ("a.zip", zipped(("a.csv", TABLE))[:-9], "cannot be read"),
        ("a.zip", b"PK\x03\x04", "cannot be read"),
        ("a.tar.gz", tarred("a.csv", TABLE)[:40], "cannot be read"),
        ("a.csv.gz", gzip.compress(SOUND.encode())[:-9], "cannot be read"),
        ("a.csv", gzip.compress(TABLE.encode()), "is packed"),
    ],
    ids=named,
)
def test_a_bad_archive_is_an_input_error(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, name, content)


def test_an_encrypted_archive_is_said_to_be_one(tmp_path: Path) -> None:
    content = bytearray(zipped(("a.csv", TABLE)))
    for start in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[start] |= 1
    with pytest.raises(InputError, match=r"a\.zip: is encrypted"):
        read(tmp_path, "a.zip", bytes(content))


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv", str.encode),
        ("a.csv.gz", lambda text: gzip.compress(text.encode())),
        ("a.zip", lambda text: zipped(("a.csv", text))),
        ("a.tar.gz", lambda text: tarred("a.csv", text)),
        ("a.tar.gz", lambda text: tarred_name(text)),
        ("a.parquet", lambda text: parquet(text=pyarrow.array([text]).dictionary_encode())),
    ],
)
def test_what_unpacks_to_too_much_is_refused_early(
    tmp_path: Path, name: str, pack: Callable[[str], bytes]
) -> None:
    content = pack(HEADER + "a" * 20_000_000) if name != "a.parquet" else repeated()
    tracemalloc.start()
    with pytest.raises(InputError, match=r"holds more than data\.max_bytes=1000000"):
        read(tmp_path, name, content, max_bytes=1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 15_000_000
    tracemalloc.stop()


def tarred_name(name: str) -> bytes:
    """Return an archive with a member of a long name, as tar has them: before the member."""
    header = tarfile.TarInfo("././@LongLink")
    header.size, header.type = len(name), tarfile.GNUTYPE_LONGNAME
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + name.encode() + bytes(1024))


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_column_is_not_decoded_before_its_size_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dictionary: bool
) -> None:
    """A text that is there a thousand times is one in the file."""
    monkeypatch.setattr(files, "_decoded", lambda _: pytest.fail("decoded"))
    target = io.BytesIO()
    table = pyarrow.table({"text": ["a" * 10_000] * 200, "label": [1] * 200})
    pyarrow.parquet.write_table(table, target, use_dictionary=dictionary, compression="zstd")
    assert len(target.getvalue()) < 10_000
    with pytest.raises(InputError, match=r"holds more than data\.max_bytes=1000000"):
        read(tmp_path, "a.parquet", target.getvalue(), max_bytes=1_000_000)


def repeated() -> bytes:
    texts = pyarrow.array(["a" * 1000] * 5000).dictionary_encode()
    return parquet(text=texts, label=[1] * 5000)


# -- bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "byte"), [("utf-8", b"\xff"), ("cp949", b"\xff")])
def test_a_byte_that_is_none_of_the_encoding_is_named(
    tmp_path: Path, encoding: str, byte: bytes
) -> None:
    content = SOUND.encode(encoding) + "좋".encode(encoding) + byte + b",1\r\n"
    at = len("좋".encode(encoding)) + 1
    said = rf"a\.csv, line 42: byte {at} \(0xff\) is none of {encoding}"
    with pytest.raises(InputError, match=said):
        read(tmp_path, "a.csv", content)
    rows = read(tmp_path, "a.csv", content, bad_rows="skip")
    assert [r.line for r in rows.rejected] == [42] and len(rows) == 40
    assert "0xff" in rows.rejected[0].reason


def test_a_bad_byte_does_not_make_utf8_another_encoding(tmp_path: Path) -> None:
    """Cut behind its second byte, 각 is a pair of cp949, as some other syllables of UTF-8 are."""
    content = (HEADER + "ａｂ,1\n" * 30).encode() + "각".encode()[:2] + b"A,1\n"
    content.decode("cp949")
    with pytest.raises(InputError, match=r"line 32: byte 1 \(0xea\) is none of utf-8"):
        read(tmp_path, "a.csv", content)


def test_a_byte_of_utf16_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 42: byte .* of the file .* none of utf-16"):
        read(tmp_path, "a.csv", SOUND.encode("utf-16") + b"\0", encoding="utf-16")


# -- names and contents --------------------------------------------------------------

LITERAL = ["a[1].csv", "a*.csv", "a?.csv", "zip:__b::a.csv", "%41.csv", "~a.csv", "가 나.csv"]


@pytest.mark.parametrize("name", LITERAL)
def test_no_sign_of_a_path_is_a_pattern(tmp_path: Path, name: str) -> None:
    folder = tmp_path / f"folder {name}"
    folder.mkdir()
    (folder / "a1.csv").write_text(HEADER + "다른 것,2\n")
    assert pairs(read(folder, name, TABLE)) == BOTH


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_a_replaced_file_is_read_anew(tmp_path: Path, name: str) -> None:
    contents = {
        "a.csv": [HEADER + "가,1\n", HEADER + "나,1\n"],
        "a.jsonl": ['{"text": "가", "label": 1}', '{"text": "나", "label": 1}'],
        "a.parquet": [parquet(text=["가"], label=[1]), parquet(text=["나"], label=[1])],
    }[name]
    found = []
    for content in contents:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        os.utime(tmp_path / name, (1, 1))
        found += load(files_config(tmp_path, name)).train.texts
    assert found == ["가", "나"]


# -- several files, folders ----------------------------------------------------------


def test_shards_are_read_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(parquet(label=[1], text=["둘째"]))
    (tmp_path / "a.parquet").write_bytes(parquet(text=["첫째"], label=[0]))
    corpus = load(files_config(tmp_path, ["b.parquet", "a.parquet"]))
    assert pairs(corpus.train) == [("둘째", "1"), ("첫째", "0")]
    assert corpus.name == "b.parquet and 1 more"


def test_the_columns_of_shards_must_agree(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "b.csv").write_text("text,label,id\n좋다,1,7\n")
    with pytest.raises(InputError, match=r"b\.csv: its columns are not those of a\.csv: .* id$"):
        load(files_config(tmp_path, ["a.csv", "b.csv"]))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for label in ("pos", "neg one"):
        (tmp_path / "texts" / label).mkdir(parents=True)
        for number in range(2):
            path = tmp_path / "texts" / label / f"{number}.txt"
            path.write_text(f"{label} {number}\n둘째 줄\n", encoding="utf-8")
    (tmp_path / "texts/.DS_Store").touch()
    return tmp_path


def test_a_folder_of_texts_for_each_label(folders: Path) -> None:
    rows = load(files_config(folders, "texts", layout="folders")).train
    assert rows.labels == ["neg one", "neg one", "pos", "pos"]
    assert rows.texts[0] == "neg one 0\n둘째 줄"


def test_another_file_among_the_texts_is_a_bad_row(folders: Path) -> None:
    (folders / "texts/pos/a.pdf").touch()
    with pytest.raises(InputError, match=r"texts/pos/a\.pdf: is no \.txt file"):
        load(files_config(folders, "texts", layout="folders"))


def test_a_folder_in_the_place_of_a_file_says_what_to_do(folders: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder;.*data\.layout=folders"):
        load(files_config(folders, "texts"))
