"""What a cell says, what is not seen of it, and how lines of errors show it."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from pruneloop.data.cells import LONGEST, BadCell, ErrorValue, is_blank, spelled, visible
from pruneloop.data.labels import in_order, number_of, spelled_twice
from pruneloop.errors import InputError, printable


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("좋다", "좋다"),
        ("nan", "nan"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (Decimal("2.50"), "2.5"),
        (Decimal("3.00"), "3"),
        (True, "true"),
        (False, "false"),
        ("좋다".encode(), "좋다"),
        (None, None),
        (float("nan"), None),
        (Decimal("nan"), None),
    ],
)
def test_a_cell_has_one_spelling_and_it_is_not_pythons(cell: Any, said: str | None) -> None:
    assert spelled(cell) == said


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (["a"], "is a list"),
        ({"a": 1}, "is an object"),
        (float("inf"), "is infinite"),
        (10**400, "over 300 digits"),
        (date(2026, 1, 2), "of the type date"),
        (b"\xff", "byte 0xff"),
        ("a\ud83d", r"half of a character \(\\ud83d\)"),
        ("a\udcff", "byte 0xff"),
        ("a\0", "NUL"),
        ("가" * 350_000, "more than 1 MiB"),
        (ErrorValue("is the error #N/A"), "#N/A"),
    ],
)
def test_what_is_no_text_says_what_it_is(cell: Any, why: str) -> None:
    with pytest.raises(BadCell, match=why):
        spelled(cell)


@pytest.mark.parametrize(
    "text", ["", " \t", "\u200b", "\ufeff", "\u00a0", "\x01\x1b", "\u3164\u200d"]
)
def test_nothing_is_seen_of_some_texts(text: str) -> None:
    assert is_blank(text) and not is_blank(text + "가")


@pytest.mark.parametrize(
    ("label", "seen"),
    [
        ("\u200b긍정", "긍정"),
        ("긍\ufeff정 \u00a0", "긍정"),
        ("very\u00a0bad", "very bad"),
        ("정치/사회", "정치/사회"),
        ("a\tb", "a b"),
        ("\u1100\u1173\u11bc", "긍"),
    ],
)
def test_a_label_is_what_is_seen_of_it(label: str, seen: str) -> None:
    assert visible(label) == seen


@pytest.mark.parametrize("cell", ["a" * (LONGEST + 1), "가" * 400_000, b"a" * (LONGEST + 1)])
def test_a_cell_of_any_file_is_at_most_a_mebibyte(cell: str | bytes) -> None:
    """In bytes: the csv module counts characters, and other files have no such limit."""
    with pytest.raises(BadCell, match="more than 1 MiB"):
        spelled(cell)
    assert spelled(cell[: LONGEST // 3]) is not None


@pytest.mark.parametrize("other", ["01", "1.0", "１", "+1", "1e0", "١"])
def test_one_number_in_two_spellings_is_found(other: str) -> None:
    assert set(spelled_twice(["2", "1", other]) or ()) == {"1", other}


@pytest.mark.parametrize("labels", [["1", "2"], ["1", "²"], ["-1", "1"], ["1", "1,0"], ["a", "A"]])
def test_different_labels_are_no_spellings(labels: list[str]) -> None:
    assert spelled_twice(labels) is None


def test_a_typographic_minus_is_one() -> None:
    assert spelled_twice(["−2", "-2"]) is not None
    assert number_of("1e99999") is None


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "-2", "9", "-1.5", "0"], ["-2", "-1.5", "0", "9", "10"]),
        (["b", "10", "9"], ["10", "9", "b"]),
        (["1.0", "0.0"], ["0.0", "1.0"]),
        (["１", "2", "1", "01"], ["01", "1", "１", "2"]),  # of equal numbers: by their spelling
    ],
)
def test_labels_that_are_all_numbers_are_in_their_order(
    labels: list[str], order: list[str]
) -> None:
    assert in_order(labels) == in_order(reversed(labels)) == order


# -- error lines ---------------------------------------------------------------------


def test_what_acts_on_a_terminal_is_shown_escaped() -> None:
    shown = str(InputError("a\x1b[31m\n\u202e\u2028\ud83d 한글 é"))
    assert shown == r"a\x1b[31m\n\u202e\u2028\ud83d 한글 é"
    assert printable("한글 é") == "한글 é"


def test_an_error_line_is_short_and_keeps_both_ends() -> None:
    line = str(InputError("begin " + "\x00" * 5000 + " end"))
    assert len("pruneloop (process 10): " + line) < 1000
    assert line.startswith("begin ") and line.endswith(" end")
