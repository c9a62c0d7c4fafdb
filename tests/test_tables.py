"""Delimited text: how it is cut, which rows are bad, and what the error lines say."""

from pathlib import Path

import pytest
from support import HEADER, composed, read

from pruneloop.errors import ConfigError, InputError

SOUND = "".join(f"좋다 {number},{number % 2}\n" for number in range(40))
TABS = "text\tlabel\n" + SOUND.replace(",", "\t")


# -- headers and delimiters ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        ("a.tsv", "1\t좋다\n0\t싫다\n", {"columns": ["label", "text"]}),
        ("a.txt", "좋다|1\n싫다|0\n", {"columns": ["text", "label"], "delimiter": "|"}),
    ],
)
def test_columns_can_be_named_where_no_header_does(
    tmp_path: Path, name: str, content: str, keys: dict[str, object]
) -> None:
    rows = read(tmp_path, name, content, **keys)
    assert (rows.texts, rows.labels) == (["좋다", "싫다"], ["1", "0"])


def test_a_missing_column_shows_the_rows_as_cut_and_how_to_name_columns(tmp_path: Path) -> None:
    said = r'as cut: \["1", "좋다"\] and \["0", "싫다"\];.*data\.columns=\[label,text\]'
    with pytest.raises(InputError, match=said):
        read(tmp_path, "a.tsv", "1\t좋다\n0\t싫다\n")


@pytest.mark.parametrize(("sign", "called"), [("\t", "tab"), (";", "semicolon"), ("|", "bar")])
@pytest.mark.parametrize("columns", [[], ["text", "label"]])
def test_a_delimiter_that_is_plainly_another_is_named(
    tmp_path: Path, sign: str, called: str, columns: list[str]
) -> None:
    content = ("" if columns else f"text{sign}label\n") + f"좋다{sign}1\n싫다, 정말{sign}0\n"
    with pytest.raises(InputError) as caught:
        read(tmp_path, "a.csv", content, columns=columns)
    shown = str(caught.value).partition(f"every line has 1 {called}: ")[2].partition("; ")[0]
    given = composed("data=files", "data.train=a.csv", f"data.delimiter={shown[15:]}")
    assert shown.startswith("data.delimiter=") and given.data.delimiter == sign


def test_two_ways_to_cut_without_a_header_are_not_guessed_among(tmp_path: Path) -> None:
    content = "1\t좋다, 정말\n0\t싫다, 정말\n"
    with pytest.raises(InputError, match=r'more than one way; say data\.delimiter=","'):
        read(tmp_path, "a.csv", content, columns=["label", "text"])
    rows = read(tmp_path, "a.csv", content, columns=["label", "text"], delimiter="\t")
    assert rows.texts == ["좋다, 정말", "싫다, 정말"]


def test_columns_must_hold_the_text_and_the_label() -> None:
    with pytest.raises(ConfigError, match=r"data\.columns=\[a,text\]: lacks 'label'"):
        composed("data=files", "data.train=a.csv", "data.columns=[a,text]")


def test_a_header_in_a_file_whose_columns_are_named_is_no_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv, line 1: is a header line"):
        read(tmp_path, "a.csv", HEADER + SOUND, columns=["text", "label"])


@pytest.mark.parametrize(
    "content",
    [
        "sep=,\r\ntext,label\r\n좋다,1\r\n싫다,0\r\n",
        "sep=;\ntext;label\n좋다;1\n싫다;0\n",
        "text,label,,\n좋다,1,,\n싫다,0\n",
        "text,label\n좋다,1,\n싫다,0,\n",
        ",text,label\n0,좋다,1\n1,싫다,0\n",
        'text, label\n"좋다", 1\n"싫다", 0\n',
        'label, text\n1, "좋다"\n0, "싫다"\n',
        "\ufefftext,label\n좋다,1\n싫다,0\n,,\n\x1a",
    ],
)
def test_what_spreadsheets_add_is_no_content(tmp_path: Path, content: str) -> None:
    rows = read(tmp_path, "a.csv", content, max_bad=0.0)
    assert (rows.texts, rows.labels) == (["좋다", "싫다"], ["1", "0"])


def test_a_row_shifted_into_unnamed_columns_is_bad(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3: 4 columns instead of 2"):
        read(tmp_path, "a.csv", "text,label,,\n좋다,1,,\n좋다, 정말,1,\n")


# -- bad rows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "row", "why"),
    [
        (TABS, '"text with ""quotes""\t0"', "quoted as a whole"),
        (HEADER + SOUND, "좋다, 정말,1", "3 columns instead of 2"),
        (HEADER + SOUND, "좋다", "1 columns instead of 2"),
        (HEADER + SOUND, "좋다,\u200b", "the label is missing"),
        (HEADER + SOUND, "좋\0다,1", "NUL bytes"),
        (HEADER + SOUND, "\0\0", "NUL bytes"),
        (HEADER + SOUND, "text,label", "is a header line"),
        (HEADER + SOUND, "\ufefftext , label", "is a header line"),
        (HEADER + SOUND, '"명작"이다,1', "data.quoting=none"),
        (TABS, '"최고의 영화\t1', "data.quoting=none"),
    ],
)
def test_a_bad_row_is_an_error_or_left_out_with_its_line(
    tmp_path: Path, head: str, row: str, why: str
) -> None:
    name = "a.tsv" if head is TABS else "a.csv"
    content = head + row + "\n" + head.partition("\n")[2]
    with pytest.raises(InputError, match=rf"{name}, line 42: .*{why}.*data\.bad_rows=skip"):
        read(tmp_path, name, content)
    rows = read(tmp_path, name, content, bad_rows="skip")
    (rejected,) = rows.rejected
    assert (rejected.file, rejected.line, rejected.raw) == (name, 42, row)
    assert why in rejected.reason
    assert (len(rows), rows.read) == (80, 81)


def test_more_bad_rows_than_allowed_are_an_error(tmp_path: Path) -> None:
    content = HEADER + SOUND + "나쁘다,\n" * 3
    with pytest.raises(InputError, match=r"3 of 43 rows .*data\.max_bad=0\.05; a\.csv, line 42"):
        read(tmp_path, "a.csv", content, bad_rows="skip")
    assert len(read(tmp_path, "a.csv", content, bad_rows="skip", max_bad=0.1).rejected) == 3


def test_rows_behind_a_stray_quote_are_not_lost(tmp_path: Path) -> None:
    content = "label\ttext\n" + "1\t가\n0\t나\n" * 20 + '1\t"최고의 영화\n0\t싫다\n0\t별로"\n'
    rows = read(tmp_path, "a.tsv", content, bad_rows="skip")
    assert [rejected.line for rejected in rows.rejected] == [42]
    assert rows.texts[-2:] == ["싫다", '별로"']


def test_many_stray_quotes_do_not_take_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2000 of 2000 rows"):
        read(tmp_path, "a.tsv", "text\tlabel\n" + '"가\t1\n' * 2000, bad_rows="skip")


def test_a_cell_is_at_most_a_mebibyte(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: a cell has more than 1 MiB"):
        read(tmp_path, "a.csv", HEADER + "a" * (1 << 20) + "b,1\n")


# -- quotes over lines ---------------------------------------------------------------


def test_a_price_at_the_end_of_a_line_is_no_label(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", HEADER + '"정가 12,500\n좋다",1\n싫다,0\n')
    assert rows.texts == ["정가 12,500\n좋다", "싫다"]


def test_what_looks_like_a_label_is_none_where_quotes_are_used_well(tmp_path: Path) -> None:
    doubtful = '"별점 4,0\n좋다",1\n싫다,0\n'
    with pytest.raises(InputError, match="line 2: a stray quote swallows the next 1 row"):
        read(tmp_path, "a.csv", HEADER + doubtful)
    rows = read(tmp_path, "a.csv", HEADER + doubtful + '"그, ""명작""이다",1\n')
    assert rows.texts == ["별점 4,0\n좋다", "싫다", '그, "명작"이다']
    with pytest.raises(InputError, match="line 2: a stray quote swallows"):
        read(tmp_path, "a.csv", HEADER + doubtful + '"그, 명작",1\n그 "명작"이다,1\n')


# -- lines ---------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x1c", "\x1d", "\x85", "\x0b", "\x0c"])
def test_lines_are_counted_as_an_editor_does(tmp_path: Path, end: str, sign: str) -> None:
    content = end.join([HEADER.strip(), f"좋{sign}다,1", '"두', f'줄{sign}",0', "", "짧다"])
    with pytest.raises(InputError, match=r"a\.csv, line 6: 1 columns"):
        read(tmp_path, "a.csv", content)
    rows = read(tmp_path, "a.csv", content, bad_rows="skip", max_bad=0.5)
    assert rows.texts == [f"좋{sign}다", f"두{end}줄{sign}"]
