"""The built-in sample: synthetic Korean film reviews, for trying out the whole pipeline.

It is no benchmark: its sentences come from a grammar. Some are short judgements whose
words tell the label ("최고의 영화", "돈 아깝다"). In the others composition decides, so that
a bag of character n-grams cannot solve it: a negation, a quotation that a far word turns
("재밌다고는 ... 못 하겠다"), a concession, an expectation, a comparison, an afterthought.
Words follow Zipf's law, so that some are rare. As in real ratings some labels are wrong:
`NOISE` of all rows, training and test rows alike, which no model can get right.
"""

import random
from collections.abc import Callable, Sequence

from pruneloop.data.korean import Kind, Word, subject, topic
from pruneloop.data.sample_verdicts import VERDICTS
from pruneloop.data.sample_words import (
    AFTERWARDS,
    ASIDES,
    ASPECTS,
    BELITTLING,
    CONFIRMED,
    DEGREES,
    OPENERS,
    PLAIN_DEGREES,
    QUOTES,
    REFUTED,
    RIVALS,
    SAID,
    SETTINGS,
    STRESSED,
    Ranked,
)

LABELS = ("negative", "positive")
NOISE = 0.03
"""The share of rows whose label is turned round."""

_REGISTERS: Ranked[Callable[[Word], str]] = Ranked(
    [Word.plain, Word.polite, Word.noted, Word.exclaimed, Word.formal, Word.casual]
)
_TAILS = Ranked(["", ".", "!", "..", " ㅋㅋ", " ㅠㅠ", "...", " ㅎㅎ", "~", ";;", " ㅋㅋㅋ"])
_GROUPS = ("p", "p", "p", "a", "a", "c", "c", "w", "w")


class _Clauses:
    """Writes the clauses of one review: its register stays the same over all of them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._register = _REGISTERS.draw(rng)
        self._past = rng.random() < 0.35

    def _very(self, word: Word, share: float) -> str:
        named = word.kind is Kind.NOUN and not word.stem.endswith("적")
        return self._maybe(PLAIN_DEGREES if named else DEGREES, share)

    def _maybe(self, words: Ranked[str], share: float) -> str:
        return words.draw(self._rng) + " " if self._rng.random() < share else ""

    def _end(self, word: Word) -> str:
        return self._register(word.past() if self._past else word)

    def _end_verdict(self, word: Word) -> str:
        # Nobody writes 추천했다 of what they recommend.
        return self._register(word) if word.kind is Kind.VERB else self._end(word)

    def _one(self, *choices: str) -> str:
        return self._rng.choice(choices)

    def _about(self, besides: str = "") -> tuple[str, str]:
        """Return a noun to speak about, and its group: none of `besides`."""
        group = self._rng.choice([group for group in _GROUPS if group not in besides])
        return ASPECTS[group].draw(self._rng), group

    def _said(self, label: int, group: str) -> Word:
        return SAID[label][group].draw(self._rng)

    def _marked(self, noun: str) -> str:
        return (topic if self._rng.random() < 0.5 else subject)(noun) + " "

    # -- clauses: what a main clause may be --------------------------------------------

    def _short(self, label: int) -> str:
        """One short judgement, or two that agree."""
        first = self._maybe(SETTINGS, 0.3) + self._maybe(STRESSED, 0.05) + self._verdict(label)
        if self._rng.random() < 0.15:
            return f"{first} {AFTERWARDS.draw(self._rng)}"
        if self._rng.random() < 0.65:
            return first
        return first + self._one(". ", " ", ", ", "! ", ".. ") + self._verdict(label)

    def _verdict(self, label: int) -> str:
        kind = self._rng.random()
        if kind < 0.6:
            return self._rng.choice(VERDICTS[label])(self._end_verdict, self._rng)
        if kind < 0.75:
            return self._of_film(label)
        word = self._said(label, "w")
        return self._very(word, 0.4) + self._end(word)

    def _of_film(self, label: int) -> str:
        """훌륭한 영화, 최악의 작품이네요."""
        word = self._describing(label, "w")
        noun = word.before_noun() + " " + self._one("영화", "작품", "드라마")
        ends = self._rng.random() < 0.6
        return self._very(word, 0.3) + (self._end(Word(noun, Kind.NOUN)) if ends else noun)

    def _describing(self, label: int, group: str) -> Word:
        """Return what may stand before a noun: 지루한, 최고의, but not 졸작인."""
        while True:
            word = self._said(label, group)
            if word.kind is not Kind.NOUN or word.stem.endswith(("적", "최고", "최악")):
                return word

    def _clause(self, label: int, besides: str = "") -> str:
        forms = (self._plain, self._negated, self._quoted, self._lacking)
        return self._rng.choices(forms, (22, 42, 26, 10))[0](label, besides)

    def _plain(self, label: int, besides: str) -> str:
        noun, group = self._about(besides)
        word = self._said(label, group)
        return self._marked(noun) + self._very(word, 0.5) + self._end(word)

    def _negated(self, label: int, besides: str) -> str:
        """연기가 전혀 지루하지 않아요; 하나도 안 지루함."""
        noun, group = self._about(besides)
        if self._rng.random() < 0.25:
            short = SAID[1 - label]["안"].draw(self._rng)
            noun = subject(self._one("영화", "내용", "스토리"))
            return f"{noun} {self._one('하나도 ', '별로 ', '전혀 ', '')}안 {self._end(short)}"
        word = self._said(1 - label, group)
        while word.stem.endswith("없"):
            word = self._said(1 - label, group)
        denied = word.denied() + (self._one("", "", "는") if word.denial().stem == "않" else "")
        little = self._maybe(BELITTLING, 0.5)
        return f"{subject(noun)} {little}{denied} {self._end(word.denial())}"

    def _quoted(self, label: int, besides: str) -> str:
        """재밌다고는 솔직히 못 하겠다; 왜 지루하다고 하는지 알겠음."""
        lead, form, joint, keeping, turning = self._rng.choice(QUOTES)
        turned = bool(turning) and (not keeping or self._rng.random() < 0.5)
        noun, group = self._about(besides)
        word = self._said(label ^ turned, group)
        head = self._rng.choice(turning if turned else keeping)
        quote = getattr(word, form)() + joint
        aside, middle = self._maybe(ASIDES, 0.6), self._very(word, 0.3)
        return f"{lead}{subject(noun)} {middle}{quote} {aside}{self._register(head)}"

    def _lacking(self, label: int, besides: str) -> str:
        """재밌는 구석이 하나도 없다; 지루한 대목이 많아요."""
        rng = self._rng
        turned = rng.random() < 0.5
        word = self._describing(label ^ turned, self._one("p", "w"))
        noun = subject(self._one("구석", "부분", "장면", "대목"))
        if turned:
            head = self._one("하나도 ", "전혀 ", "끝까지 ", "") + self._end(Word("없"))
        else:
            head = self._one("꽤 ", "정말 ", "참 ", "너무 ") + self._end(Word("많"))
        adnominal = word.stem + "인" if word.kind is Kind.NOUN else word.before_noun()
        return f"{adnominal} {noun} {self._maybe(ASIDES, 0.3)}{head}"


class _Reviewer(_Clauses):
    """Writes one review, of one clause or several."""

    def write(self, label: int) -> str:
        """Return a review whose label is decided by its words."""
        rng = self._rng
        if rng.random() < 0.17:
            text = self._short(label)
        else:
            forms = (
                self._agreeing,
                self._clause,
                self._conceding,
                self._expecting,
                self._comparing,
                self._afterthought,
            )
            text = rng.choices(forms, (3, 20, 20, 20, 22, 15))[0](label)
            text = self._maybe(OPENERS, 0.2) + text
        return text + _TAILS.draw(rng)

    def _agreeing(self, label: int) -> str:
        """연기도 좋고 음악도 훌륭해요."""
        first, group = self._about("w")
        second, other = self._about(group)
        one, two = self._said(label, group), self._said(label, other)
        return f"{first}도 {one.linked()} {second}도 {self._very(two, 0.3)}{self._end(two)}"

    def _yielding(self, word: Word) -> str:
        """The ending of the clause that does not count."""
        if self._rng.random() < 0.4:
            return word.granted() + self._one(" 한데", " 하지만", " 해도", " 했지만")
        word = word.past() if self._past else word
        return word.whereas() if self._rng.random() < 0.6 else word.but()

    def _conceding(self, label: int) -> str:
        """연기는 좋은데 스토리가 너무 뻔함."""
        noun, group = self._about("w")
        word = self._said(1 - label, group)
        first = f"{topic(noun)} {self._very(word, 0.3)}{self._yielding(word)}"
        return f"{first} {self._clause(label, group)}"

    def _expecting(self, label: int) -> str:
        self._past = True
        if self._rng.random() < 0.2:
            return self._hoping(label)
        return (self._mistaken if self._rng.random() < 0.5 else self._foreseen)(label)

    def _hoping(self, label: int) -> str:
        """기대 안 했는데 내용이 생각보다 재밌었어요."""
        hope = self._one("기대 안 했는데", "큰 기대 없이 봤는데", "별 기대 안 하고 봤는데")
        fear = self._one("기대하고 봤는데", "기대가 컸는데", "잔뜩 기대했는데")
        led = (hope, fear)[label ^ (self._rng.random() < 0.6)]
        surprise = self._one("생각보다 ", "의외로 ", "예상외로 ", "")
        noun, group = self._about()
        middle = subject(noun) + " " if self._rng.random() < 0.6 else ""
        word = self._said(label, group if middle else "w")
        return f"{led} {middle}{surprise}{self._end(word)}"

    def _mistaken(self, label: int) -> str:
        """지루할 줄 알았는데 생각보다 재밌었어요."""
        word = self._said(1 - label, "w")
        middle = self._one("생각보다 ", "의외로 ", "예상외로 ", "보니까 ", "오히려 ")
        return f"{self._feared(word)} {middle}{self._end(self._said(label, 'w'))}"

    def _foreseen(self, label: int) -> str:
        """재밌을 줄 알았는데 착각이었다; 지루할 거라 예상했는데 역시나였다."""
        turned = self._rng.random() < 0.6
        word = self._said(label ^ turned, "w")
        ending = self._rng.choice(REFUTED if turned else CONFIRMED)
        return f"{self._feared(word)} {self._maybe(ASIDES, 0.4)}{self._end(ending)}"

    def _feared(self, word: Word) -> str:
        return word.prospective() + self._one(
            " 줄 알았는데", " 거라고 생각했는데", " 거라 예상했는데", " 줄로만 알았는데"
        )

    def _comparing(self, label: int) -> str:
        """전작보다 지루하다; 전작이 훨씬 지루했다; 전작만큼 지루하지는 않다."""
        rng = self._rng
        rival, more = RIVALS.draw(rng), self._one("훨씬 ", "더 ", "")
        form = rng.random()
        if form < 0.25:
            return f"{rival}보다 {more}{self._end(self._said(label, 'w'))}"
        word = self._said(1 - label, "w")
        if form < 0.5:
            rather = "" if label else self._one("차라리 ", "")
            return f"{rather}{subject(rival)} {more or '더 '}{self._end(word)}"
        if form < 0.65:
            return f"{rival}만큼 {word.denied()} {self._end(word.denial())}"
        mine = self._one("이번 편", "이 영화", "이번 작품", "이 작품")
        own = self._said(label, "w")
        if form < 0.85:
            return f"{topic(rival)} {self._yielding(word)} {topic(mine)} {self._end(own)}"
        return f"{topic(mine)} {self._yielding(own)} {topic(rival)} {self._end(word)}"

    def _afterthought(self, label: int) -> str:
        """추천한다. 결말이 좀 아쉽긴 하지만; 처음엔 지루했는데 볼수록 재밌다."""
        rng = self._rng
        noun, group = self._about("w")
        word, form = self._said(1 - label, group), rng.random()
        if form < 0.4:
            main = self._verdict(label) if rng.random() < 0.5 else self._clause(label, group)
            tail = self._one("하지만", "해도", "했지만")
            return f"{main}. {subject(noun)} {self._one('좀 ', '')}{word.granted()} {tail}"
        if form < 0.7:
            turn = self._one("그래도", "하지만", "근데", "그런데도")
            return f"{subject(noun)} {self._end(word)}. {turn} {self._clause(label, group)}"
        first = self._one("처음엔", "초반에는", "볼 때는", "처음 봤을 때는")
        later = self._one("볼수록", "다시 보니", "갈수록", "지나고 보니")
        other = self._said(1 - label, "w").past()
        return f"{first} {other.whereas()} {later} {self._end(self._said(label, 'w'))}"


def _row(rng: random.Random) -> tuple[str, int]:
    label = rng.randrange(2)
    text = _Reviewer(rng).write(label)
    return text, label ^ (rng.random() < NOISE)


def generate(rows: int, seed: int, exclude: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Generate `rows` distinct (text, label name) pairs, none of them in `exclude`."""
    rng = random.Random(seed)
    seen = set(exclude)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < rows:
        text, label = _row(rng)
        if text not in seen:
            seen.add(text)
            pairs.append((text, LABELS[label]))
    return pairs
