"""The built-in sample: what its grammar promises, and that n-grams do not solve it."""

import re
import unicodedata
from collections import Counter

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from pruneloop.data.sample import LABELS, generate

# Typed by hand: how each polarity word begins, also where its ending bends the stem.
NEGATIVE = "지루 엉성 유치 형편없 답답 어색 산만 뻔 실망 허술 평면 아쉽 아쉬".split()
POSITIVE = "훌륭 좋 뛰어나 재미있 감동적 아름답 아름다 신선 완벽 탄탄 매력 인상 새롭 새로".split()
FLIPS = ("말할 수 없", "동의하지 않는다", "틀린 말이에요")


def polarity(clause: str) -> str:
    found = {
        label
        for label, words in zip(LABELS, (NEGATIVE, POSITIVE), strict=True)
        if any(word in clause for word in words)
    }
    (label,) = found
    return label


def other(label: str) -> str:
    return LABELS[1 - LABELS.index(label)]


def test_a_seed_decides_every_row() -> None:
    assert generate(200, seed=3) == generate(200, seed=3)
    assert generate(200, seed=3) != generate(200, seed=4)


def test_rows_are_distinct_and_excluded_texts_do_not_come() -> None:
    first = [text for text, _ in generate(1000, seed=0)]
    assert len(set(first)) == 1000
    again = [text for text, _ in generate(500, seed=0, exclude=first)]
    assert not set(first) & set(again)


def test_labels_are_roughly_balanced() -> None:
    counts = Counter(label for _, label in generate(2000, seed=0))
    assert set(counts) == {"negative", "positive"}
    assert 900 < counts["positive"] < 1100


@pytest.mark.parametrize("pair", [("은", "는"), ("이", "가")])
def test_particles_agree_with_the_final_consonant(pair: tuple[str, str]) -> None:
    nouns = "연기|줄거리|음악|영상|배우|결말|장면|주인공|감독|각본|설정|화면|주제|전개|액션"
    pattern = re.compile(rf"(?:^| )({nouns})({'|'.join(pair)}) ")
    found = {
        match.groups() for text, _ in generate(3000, seed=0) for match in pattern.finditer(text)
    }
    assert {noun for noun, _ in found} == set(nouns.split("|"))
    for noun, particle in found:
        has_final = len(unicodedata.normalize("NFD", noun[-1])) == 3
        assert particle == pair[0 if has_final else 1], noun


def test_composition_decides_the_label() -> None:
    """The last clause's word counts, turned round by a flipping frame behind it."""
    flipped = misleading = 0
    for text, label in generate(2000, seed=0):
        before, _, clause = text.rpartition("지만 ")
        flip = any(marker in clause for marker in FLIPS)
        expected = other(polarity(clause)) if flip else polarity(clause)
        assert label == expected, text
        flipped += flip
        misleading += bool(before) and polarity(before) != label
    assert flipped > 200
    assert misleading > 150


def test_character_ngrams_do_not_solve_it() -> None:
    train = generate(4000, seed=0)
    test = generate(1000, seed=1, exclude=[text for text, _ in train])
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True)
    features = vectorizer.fit_transform(text for text, _ in train)
    model = LogisticRegression(max_iter=200).fit(features, [label for _, label in train])
    score = model.score(
        vectorizer.transform(text for text, _ in test), [label for _, label in test]
    )
    assert 0.6 < score < 0.88
