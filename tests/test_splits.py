"""Train, validation and test: stratified, seeded, disjoint, and checked."""

from collections import Counter

import pytest

from pruneloop.data.sources import Corpus, Rows
from pruneloop.data.splits import Splits, split
from pruneloop.errors import InputError
from pruneloop.records import RejectedRow


def rows(prefix: str, **counts: int) -> Rows:
    pairs = [(f"{prefix} {label} {n}", label) for label in counts for n in range(counts[label])]
    return Rows([text for text, _ in pairs], [label for _, label in pairs])


def divided(train: Rows, test: Rows | None = None, **changed: object) -> Splits:
    options = {"validation": 0.1, "test_share": 0.2, "seed": 0, "drop_overlap": False}
    return split(Corpus(train, test, name="typed in"), **(options | changed))


def test_validation_is_held_out_of_train_by_label() -> None:
    result = divided(rows("a", no=60, yes=140), rows("b", yes=5, no=5))
    assert result.labels == ["no", "yes"]
    assert Counter(result.validation["label"]) == {0: 6, 1: 14}
    assert Counter(result.train["label"]) == {0: 54, 1: 126}
    assert not set(result.train["text"]) & set(result.validation["text"])
    assert sorted(result.test["text"]) == sorted(rows("b", yes=5, no=5).texts)
    assert result.counts["read"] == 210


def test_a_text_keeps_its_label() -> None:
    result = divided(rows("a", no=30, yes=30))
    for part in (result.train, result.validation, result.test):
        assert all(result.labels[row["label"]] in row["text"].split() for row in part)


def test_the_seed_decides_who_is_held_out() -> None:
    train = rows("a", no=100, yes=100)
    first, again, other = (divided(train, seed=seed) for seed in (0, 0, 1))
    for name in ("train", "validation", "test"):
        assert list(getattr(first, name)["text"]) == list(getattr(again, name)["text"])
    assert set(first.validation["text"]) != set(other.validation["text"])


def test_without_a_test_split_one_is_held_out() -> None:
    result = divided(rows("a", no=100, yes=100))
    parts = [set(part["text"]) for part in (result.train, result.validation, result.test)]
    assert [len(part) for part in parts] == [144, 16, 40]
    assert len(set.union(*parts)) == 200
    assert Counter(result.test["label"]) == {0: 20, 1: 20}
    assert result.counts["test"] == 40


def test_shared_texts_are_counted_and_kept() -> None:
    train, test = rows("a", no=20, yes=20), rows("b", no=5, yes=5)
    test.texts[:2] = train.texts[:2]
    result = divided(train, test)
    assert (result.counts["train_rows_also_in_test"], result.counts["dropped_overlap"]) == (2, 0)
    assert len(result.train) + len(result.validation) == 40


def test_shared_texts_are_dropped_on_request() -> None:
    train, test = rows("a", no=20, yes=20), rows("b", no=5, yes=5)
    test.texts[:2] = train.texts[:2]
    result = divided(train, test, drop_overlap=True)
    assert (result.counts["train_rows_also_in_test"], result.counts["dropped_overlap"]) == (2, 2)
    kept = {*result.train["text"], *result.validation["text"]}
    assert kept == set(train.texts[2:])
    assert len(result.test) == 10


def test_dropped_and_normalised_rows_are_counted_over_both_splits() -> None:
    train, test = rows("a", no=20, yes=20), rows("b", no=5, yes=5)
    train.empty, test.empty, train.normalized = 2, 1, 4
    counts = divided(train, test).counts
    assert (counts["read"], counts["empty"], counts["normalized"]) == (53, 3, 4)


def test_one_label_is_an_error() -> None:
    with pytest.raises(InputError, match=r"only one label \(yes\)"):
        divided(rows("a", yes=20))


def test_a_label_that_only_test_has_is_an_error() -> None:
    with pytest.raises(InputError, match="train lacks: maybe"):
        divided(rows("a", no=20, yes=20), rows("b", no=2, maybe=2))


def test_a_label_that_dropping_the_overlap_takes_away_is_an_error() -> None:
    train, test = rows("a", no=20, yes=20), rows("b", no=5)
    train.texts.append("only here")
    train.labels.append("maybe")
    test.texts.append("only here")
    test.labels.append("maybe")
    with pytest.raises(InputError, match="maybe"):
        divided(train, test, drop_overlap=True)


def test_a_label_that_a_part_lacks_is_named() -> None:
    result = divided(rows("a", often=50, rare=2))
    assert (len(result.test), len(result.validation)) == (11, 4)
    assert result.missing() == {"validation": "rare"}
    assert divided(rows("a", often=50, rare=3)).missing() == {}


def test_too_few_rows_to_divide_is_an_error() -> None:
    with pytest.raises(InputError, match=r"cannot hold out 0\.1 of 2 rows"):
        divided(rows("a", no=2, yes=2))


def test_equal_texts_stay_together() -> None:
    train = rows("a", no=40, yes=40)
    train.texts[5:15] = ["a often"] * 10
    train.texts[50:53] = ["a seldom"] * 3
    found = [divided(train, seed=seed, test_share=0.5) for seed in range(20)]
    for result in found:
        parts = [set(part["text"][:]) for part in (result.train, result.validation, result.test)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        assert len(result.train) + len(result.validation) + len(result.test) == 80
    assert {"a often" in result.test["text"][:] for result in found} == {True, False}
    assert max(result.counts["repeated"] for result in found) == 11


def test_labels_are_named_in_the_order_of_their_values() -> None:
    splits = split(
        Corpus(rows("a", **{"10": 30, "9": 30}), rows("b", **{"10": 5}), "source"),
        validation=0.2,
        test_share=0.2,
        seed=0,
        drop_overlap=False,
        label_names=["nine", "ten"],
    )
    assert (splits.labels, splits.values) == (["nine", "ten"], ["9", "10"])
    assert set(splits.test["label"]) == {1}


def test_labels_of_odd_digits_are_words() -> None:
    """Python calls ² a digit, but it is no number."""
    assert divided(rows("a", **{"²": 20, "1": 20})).labels == ["1", "²"]


def test_one_number_in_two_spellings_names_a_row_of_each() -> None:
    train, test = rows("a", **{"1": 20, "0": 20}), rows("b", **{"１": 5, "0": 5})
    train.places, test.places = {"1": "a.csv, line 3"}, {"１": "b.csv, line 7"}
    said = r"'1' \(a\.csv, line 3\) and '１' \(b\.csv, line 7\)"
    with pytest.raises(InputError, match=said):
        divided(train, test)
    with pytest.raises(InputError, match=r"'01' .* and '1'"):
        divided(rows("a", **{"1": 20, "01": 20}))


def test_a_label_with_too_few_rows_is_named_with_their_number() -> None:
    train = rows("a", often=50, rare=2)
    train.places = {"rare": "a.csv, line 52"}
    said = r"data\.min_rows_per_label=3: .* rare has 2 \(the first: a\.csv, line 52\)"
    with pytest.raises(InputError, match=said):
        divided(train, min_rows_per_label=3)
    assert divided(train, min_rows_per_label=2).labels == ["often", "rare"]


def test_at_most_so_many_rows_are_taken_of_each_label_its_share() -> None:
    train, test = rows("a", no=300, yes=700), rows("b", no=50, yes=50)
    result = divided(train, test, max_train_rows=100, max_test_rows=11)
    assert Counter(result.train["label"]) + Counter(result.validation["label"]) == {0: 30, 1: 70}
    assert sorted(Counter(result.test["label"]).values()) == [5, 6]
    assert result.counts["left_out"] == 900 + 89
    again = divided(train, test, max_train_rows=100, max_test_rows=11)
    other = divided(train, test, max_train_rows=100, max_test_rows=11, seed=1)
    assert again.fingerprints == result.fingerprints != other.fingerprints


def test_the_test_split_does_not_depend_on_how_many_rows_train_has() -> None:
    train = rows("a", no=100, yes=100)
    assert divided(train).test["text"][:] == divided(train, max_train_rows=50).test["text"][:]


@pytest.mark.parametrize("most", [8, 9, 50, 99, 400])
def test_rare_labels_stay_when_rows_are_left_out(most: int) -> None:
    train = rows("a", rare=4, few=9, many=290, more=97)
    result = divided(train, rows("b", many=2), max_train_rows=most)
    counts = Counter(result.train["label"]) + Counter(result.validation["label"])
    assert sum(counts.values()) == most and min(counts.values()) >= 2 and len(counts) == 4


def test_fewer_rows_than_labels_need_is_an_error() -> None:
    with pytest.raises(InputError, match=r"data\.max_train_rows=3: fewer than 2 for each of 2"):
        divided(rows("a", no=20, yes=20), max_train_rows=3)


def test_balanced_weights_let_every_label_weigh_alike() -> None:
    found = divided(rows("a", often=90, rare=30), rows("b", often=5, rare=5))
    weights = found.balanced_weights()
    counts = Counter(found.train["label"][:])
    assert [weights[n] * counts[n] for n in (0, 1)] == [len(found.train) / 2] * 2
    assert weights[1] == 3 * weights[0]


def test_rejected_rows_are_counted_and_kept() -> None:
    train, test = rows("a", no=20, yes=20), rows("b", no=5)
    for part, line in ((train, 3), (test, 4)):
        part.rejected = [RejectedRow(file="a.csv", line=line, reason="short", raw="x")]
    result = divided(train, test)
    assert (result.counts["read"], result.counts["rejected"]) == (47, 2)
    assert [row.line for row in result.rejected] == [3, 4]


def test_another_number_of_names_than_labels_lists_them() -> None:
    with pytest.raises(InputError, match="3 names for 2 labels: no, yes"):
        split(
            Corpus(rows("a", no=20, yes=20), None, "source"),
            validation=0.2,
            test_share=0.2,
            seed=0,
            drop_overlap=False,
            label_names=["a", "b", "c"],
        )
