"""JSON: rows a line, in an array, inside of documents; and what is none."""

import json
from pathlib import Path

import pytest
from support import read

from pruneloop.errors import InputError

ROWS = [{"text": "좋다", "label": 1}, {"text": "싫다", "label": 0}]
NESTED = {"id": 1, "document": [{"id": 2, "sentence": [row]} for row in ROWS]}


@pytest.mark.parametrize(
    ("name", "content", "records"),
    [
        ("a.json", json.dumps({"version": 1, "data": ROWS}, indent=1), "data"),
        ("a.json", json.dumps({"version": 1, "data": ROWS}), "data"),
        ("a.json", json.dumps(NESTED), "document.sentence"),
        ("a.json", json.dumps([NESTED], indent=1), "document.sentence"),
        ("a.jsonl", "\n".join(json.dumps({"row": row}) for row in ROWS), "row"),
        ("A.NDJSON", "\r".join(map(json.dumps, ROWS)), None),
        ("a.json", "\n".join(map(json.dumps, ROWS)), None),
    ],
)
def test_rows_are_read_from_where_they_are(
    tmp_path: Path, name: str, content: str, records: str | None
) -> None:
    rows = read(tmp_path, name, content, records=records)
    assert (rows.texts, rows.labels) == (["좋다", "싫다"], ["1", "0"])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"version": 1, "data": ROWS}, r"keys: version, data; .*: data\.records=data$"),
        (NESTED, r"keys: id, document; .*: data\.records=document\.sentence$"),
        ({"version": 1}, r"no column 'text' .*JSON without rows; keys: version$"),
        ({}, "JSON without rows; keys: none"),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_json_without_rows_says_where_there_are_some(
    tmp_path: Path, document: object, said: str, indent: int | None
) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, "a.json", json.dumps(document, indent=indent))


def test_a_key_that_is_not_on_the_way_lists_those_that_are(tmp_path: Path) -> None:
    content = json.dumps({"document": [{"sentence": ROWS}, {"other": []}]})
    with pytest.raises(InputError, match=r"document\[1\]: no key 'sentence' .*found keys: other"):
        read(tmp_path, "a.json", content, records="document.sentence")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"text": ["a"], "label": 1}', "the text is a list"),
        ('{"text": "a", "label": {"a": 1}}', "the label is an object"),
        ('{"text": "a", "label": NaN}', "the label is missing"),
        ('{"text": "a"}', "no column 'label'; found: text"),
        ('{"text": "a\\ud83d", "label": 1}', "half of a character"),
        ('{"text": "a", "label": 1, "label": 0}', "the key 'label' stands twice"),
        ('{"text": "a", "label": %s}' % ("9" * 5000), "over 300 digits"),
        ('{"text": "a", "label": 1', "not JSON"),
        ('{"text": %s' % ("[" * 100_000), "nested too deeply"),
    ],
)
def test_a_bad_line_is_an_error_or_left_out(tmp_path: Path, line: str, why: str) -> None:
    content = "\n".join([json.dumps(ROWS[0]), line, json.dumps(ROWS[1])])
    with pytest.raises(InputError, match=f"a.jsonl, line 2: .*{why}"):
        read(tmp_path, "a.jsonl", content)
    rows = read(tmp_path, "a.jsonl", content, bad_rows="skip", max_bad=0.5)
    assert rows.texts == ["좋다", "싫다"]
    assert [(r.line, r.raw) for r in rows.rejected] == [(2, line)]


def test_a_bad_first_line_does_not_make_lines_a_document(tmp_path: Path) -> None:
    content = '{"text": "a"\n' + "\n".join(map(json.dumps, ROWS))
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: not JSON"):
        read(tmp_path, "a.jsonl", content)


def test_typed_numbers_are_one_label_and_nan_is_no_text(tmp_path: Path) -> None:
    lines = ['{"text": "a", "label": 1}', '{"text": "b", "label": 1.0}']
    lines += ['{"text": NaN, "label": 0}', '{"text": 5, "label": true}']
    rows = read(tmp_path, "a.jsonl", "\n".join(lines))
    assert (rows.texts, rows.labels, rows.empty) == (["a", "b", "5"], ["1", "1", "true"], 1)
