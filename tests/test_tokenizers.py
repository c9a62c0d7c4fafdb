"""The two tokenizers of our own: a trained WordPiece, and KoBERT's from its file."""

import gzip
import json
import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor
from support import SHARED, needs_shared
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pruneloop.data import sample
from pruneloop.errors import InputError
from pruneloop.model.tokenizers import KOBERT_FILE, load_kobert_tokenizer, train_wordpiece

SENTENCES = [text for text, _ in sample.generate(500, seed=0)] + ["Good 영화 GOOD 영화"] * 200


def round_trip(tokenizer: PreTrainedTokenizerBase, folder: Path) -> PreTrainedTokenizerBase:
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return AutoTokenizer.from_pretrained(folder)


# -- WordPiece -----------------------------------------------------------------------


def test_wordpiece_keeps_case_and_composed_hangul() -> None:
    tokenizer = train_wordpiece(SENTENCES, vocab_size=500, max_length=64)
    assert tokenizer.tokenize("Good GOOD 영화") == ["Good", "GOOD", "영화"]
    assert "good" not in tokenizer.get_vocab()
    jamo = [piece for piece in tokenizer.get_vocab() if re.search("[ᄀ-ᇿ]", piece)]
    assert jamo == []


def test_wordpiece_has_the_size_and_the_special_tokens_of_bert() -> None:
    tokenizer = train_wordpiece(SENTENCES, vocab_size=600, max_length=64)
    assert 500 < len(tokenizer) <= 600
    assert tokenizer.convert_ids_to_tokens(range(5)) == "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
    ids = tokenizer("솔직히 결말은 지루하다")["input_ids"]
    assert (ids[0], ids[-1], 1 in ids) == (2, 3, False)
    assert tokenizer("a", "b").tokens() == ["[CLS]", "[UNK]", "[SEP]", "[UNK]", "[SEP]"]
    assert tokenizer.model_max_length == 64


def test_wordpiece_training_is_deterministic() -> None:
    """The trainer alone meets words in a random order, and ties then break by chance."""
    first, *others = (train_wordpiece(SENTENCES, 400, 64).get_vocab() for _ in range(3))
    assert others == [first, first]


def test_wordpiece_comes_back_from_disk(tmp_path: Path) -> None:
    tokenizer = train_wordpiece(SENTENCES, vocab_size=500, max_length=64)
    again = round_trip(tokenizer, tmp_path)
    assert again(SENTENCES)["input_ids"] == tokenizer(SENTENCES)["input_ids"]
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.model_max_length == 64


# -- KoBERT --------------------------------------------------------------------------

KOBERT = SHARED / "data" / "kobert_tokenizer"


@cache
def kobert() -> PreTrainedTokenizerBase:
    return load_kobert_tokenizer(str(KOBERT))


@cache
def reviews() -> list[str]:
    with gzip.open(SHARED / "data/nsmc/ratings_test.txt.gz", "rt", encoding="utf-8") as file:
        return [line.split("\t")[1] for line in file][1:]


@cache
def review_ids() -> list[list[int]]:
    return kobert()(reviews(), add_special_tokens=False)["input_ids"]


@needs_shared
def test_kobert_gives_the_ids_of_its_authors() -> None:
    golden = json.loads((SHARED / "golden/seed.json").read_text())["kobert_tokenizer"]
    assert kobert().tokenize(golden["text"]) == golden["pieces"]
    assert kobert()(golden["text"])["input_ids"] == golden["ids"]
    specials = ("unk", "pad", "cls", "sep", "mask")
    ids = {name: getattr(kobert(), f"{name}_token_id") for name in specials}
    assert ids == {name: golden[name] for name in specials}


@needs_shared
def test_kobert_has_the_vocabulary_of_its_authors() -> None:
    (file,) = KOBERT.glob("kobertvocab_*.json")
    names = json.loads(file.read_text())["idx_to_token"]
    assert len(kobert()) == len(names) == 8002
    assert kobert().convert_ids_to_tokens(range(8002)) == names


@needs_shared
@pytest.mark.more
def test_kobert_knows_the_reviews() -> None:
    unknown = sum(row.count(kobert().unk_token_id) for row in review_ids())
    assert 0 < unknown < 0.01 * sum(map(len, review_ids()))


def preprocessed(text: str) -> str:
    """What KoBERT's own code does to a text before SentencePiece sees it."""
    text = " ".join(text.split()).replace("``", '"').replace("''", '"')
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


@needs_shared
def test_kobert_cuts_as_sentencepiece_does() -> None:
    """The rest are runs of dots and the like, cut in another of equally likely ways."""
    processor = SentencePieceProcessor(model_file=str(KOBERT / KOBERT_FILE))
    unknown = kobert().unk_token
    theirs = processor.encode([preprocessed(text) for text in reviews()], out_type=int)
    differing = 0
    for own, ids in zip(review_ids(), theirs, strict=True):
        pieces = [unknown if processor.is_unknown(i) else processor.id_to_piece(i) for i in ids]
        differing += kobert().convert_ids_to_tokens(own) != pieces
    assert differing < 0.003 * len(reviews())


@needs_shared
def test_kobert_reads_decomposed_hangul_the_same() -> None:
    text = "한국어 모델을 공유합니다."
    apart = unicodedata.normalize("NFD", text)
    assert apart != text
    assert kobert()(apart)["input_ids"] == kobert()(text)["input_ids"]


@needs_shared
@pytest.mark.parametrize(
    ("text", "same"),
    [("  한국어   모델 \n", "한국어 모델"), ("café naïve", "cafe naive"), ("``말''", '"말"')],
)
def test_kobert_reads_over_spaces_accents_and_kinds_of_quotes(text: str, same: str) -> None:
    assert kobert()(text)["input_ids"] == kobert()(same)["input_ids"]


@needs_shared
def test_kobert_comes_back_from_disk(tmp_path: Path) -> None:
    texts = reviews()[:3000]
    again = round_trip(kobert(), tmp_path)
    assert again(texts)["input_ids"] == kobert()(texts)["input_ids"]
    assert again.pad_token_id == 1


@pytest.mark.parametrize("content", [b"PK\x03\x04 no such thing", b"", b"<html>404</html>"])
def test_a_file_that_is_no_sentencepiece_model_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KOBERT_FILE).write_bytes(content)
    with pytest.raises(InputError, match=f"{KOBERT_FILE}: (is not a SentencePiece|has no pieces)"):
        load_kobert_tokenizer(str(tmp_path))
