"""How sparse a model may be for how much accuracy: from the records alone."""

from dataclasses import replace
from pathlib import Path

import pytest
from support import FACTS, record

from pruneloop.records import PredictionRecord, RoundRecord, RunFacts, RunFolder
from pruneloop.report.answer import at_chance, chosen, sparsest_within
from pruneloop.report.cautions import cautions
from pruneloop.report.summary import summary


def curve(*accuracies: float) -> list[RoundRecord]:
    """Rounds with validation accuracies, the first one's dense, ten zeros more in each."""
    found = [record(number, None) for number in range(len(accuracies))]
    return [
        replace(r, accuracy=accuracy, macro_f1=1 - accuracy, zeros=10 * r.round, kept=True)
        for r, accuracy in zip(found, accuracies, strict=True)
    ]


@pytest.mark.parametrize(
    ("drop", "expected"),
    [(0.0, 1), (0.005, 2), (0.01, 4), (0.02, 4), (0.5, 5)],
)
def test_the_sparsest_round_within_a_drop(drop: float, expected: int) -> None:
    """A round that fell deeper does not hide a sparser one that has recovered."""
    rounds = curve(0.90, 0.91, 0.895, 0.88, 0.89, 0.60)
    assert sparsest_within(rounds, drop, "accuracy").round == expected


def test_a_round_that_was_undone_is_no_answer() -> None:
    rounds = curve(0.90, 0.90, 0.90)
    rounds[2] = replace(rounds[2], kept=False)
    assert sparsest_within(rounds, 0.01, "accuracy").round == 1


def test_of_equally_sparse_rounds_the_later_one_counts() -> None:
    rounds = curve(0.90, 0.90, 0.90)
    rounds[2] = replace(rounds[2], zeros=rounds[1].zeros)
    assert sparsest_within(rounds, 0.01, "accuracy").round == 2


def test_where_every_round_loses_too_much_the_dense_model_is_the_answer() -> None:
    rounds = curve(0.90, 0.5, 0.6)
    assert sparsest_within(rounds, 0.01, "accuracy").round == 0
    assert sparsest_within(rounds, 0.01, "macro_f1").round == 2


def with_rows(validation: int, test: int, majority: float) -> RunFacts:
    data = replace(
        FACTS.data,
        rows={"validation": validation, "test": test},
        majority={"validation": majority, "test": majority},
    )
    return replace(FACTS, data=data)


def test_a_dense_model_at_chance_is_said() -> None:
    """0.53 is above 0.50, and over 1,000 rows not clearly so."""
    for accuracy, expected in ((0.50, True), (0.53, True), (0.54, False)):
        assert at_chance(curve(accuracy), with_rows(1000, 1000, 0.5)) is expected
    rounds = [replace(r, test_accuracy=0.53) for r in curve(0.53)]
    (words,) = cautions(rounds, with_rows(10_000, 10_000, 0.53))
    assert words.startswith("At chance: the dense model has validation accuracy 0.5300")


def test_cautions_are_given_only_where_they_are_true() -> None:
    rounds = [replace(record(0, None), accuracy=0.9, test_accuracy=0.9)]
    assert cautions(rounds, with_rows(10_000, 10_000, 0.5)) == []
    (few,) = cautions(rounds, with_rows(500, 500, 0.5))
    assert "Few validation rows: 500 of them know an accuracy to ± 2.6 points" in few
    apart = [replace(rounds[0], test_accuracy=0.88)]
    (gap,) = cautions(apart, with_rows(10_000, 10_000, 0.5))
    assert "Validation (0.9000) and test (0.8800)" in gap
    (share,) = cautions(rounds, replace(with_rows(10_000, 10_000, 0.5), prunable=500))
    assert "Only 25% of the model's parameters are prunable" in share


@pytest.mark.parametrize(("max_drop", "expected"), [(None, 0.01), (0.005, 0.005), (0.03, 0.01)])
def test_the_budget_of_a_run_is_shown_first(max_drop: float | None, expected: float) -> None:
    assert chosen(max_drop) == expected


def test_a_run_ends_with_its_answer_and_what_to_do_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_rounds(curve(0.90, 0.898, 0.893, 0.5))
    folder.write_facts(with_rows(10_000, 10_000, 0.5))
    said = {"label": "긍정", "dense": "긍정", "pruned": "부정", "dense_confidence": 0.9}
    rows = [
        PredictionRecord(**said, text="x" * 60, row=0, pruned_confidence=0.6),
        PredictionRecord(**said, text="it's 좋다", row=1, pruned_confidence=0.6),
    ]
    folder.write_predictions(rows)
    control = RunFolder(folder.control)
    control.path.mkdir()
    control.write_rounds(curve(0.90, 0.8, 0.7, 0.6))
    (folder.rounds / "02").mkdir(parents=True)
    lines = summary(folder, "pruneloop")
    text = "\n".join(lines)
    table = [line.split() for line in lines if " pt " in line]
    assert [(row[0], row[4], row[-2], row[-1]) for row in table] == [
        ("0.5", "1", "not", "kept"),
        ("1", "2", "0.8862)", "rounds/02/"),
        ("2", "2", "0.8862)", "rounds/02/"),
    ]
    assert "weights drawn at random give test accuracy 0.8800" in text
    assert "the most frequent label alone 0.5000" in text
    assert f"""next:       pruneloop predict {folder.path} 'it'"'"'s 좋다'""" in text
    assert lines[0].startswith("done: ")
