"""Token ids: cut, counted, kept in the cache, and refused when most are unknown."""

from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from transformers import PreTrainedTokenizerBase

from pruneloop.data.tokenising import check_unknown, tokenise
from pruneloop.errors import InputError
from pruneloop.model.tokenizers import train_wordpiece

TEXTS = ["영화가 좋다", "배우가 좋다", "영화가 길다 길다 길다 길다", "음악 좋다"] * 3


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    return tmp_path


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return train_wordpiece(TEXTS, vocab_size=100, max_length=64)


def rows(*texts: str) -> Dataset:
    return Dataset.from_dict(
        {"text": list(texts), "label": [n % 2 for n in range(len(texts))]},
        features=Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])}),
    )


def test_rows_become_ids_with_their_length(tokenizer: PreTrainedTokenizerBase) -> None:
    result = tokenise(rows("영화가 좋다", "음악 좋다"), tokenizer, max_length=64)
    assert result.rows.column_names == ["input_ids", "label", "length"]
    assert result.rows["input_ids"][:] == tokenizer(["영화가 좋다", "음악 좋다"])["input_ids"]
    assert result.rows["length"][:] == [len(ids) for ids in result.rows["input_ids"]]
    assert result.rows["label"][:] == [0, 1]
    assert (max(result.wholes), result.unknown) == (max(result.rows["length"][:]), 0.0)


def test_cut_rows_are_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    exact = tokenizer("영화가 좋다")["input_ids"]
    longer = tokenizer("영화가 좋다 좋다")["input_ids"]
    assert len(longer) == len(exact) + 1
    result = tokenise(rows("영화가 좋다", "영화가 좋다 좋다"), tokenizer, max_length=len(exact))
    assert sum(whole > len(exact) for whole in result.wholes) == 1
    assert result.rows["length"][:] == [len(exact)] * 2
    assert result.rows["input_ids"][1][-1] == tokenizer.sep_token_id


def test_the_unknown_share_leaves_special_tokens_out(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.tokenize("좋다 xyz 좋다 좋다") == ["좋다", "[UNK]", "좋다", "좋다"]
    assert tokenise(rows("좋다 xyz 좋다 좋다"), tokenizer, 64).unknown == 0.25
    # What is cut away counts too: it tells as much about the tokenizer.
    assert tokenise(rows("좋다 좋다 좋다 xyz"), tokenizer, 4).unknown == 0.25


def test_the_second_call_reads_the_cache(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenise(rows(*TEXTS), tokenizer, max_length=6)

    def called(*_: object, **__: object) -> None:
        raise AssertionError("the tokenizer was called")

    monkeypatch.setattr(type(tokenizer), "__call__", called)
    second = tokenise(rows(*TEXTS), tokenizer, max_length=6)
    assert (second.wholes, second.unknown) == (first.wholes, first.unknown)
    assert second.rows[:] == first.rows[:]


def test_another_length_text_label_or_vocabulary_is_another_entry(
    tokenizer: PreTrainedTokenizerBase, empty_cache: Path
) -> None:
    one = rows("영화가 좋다 좋다", "음악 좋다")
    swapped = one.remove_columns("label").add_column("label", [1, 0], feature=one.features["label"])
    tokenise(one, tokenizer, 64)
    assert tokenise(one, tokenizer, 4).rows["length"][:] == [4, 4]
    assert tokenise(rows("음악 좋다", "음악 좋다"), tokenizer, 64).rows["length"][0] == 4
    assert tokenise(swapped, tokenizer, 64).rows["label"][:] == [1, 0]
    tokenise(one, train_wordpiece(["전혀 다른 글"], vocab_size=100, max_length=64), 64)
    assert len(list(empty_cache.rglob("*.arrow"))) == 5


def test_few_unknown_tokens_pass() -> None:
    assert check_unknown(0.0) is None
    assert check_unknown(0.05) is None


def test_more_than_a_twentieth_is_a_warning() -> None:
    assert check_unknown(0.051) == "5.1% of the tokens are unknown to the tokenizer"
    assert "30.0%" in str(check_unknown(0.3))


def test_more_than_three_tenths_is_an_error() -> None:
    with pytest.raises(InputError, match=r"31% of the tokens are unknown.*model\.tokenizer=kobert"):
        check_unknown(0.31)


def test_texts_that_join_alike_have_entries_of_their_own(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    one, other = rows("영화\0음악", "좋다"), rows("영화", "음악\0좋다")
    assert tokenise(one, tokenizer, 64).fingerprint != tokenise(other, tokenizer, 64).fingerprint


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_a_damaged_entry_is_made_again_and_said(
    tokenizer: PreTrainedTokenizerBase,
    empty_cache: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = tokenise(rows(*TEXTS), tokenizer, 64)
    before = first.rows[:]
    (file,) = empty_cache.glob("pruneloop/*/rows.arrow")
    data = file.read_bytes()
    file.unlink()
    if damage != "gone":
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        file.write_bytes({"flipped": flipped, "cut": data[:middle], "empty": b""}[damage])
    assert tokenise(rows(*TEXTS), tokenizer, 64).rows[:] == before
    assert "made again" in caplog.text
    caplog.clear()
    assert tokenise(rows(*TEXTS), tokenizer, 64).rows[:] == before
    assert not caplog.text
