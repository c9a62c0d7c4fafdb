"""Rows from files, a URL or the hub: what is read, what is counted, what is refused."""

import contextlib
import functools
import gzip
import json
import os
import threading
import unicodedata
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import huggingface_hub.constants
import pytest
from support import HEADER, composed, data_config, files_config, read

from pruneloop.data.sources import load
from pruneloop.errors import ConfigError, EnvironmentFault, InputError

PAIRS = [("좋아요, 아주", "1"), ('그는 "명작"이라 했다', "0")]
TABLE = 'text,label\n"좋아요, 아주",1\n"그는 ""명작""이라 했다",0\n'
OBJECTS = [{"text": text, "label": label} for text, label in PAIRS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TABLE),
        ("a.CSV.gz", gzip.compress(TABLE.encode(), mtime=0)),
        ("a.tsv", 'text\tlabel\n좋아요, 아주\t1\n"그는 ""명작""이라 했다"\t0\n'),
        ("a.txt", 'label\ttext\r\n1\t좋아요, 아주\r\n0\t"그는 ""명작""이라 했다"\r\n'),
        ("a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in OBJECTS)),
        ("a.json", json.dumps(OBJECTS, indent=1)),
        ("a.json.gz", gzip.compress(json.dumps(OBJECTS).encode(), mtime=0)),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    rows = read(tmp_path, name.replace("CSV", "csv"), content)
    assert list(zip(rows.texts, rows.labels, strict=True)) == PAIRS


def test_parquet_is_read(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"text": ["NA", None, "나빠요"], "label": [1, 0, 0]})
    table.to_parquet(tmp_path / "a.parquet")
    rows = load(files_config(tmp_path, "a.parquet")).train
    assert (rows.texts, rows.labels, rows.empty) == (["NA", "나빠요"], ["1", "0"], 1)


def test_a_parquet_file_that_is_none_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet"):
        read(tmp_path, "a.parquet", HEADER)


def test_a_damaged_gz_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv\.gz"):
        read(tmp_path, "a.csv.gz", HEADER + "좋다,1\n")


def test_the_name_of_a_gz_file_may_leave_its_ending_out(tmp_path: Path) -> None:
    (tmp_path / "ratings.txt.gz").write_bytes(
        gzip.compress("text\tlabel\n좋다\t1\n".encode(), mtime=0)
    )
    assert load(files_config(tmp_path, "ratings.txt")).train.texts == ["좋다"]


def test_without_a_folder_a_name_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "좋다,1\n", encoding="utf-8")
    assert load(files_config(None, str(tmp_path / "a.csv"))).train.texts == ["좋다"]


def test_train_and_test_files_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "좋다,1\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text(HEADER + "싫다,0\n", encoding="utf-8")
    corpus = load(files_config(tmp_path, "a.csv", test="b.csv"))
    assert corpus.test is not None
    assert (corpus.train.texts, corpus.test.texts) == (["좋다"], ["싫다"])
    assert load(files_config(tmp_path, "a.csv")).test is None


@pytest.mark.parametrize("word", ["NA", "null", "nan", "None", "N/A"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_words_that_look_like_nothing_stay_text(tmp_path: Path, word: str, kind: str) -> None:
    content = HEADER + f"{word},1\n" if kind == "csv" else json.dumps({"text": word, "label": 1})
    rows = read(tmp_path, f"a.{kind}", content)
    assert (rows.texts, rows.empty) == ([word], 0)


# -- encodings -----------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_the_usual_korean_encodings_are_found_out(tmp_path: Path, encoding: str) -> None:
    rows = read(tmp_path, "a.csv", (HEADER + "재미있어요,1\n").encode(encoding))
    assert rows.texts == ["재미있어요"]


def test_a_named_encoding_is_used(tmp_path: Path) -> None:
    content = (HEADER + "재미있어요,1\n").encode("utf-16")
    assert read(tmp_path, "a.csv", content, encoding="utf-16").texts == ["재미있어요"]


def test_a_byte_order_mark_is_none_of_the_first_column(tmp_path: Path) -> None:
    content = (HEADER + "재미있어요,1\n").encode("utf-8-sig")
    assert read(tmp_path, "a.csv", content, encoding="utf-8").texts == ["재미있어요"]


def test_neither_utf8_nor_cp949_asks_for_the_encoding(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv: is not utf-8 or cp949.*data\.encoding"):
        read(tmp_path, "a.csv", (HEADER + "재미있어요,1\n").encode("utf-16"))


def test_an_unknown_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.encoding=utf-9: no such encoding"):
        read(tmp_path, "a.csv", HEADER, encoding="utf-9")


def test_decomposed_hangul_is_joined_and_counted(tmp_path: Path) -> None:
    content = HEADER + unicodedata.normalize("NFD", "재미있다,1\n") + "좋다,1\n"
    rows = read(tmp_path, "a.csv", content)
    assert (rows.texts, rows.normalized) == (["재미있다", "좋다"], 1)


def test_normalize_none_leaves_texts_alone(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "재미있다")
    rows = read(tmp_path, "a.csv", HEADER + f"{apart},1\n", normalize="none")
    assert (rows.texts, rows.normalized) == ([apart], 0)


# -- rows that lack something --------------------------------------------------------


def test_empty_texts_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", HEADER + "좋다,1\n,0\n   ,0\n싫다,0\n")
    assert (rows.texts, rows.empty) == (["좋다", "싫다"], 2)


@pytest.mark.parametrize("label", ["", "  "])
def test_a_missing_label_is_named_with_its_line(tmp_path: Path, label: str) -> None:
    with pytest.raises(InputError, match=r"a\.csv, line 3: the label is missing"):
        read(tmp_path, "a.csv", HEADER + f"좋다,1\n싫다,{label}\n")


def test_a_null_label_in_json_is_missing_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1: the label is missing"):
        read(tmp_path, "a.jsonl", '{"text": "좋다", "label": null}')


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "id,document,label\n1,좋다,1\n"), ("a.json", '[{"document": "좋다", "label": 1}]')],
)
def test_a_missing_column_lists_those_found(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(InputError, match=r"no column 'text' \(data\.text=text\).*document, label"):
        read(tmp_path, name, content)


def test_a_column_that_stands_there_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv.*text"):
        read(tmp_path, "a.csv", "text,text,label\n좋다,싫다,1\n")


def test_other_columns_can_be_named(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", "id,review,stars\n7,좋다,5\n", text="review", label="stars")
    assert (rows.texts, rows.labels) == (["좋다"], ["5"])


@pytest.mark.parametrize(("row", "count"), [("좋다", 1), ("좋다,정말,1", 3)])
def test_a_row_of_another_width_is_named_with_its_line(
    tmp_path: Path, row: str, count: int
) -> None:
    with pytest.raises(InputError, match=rf"a\.csv, line 4: {count} columns instead of 2"):
        read(tmp_path, "a.csv", HEADER + '"두\n줄",1\n' + row + "\n싫다,0\n")


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    assert len(read(tmp_path, "a.csv", HEADER + "좋다,1\n\n싫다,0\n\n")) == 2


@pytest.mark.parametrize("content", ["", "\n", HEADER, HEADER + " ,1\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"a\.csv: no row with a text"):
        read(tmp_path, "a.csv", content)


# -- quotes --------------------------------------------------------------------------


def test_a_quoted_text_may_span_two_lines(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", HEADER + '"처음엔 좋았다\n나중엔 아니다",0\n좋다,1\n')
    assert rows.texts == ["처음엔 좋았다\n나중엔 아니다", "좋다"]


def test_a_quoted_text_may_span_lines_with_a_comma_in_each(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", HEADER + '"처음엔 좋고, 재미있다\n나중엔 아니다",0\n좋다,1\n')
    assert rows.texts == ["처음엔 좋고, 재미있다\n나중엔 아니다", "좋다"]


STRAY = 'text\tlabel\n좋다\t1\n"최고의 영화\t1\n"싫다\t0\n그저 그렇다\t0\n'


@pytest.mark.parametrize("rows_between", [0, 1, 3])
def test_a_stray_quote_does_not_swallow_rows(tmp_path: Path, rows_between: int) -> None:
    content = 'label\ttext\n1\t좋다\n1\t"최고의 영화\n' + "0\t싫다\n" * rows_between + '0\t별로"\n'
    with pytest.raises(InputError, match=r"a\.tsv, line 3: .*data\.quoting=none"):
        read(tmp_path, "a.tsv", content)


def test_a_quote_that_ends_inside_a_cell_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.tsv, line 3: .*data\.quoting=none"):
        read(tmp_path, "a.tsv", STRAY)


def test_text_behind_a_closing_quote_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv, line 3: .*data\.quoting=none"):
        read(tmp_path, "a.csv", HEADER + '좋다,1\n"명작"이다,1\n')


def test_an_unclosed_quote_at_the_end_is_an_error(tmp_path: Path) -> None:
    content = 'text\tlabel\n좋다\t1\n"최고의 영화\t1\n싫다\t0\n'
    with pytest.raises(InputError, match=r"a\.tsv, line 3: .*data\.quoting=none"):
        read(tmp_path, "a.tsv", content)


def test_quoting_none_takes_quotes_as_characters(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.tsv", STRAY, quoting="none")
    assert rows.texts == ["좋다", '"최고의 영화', '"싫다', "그저 그렇다"]
    assert rows.labels == ["1", "1", "0", "0"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_can_be_named(tmp_path: Path, delimiter: str) -> None:
    content = f"text{delimiter}label\n좋다, 정말{delimiter}1\n"
    assert read(tmp_path, "a.csv", content, delimiter=delimiter).texts == ["좋다, 정말"]


# -- json ----------------------------------------------------------------------------


def test_json_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    lines = json.dumps(OBJECTS[0]) + "\n" + '{"text": "좋다", \n'
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: not JSON"):
        read(tmp_path, "a.jsonl", lines)


def test_a_json_line_that_is_no_object_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: is not an object"):
        read(tmp_path, "a.jsonl", json.dumps(OBJECTS[0]) + '\n"좋다"\n')


@pytest.mark.parametrize("character", ["\x85", "\u2028"])
def test_a_json_line_ends_only_at_a_newline(tmp_path: Path, character: str) -> None:
    """JSON allows these line separators inside a string, and exporters write them."""
    row = {"text": f"좋다{character}정말", "label": 1}
    content = json.dumps(row, ensure_ascii=False)
    assert read(tmp_path, "a.jsonl", content).texts == [row["text"]]


# -- labels and names ----------------------------------------------------------------


@pytest.mark.parametrize(("label", "name"), [(1, "1"), ("정치", "정치")])
def test_labels_may_be_numbers_or_words(tmp_path: Path, label: object, name: str) -> None:
    assert read(tmp_path, "a.json", json.dumps([{"text": "a", "label": label}])).labels == [name]


def test_spaces_around_a_label_do_not_count(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", HEADER + "좋다, 1\n정말 좋다,1 \n").labels == ["1", "1"]


def test_the_key_that_conf_shows_for_label_names_works() -> None:
    given = ("data.train=a.csv", "data.label_names=[negative,positive]")
    assert composed("data=files", *given).data.label_names == ["negative", "positive"]


@pytest.mark.parametrize("names", ["[a,a]", "[a,' a']", "[a,'']", "[true,false]", "[[a],b]"])
def test_names_of_labels_that_cannot_be_told_apart_are_refused(names: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.label_names"):
        composed("data=files", "data.train=a.csv", f"data.label_names={names}")


@pytest.mark.parametrize("key", ["text", "label", "label_names", "columns"])
def test_a_yes_of_yaml_is_no_text(key: str) -> None:
    """YAML takes yes, no, on and off for truth values, which Python then spells its own way."""
    value = [True, "b"] if key in ("label_names", "columns") else True
    with pytest.raises(ConfigError, match=rf"data\.{key}=true: must be a text"):
        files_config(None, "a.csv", **{key: value})


@pytest.mark.parametrize("train", ["[]", "[a.csv,a.csv]", "[1,2]", "5"])
def test_training_files_are_names(train: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.train="):
        composed("data=files", f"data.train={train}")


def test_the_key_that_the_message_shows_for_a_tab_works() -> None:
    with pytest.raises(ConfigError) as caught:
        composed("data=files", "data.train=a.csv", "data.delimiter=ab")
    shown = str(caught.value).rpartition("write a tab as ")[2]
    assert composed("data=files", "data.train=a.csv", shown).data.delimiter == "\t"


def test_decomposed_hangul_in_labels_is_joined_too(tmp_path: Path) -> None:
    """A file that macOS decomposed is decomposed throughout."""
    content = HEADER + "좋다,긍정\n" + unicodedata.normalize("NFD", "싫다,긍정\n")
    assert set(read(tmp_path, "a.csv", content).labels) == {"긍정"}


def test_an_unknown_ending_asks_for_the_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.dat: unknown kind of file; say data\.format="):
        read(tmp_path, "a.dat", HEADER)


def test_a_named_format_beats_the_ending(tmp_path: Path) -> None:
    assert read(tmp_path, "a.dat", HEADER + "좋다,1\n", format="csv").texts == ["좋다"]


def test_a_missing_file_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "ratings_train.csv").touch()
    with pytest.raises(InputError, match=r"train\.csv: no such file; .* has ratings_train\.csv"):
        load(files_config(tmp_path, "train.csv"))


def test_a_missing_folder_is_named_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.path=.*nowhere: no such folder"):
        load(files_config(tmp_path / "nowhere", "a.csv"))


# -- urls ----------------------------------------------------------------------------


@contextlib.contextmanager
def served(folder: Path, announced: int = 0) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def send_header(self, keyword: str, value: str) -> None:
            longer = keyword == "Content-Length" and announced
            super().send_header(keyword, str(announced) if longer else value)

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("socket_enabled", "online")
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_url_is_downloaded(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    content = (HEADER + "좋다,1\n").encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with served(folder) as address:
        corpus = load(files_config(address, name))
    assert corpus.train.texts == ["좋다"]
    assert corpus.name == name


@pytest.mark.usefixtures("socket_enabled", "online")
def test_a_url_whose_file_was_replaced_is_read_anew(tmp_path: Path) -> None:
    found = []
    with served(tmp_path) as address:
        for text in ("가", "나"):
            (tmp_path / "가 나.csv").write_text(HEADER + f"{text},1\n", encoding="utf-8")
            os.utime(tmp_path / "가 나.csv", (1, 1))
            found += load(files_config(address, "가 나.csv")).train.texts
    assert found == ["가", "나"]


@pytest.mark.usefixtures("socket_enabled", "online")
def test_a_download_that_breaks_off_is_an_environment_fault(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "가,1\n" * 100, encoding="utf-8")
    with (
        served(tmp_path, announced=10_000) as address,
        pytest.raises(EnvironmentFault, match=r"cannot download .*a\.csv \(it broke off"),
    ):
        load(files_config(address, "a.csv"))


@pytest.mark.parametrize("url", ["s3://bucket", "file:///tmp", "hf://datasets/a"])
def test_a_url_of_another_kind_asks_for_a_local_file(url: str) -> None:
    with pytest.raises(InputError, match="only http, https and ftp are known"):
        load(files_config(url, "a.csv"))


@pytest.mark.usefixtures("socket_enabled", "online")
def test_a_url_that_is_not_there_is_an_environment_fault(tmp_path: Path) -> None:
    with (
        served(tmp_path) as address,
        pytest.raises(EnvironmentFault, match=r"cannot download .*/a\.csv.*data\.path"),
    ):
        load(files_config(address, "a.csv"))


def test_a_url_without_a_network_is_an_environment_fault() -> None:
    with pytest.raises(EnvironmentFault, match="offline"):
        load(files_config("http://127.0.0.1:9", "a.csv"))


# -- the hub -------------------------------------------------------------------------


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "reviews"
    folder.mkdir()
    (folder / "train.csv").write_text(HEADER + "좋다,1\n싫다,0\n", encoding="utf-8")
    (folder / "test.csv").write_text(HEADER + "별로다,0\n", encoding="utf-8")
    return folder


def test_a_folder_laid_out_like_a_hub_data_set(hub_folder: Path) -> None:
    corpus = load(
        data_config(
            "hub",
            name=str(hub_folder),
        )
    )
    assert corpus.test is not None
    assert (corpus.train.texts, corpus.train.labels) == (["좋다", "싫다"], ["1", "0"])
    assert (corpus.test.texts, corpus.test.labels) == (["별로다"], ["0"])


def test_a_hub_data_set_may_have_no_test_split(hub_folder: Path) -> None:
    assert load(data_config("hub", name=str(hub_folder), test=None)).test is None


def test_a_missing_split_lists_those_found(hub_folder: Path) -> None:
    with pytest.raises(InputError, match="no split 'validation'; found: train, test"):
        load(data_config("hub", name=str(hub_folder), test="validation"))


def test_a_missing_column_of_a_hub_data_set_lists_those_found(hub_folder: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'title'.*found: text, label"):
        load(data_config("hub", name=str(hub_folder), text="title"))


def test_a_class_label_gives_its_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["좋다", "싫다"], "label": [1, 0]}, features)
    rows.to_parquet(tmp_path / "train.parquet")
    corpus = load(data_config("hub", name=str(tmp_path), test=None))
    assert corpus.train.labels == ["yes", "no"]


def test_a_hub_csv_keeps_the_reviews_na_and_null(hub_folder: Path) -> None:
    (hub_folder / "train.csv").write_text(HEADER + "NA,1\nnull,0\n좋다,1\n", encoding="utf-8")
    rows = load(data_config("hub", name=str(hub_folder))).train
    assert (rows.texts, rows.empty) == (["NA", "null", "좋다"], 0)


def test_a_row_of_a_hub_folder_that_cannot_be_read_is_named(hub_folder: Path) -> None:
    (hub_folder / "train.csv").write_text(HEADER + "좋다,1\n싫다,정말,0\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.csv, line 3: 3 columns instead of 2"):
        load(data_config("hub", name=str(hub_folder)))


def test_a_replaced_file_of_a_hub_folder_is_read_anew(hub_folder: Path) -> None:
    found = []
    for text in ("가", "나"):
        (hub_folder / "train.csv").write_text(HEADER + f"{text},1\n", encoding="utf-8")
        os.utime(hub_folder / "train.csv", (1, 1))
        found += load(data_config("hub", name=str(hub_folder))).train.texts
    assert found == ["가", "나"]


@pytest.mark.parametrize("name", ["a[1]", "a*", "a::b", "~a"])
def test_no_sign_of_a_hub_folder_is_a_pattern(hub_folder: Path, name: str) -> None:
    folder = hub_folder.rename(hub_folder.with_name(name))
    assert load(data_config("hub", name=str(folder))).train.texts == ["좋다", "싫다"]


@pytest.mark.parametrize(
    ("files", "train", "test"),
    [
        (["data/train-00001-of-00002.csv", "data/train-00000-of-00002.csv"], [1, 0], None),
        (["my_train.csv", "my_dev.csv", "testing.csv"], [0], [2]),
        (["training/a.csv", "evaluation/a.csv", "README.md"], [0], [1]),
        (["b.csv", "a.csv", ".train.csv"], [1, 0], None),
    ],
)
def test_the_files_of_a_split_are_told_by_their_names(
    tmp_path: Path, files: list[str], train: list[int], test: list[int] | None
) -> None:
    for number, name in enumerate(files):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(HEADER + f"글 {number},1\n", encoding="utf-8")
    corpus = load(data_config("hub", name=str(tmp_path), test="test" if test else None))
    assert corpus.train.texts == [f"글 {number}" for number in train]
    assert corpus.test is None or corpus.test.texts == [f"글 {number}" for number in test or []]


CARD = """---
configs:
- config_name: small
  data_files: [{split: train, path: s/*.csv}]
- config_name: large
  data_files:
  - {split: train, path: [l/b.csv, l/a.csv]}
---
"""


def test_the_card_of_a_hub_folder_says_which_files_are_which(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD)
    for name in ("s/x.csv", "l/a.csv", "l/b.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(HEADER + f"{name},1\n")

    def texts(config: str | None) -> list[str]:
        return load(data_config("hub", name=str(tmp_path), config=config, test=None)).train.texts

    assert texts("small") == ["s/x.csv"]
    assert texts("large") == ["l/a.csv", "l/b.csv"]
    with pytest.raises(InputError, match="has the configurations small, large"):
        texts(None)


def test_a_class_label_of_minus_one_is_missing(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["좋다", "싫다"], "label": [1, -1]}, features)
    rows.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match="row 2: the label is missing"):
        load(data_config("hub", name=str(tmp_path), test=None))


def test_a_hub_name_without_a_network_is_an_environment_fault() -> None:
    with pytest.raises(EnvironmentFault, match=r"data\.name=someone/reviews: cannot be loaded"):
        load(data_config("hub", name="someone/reviews"))


# -- the sample ----------------------------------------------------------------------


def test_the_sample_needs_no_file_and_its_splits_share_no_text() -> None:
    corpus = load(data_config("sample", train_rows=300, test_rows=100))
    assert corpus.test is not None
    assert (len(corpus.train), len(corpus.test)) == (300, 100)
    assert not set(corpus.train.texts) & set(corpus.test.texts)
