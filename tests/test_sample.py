"""The built-in sample: what its grammar promises, and that n-grams do not solve it."""

import math
import random
import re
import unicodedata
from collections import Counter

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from support import NEGATIVE, POSITIVE

from pruneloop.data import sample
from pruneloop.data.korean import Kind, Word, subject, topic
from pruneloop.data.sample import LABELS, generate
from pruneloop.data.sample_words import ASPECTS, RIVALS, Ranked

NOUNS = {noun for group in ASPECTS.values() for noun in group.items} | set(RIVALS.items)


def has_final(word: str) -> bool:
    return len(unicodedata.normalize("NFD", word[-1])) == 3


def clean(monkeypatch: pytest.MonkeyPatch, rows: int, seed: int) -> list[tuple[str, str]]:
    """The same rows, labelled by the grammar: without the wrong labels."""
    with monkeypatch.context() as patched:
        patched.setattr(sample, "NOISE", 0.0)
        return generate(rows, seed)


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


@pytest.mark.parametrize("seed", [0, 1])
def test_two_to_four_in_a_hundred_labels_are_wrong(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = zip(generate(5000, seed), clean(monkeypatch, 5000, seed), strict=True)
    assert 0.02 < sum(given != right for given, right in pairs) / 5000 < 0.04


def test_words_follow_zipfs_law() -> None:
    """Frequency falls as 1/rank below the most frequent words, and many words are rare."""
    counts = Counter(word for text, _ in generate(8000, seed=0) for word in text.split())
    ranked = [count for _, count in counts.most_common()]
    slope = math.log(ranked[20] / ranked[1000]) / math.log(1000 / 20)
    assert 0.8 < slope < 1.2
    assert sum(count == 1 for count in ranked) > 0.3 * len(ranked)


def test_a_list_is_drawn_by_one_over_rank() -> None:
    rng = random.Random(0)
    counts = Counter(Ranked("abcd").draw(rng) for _ in range(25000))
    for rank, letter in enumerate("abcd", 1):
        assert counts[letter] == pytest.approx(12000 / rank, rel=0.05)


@pytest.mark.parametrize("pair", [("은", "는"), ("이", "가")])
def test_particles_agree_with_the_final_consonant(pair: tuple[str, str]) -> None:
    nouns = "|".join(sorted(NOUNS, key=len, reverse=True))
    pattern = re.compile(rf"(?:^| )({nouns})({'|'.join(pair)}) ")
    found = {
        match.groups() for text, _ in generate(8000, seed=0) for match in pattern.finditer(text)
    }
    assert len({noun for noun, _ in found}) > 0.9 * len(NOUNS)
    for noun, particle in found:
        assert particle == pair[0 if has_final(noun) else 1], noun
    assert topic("결말") == "결말은" and subject("연기") == "연기가"


VERB, NOUN = Kind.VERB, Kind.NOUN


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        (Word("지루하"), "지루하다 지루해요 지루해 지루합니다 지루함 지루한데 지루할 지루했다"),
        (Word("재밌"), "재밌다 재밌어요 재밌어 재밌습니다 재밌음 재밌는데 재밌을 재밌었다"),
        (Word("좋"), "좋다 좋아요 좋아 좋습니다 좋음 좋은데 좋을 좋았다"),
        (Word("아쉽"), "아쉽다 아쉬워요 아쉬워 아쉽습니다 아쉬움 아쉬운데 아쉬울 아쉬웠다"),
        (Word("예쁘"), "예쁘다 예뻐요 예뻐 예쁩니다 예쁨 예쁜데 예쁠 예뻤다"),
        (Word("뛰어나"), "뛰어나다 뛰어나요 뛰어나 뛰어납니다 뛰어남 뛰어난데 뛰어날 뛰어났다"),
        (Word("멋지"), "멋지다 멋져요 멋져 멋집니다 멋짐 멋진데 멋질 멋졌다"),
        (Word("세련되"), "세련되다 세련돼요 세련돼 세련됩니다 세련됨 세련된데 세련될 세련됐다"),
        (Word("없"), "없다 없어요 없어 없습니다 없음 없는데 없을 없었다"),
        (Word("빛나", VERB), "빛난다 빛나요 빛나 빛납니다 빛남 빛나는데 빛날 빛났다"),
        (
            Word("늘어지", VERB),
            "늘어진다 늘어져요 늘어져 늘어집니다 늘어짐 늘어지는데 늘어질 늘어졌다",
        ),
        (Word("않", VERB), "않는다 않아요 않아 않습니다 않음 않는데 않을 않았다"),
        (Word("최고", NOUN), "최고다 최고예요 최고야 최고입니다 최고임 최고인데 최고일 최고였다"),
        (
            Word("걸작", NOUN),
            "걸작이다 걸작이에요 걸작이야 걸작입니다 걸작임 걸작인데 걸작일 걸작이었다",
        ),
        (Word("아니"), "아니다 아니에요 아니야 아닙니다 아님 아닌데 아닐 아니었다"),
    ],
    ids=lambda value: value.stem if isinstance(value, Word) else "",
)
def test_endings_fit_the_stem(word: Word, forms: str) -> None:
    made = (
        word.plain(),
        word.polite(),
        word.casual(),
        word.formal(),
        word.noted(),
        word.whereas(),
        word.prospective(),
        word.past().plain(),
    )
    assert " ".join(made) == forms


@pytest.mark.parametrize(
    ("pattern", "label"),
    [
        (r"^(전작|원작)보다 (더 |훨씬 )?(지루|재미없|별로|최악)", "negative"),
        (r"^(전작|원작)보다 (더 |훨씬 )?(재밌|재미있|훌륭|최고)", "positive"),
        (r"^(전작|원작)이 (더|훨씬) (지루|재미없|별로|최악)", "positive"),
        (r"^(전작|원작)이 (더|훨씬) (재밌|재미있|훌륭|최고)", "negative"),
        (r"^(전작|원작)만큼 (재밌|재미있|훌륭하)지", "negative"),
        (r"지루할 (줄|줄로만|거라고?) .*(아니|착각|오해|오산)", "positive"),
        (r"(재밌|재미있)을 (줄|줄로만|거라고?) .*(아니|착각|오해|오산)", "negative"),
        (r"(재밌|훌륭하|대단하)다는 말은 .*(거짓말|틀린 말)", "negative"),
        (r"(지루하|유치하|어색하)다는 말은 .*(거짓말|틀린 말)", "positive"),
        (
            r"(연기|음악|영상|결말)(은|는) (좋|훌륭하|완벽하)긴 (한데|했지만|하지만|해도) ",
            "negative",
        ),
        (
            r"(연기|음악|영상|결말)(은|는) (뻔하|어색하|아쉽)긴 (한데|했지만|하지만|해도) ",
            "positive",
        ),
        (r"\. \S+(이|가) (좀 )?(좋|훌륭하|멋지|완벽하)긴 (했지만|하지만|해도)", "negative"),
        (r"^최악(의 [^일]+|이에요|이다|임|)\W*$", "negative"),
        (r"^최고(의 [^일]+|예요|다|임|)\W*$", "positive"),
        (r"추천하[지진].* 않", "negative"),
    ],
)
def test_composition_decides_the_label(
    pattern: str, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = clean(monkeypatch, 20000, seed=0)
    found = [(text, given) for text, given in rows if re.search(pattern, text)]
    assert len(found) >= 5
    assert not [text for text, given in found if given != label]


def test_every_polarity_comes_with_either_label() -> None:
    """No word of the composed reviews tells the label for certain."""
    rows = generate(8000, seed=0)
    for word in ("지루하", "재밌", "훌륭하", "뻔하"):
        counts = Counter(label for text, label in rows if word in text)
        assert min(counts[label] for label in LABELS) > 0.15 * sum(counts.values()), word


def test_character_ngrams_do_not_solve_it() -> None:
    train = generate(6000, seed=0)
    test = generate(1000, seed=1, exclude=[text for text, _ in train])
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True)
    features = vectorizer.fit_transform(text for text, _ in train)
    model = LogisticRegression(max_iter=200).fit(features, [label for _, label in train])
    score = model.score(
        vectorizer.transform(text for text, _ in test), [label for _, label in test]
    )
    assert 0.7 < score < 0.86


def test_what_visitors_type_is_no_row_of_the_sample() -> None:
    texts = set(NEGATIVE + POSITIVE)
    assert len(texts) == 50
    train = generate(48000, seed=0)
    rows = {text for text, _ in [*train, *generate(2000, 1, [text for text, _ in train])]}
    assert not rows & texts
