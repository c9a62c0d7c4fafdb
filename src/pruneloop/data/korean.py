"""Korean particles and endings, as far as the built-in sample's sentences need them.

A syllable's code is 0xAC00 + 28 * (21 * initial + vowel) + final, so that changing its
vowel or its final consonant is a sum. Regular stems, those in 하, ㅂ and ㅡ, and the copula
are conjugated; other irregular stems (ㄷ, ㅅ, ㄹ, 르) are not, and the sample has none.
"""

from dataclasses import dataclass
from enum import Enum

_N, _L, _M, _B, _BS, _SS = 4, 8, 16, 17, 18, 20  # final consonants ㄴ ㄹ ㅁ ㅂ ㅄ ㅆ
_A, _EO, _YEO, _O, _EU, _I = 0, 4, 6, 8, 18, 20  # vowels ㅏ ㅓ ㅕ ㅗ ㅡ ㅣ


def _final(word: str) -> int:
    return (ord(word[-1]) - 0xAC00) % 28


def _vowel(syllable: str) -> int:
    return (ord(syllable) - 0xAC00) // 28 % 21


def _shifted(word: str, finals: int = 0, vowels: int = 0) -> str:
    return word[:-1] + chr(ord(word[-1]) + finals + 28 * vowels)


def topic(noun: str) -> str:
    """Return the noun with 은 or 는."""
    return noun + ("은" if _final(noun) else "는")


def subject(noun: str) -> str:
    """Return the noun with 이 or 가."""
    return noun + ("이" if _final(noun) else "가")


def _infinitive(stem: str) -> str:
    """The base of -요, -서 and the past: 지루해, 좋아, 아쉬워, 예뻐, 멋져."""
    last, final, vowel = stem[-1], _final(stem), _vowel(stem[-1])
    if last in "하되":
        return stem[:-1] + {"하": "해", "되": "돼"}[last]
    if stem.endswith("아니"):
        return stem + "어"
    if final == _B:
        return _shifted(stem, finals=-_B) + "워"
    if final:
        bright = vowel in (_A, _O) and final != _SS
        return stem + ("아" if bright else "어")
    if vowel == _I:
        return _shifted(stem, vowels=_YEO - _I)
    if vowel == _EU:
        bright = _vowel(stem[-2]) in (_A, _O)
        return _shifted(stem, vowels=(_A if bright else _EO) - _EU)
    return stem


class Kind(Enum):
    """How a word becomes a predicate; a noun takes the copula 이다."""

    ADJECTIVE = 0
    VERB = 1
    NOUN = 2


@dataclass(frozen=True)
class Word:
    """A predicate: the stem of an adjective or a verb, or a noun."""

    stem: str
    kind: Kind = Kind.ADJECTIVE

    def _joined(self, closed: str, opened: str) -> str:
        return self.stem + (closed if _final(self.stem) else opened)

    def _with(self, final: int, closed: str, soft: str) -> str:
        """Put a consonant under an open stem; `soft` is what stands for it behind ㅂ."""
        if _final(self.stem) == _B:
            return _shifted(self.stem, finals=-_B) + soft
        return self.stem + closed if _final(self.stem) else _shifted(self.stem, finals=final)

    def past(self) -> "Word":
        """지루했, 좋았, 최고였: an adjective's stem, as far as endings go."""
        if self.kind is Kind.NOUN:
            return Word(self._joined("이었", "였"))
        return Word(_shifted(_infinitive(self.stem), finals=_SS))

    def plain(self) -> str:
        """지루하다, 돋보인다, 최고다."""
        if self.kind is Kind.VERB:
            return self._with(_N, "는", "는") + "다"
        return self._joined("이다", "다") if self.kind is Kind.NOUN else self.stem + "다"

    def polite(self) -> str:
        """지루해요, 최고예요."""
        if self.kind is Kind.NOUN:
            return self._joined("이에요", "예요")
        return self.stem + "에요" if self.stem.endswith("아니") else _infinitive(self.stem) + "요"

    def casual(self) -> str:
        """지루해, 최고야."""
        if self.kind is Kind.NOUN:
            return self._joined("이야", "야")
        return self.stem + "야" if self.stem.endswith("아니") else _infinitive(self.stem)

    def formal(self) -> str:
        """지루합니다, 좋습니다, 최고입니다."""
        if self.kind is Kind.NOUN:
            return self.stem + "입니다"
        if _final(self.stem):
            return self.stem + "습니다"
        return _shifted(self.stem, finals=_B) + "니다"

    def exclaimed(self) -> str:
        """지루하네요, 최고네요."""
        return self._joined("이네요", "네요") if self.kind is Kind.NOUN else self.stem + "네요"

    def noted(self) -> str:
        """지루함, 좋음, 최고임: the clipped ending of comments."""
        return self.stem + "임" if self.kind is Kind.NOUN else self._with(_M, "음", "움")

    def quoted(self) -> str:
        """지루하다고, 최고라고."""
        return self._joined("이라고", "라고") if self.kind is Kind.NOUN else self.plain() + "고"

    def reported(self) -> str:
        """지루하다는, 최고라는."""
        return self.quoted()[:-1] + "는"

    def before_noun(self) -> str:
        """지루한, 재밌는, 아쉬운; 최고의, 감동적인."""
        if self.kind is Kind.NOUN:
            return self.stem + ("의" if self.stem in ("최고", "최악") else "인")
        if self.kind is Kind.VERB or _final(self.stem) in (_SS, _BS):
            return self.stem + "는"
        return self._with(_N, "은", "운")

    def prospective(self) -> str:
        """지루할, 좋을, 최고일."""
        return self.stem + "일" if self.kind is Kind.NOUN else self._with(_L, "을", "울")

    def whereas(self) -> str:
        """지루한데, 재밌는데, 최고인데."""
        return (self.stem + "인" if self.kind is Kind.NOUN else self.before_noun()) + "데"

    def but(self) -> str:
        """지루하지만, 최고지만."""
        return self._joined("이지만", "지만") if self.kind is Kind.NOUN else self.stem + "지만"

    def granted(self) -> str:
        """지루하긴, 최고긴: of 긴 한데, 긴 하지만."""
        return self._joined("이긴", "긴") if self.kind is Kind.NOUN else self.stem + "긴"

    def linked(self) -> str:
        """지루하고, 최고이고."""
        return self.stem + ("이고" if self.kind is Kind.NOUN else "고")

    def because(self) -> str:
        """지루해서, 최고라서."""
        if self.kind is Kind.NOUN:
            return self._joined("이라서", "라서")
        return _infinitive(self.stem) + "서"

    def denied(self) -> str:
        """지루하지, 감동적이지; 명작은: what stands before 않다, or behind a noun 아니다."""
        if self.kind is not Kind.NOUN:
            return self.stem + "지"
        return self.stem + "이지" if self.stem.endswith("적") else topic(self.stem)

    def denial(self) -> "Word":
        """않다 (of a verb 않는다), or 아니다 behind a noun."""
        if self.kind is Kind.NOUN and not self.stem.endswith("적"):
            return Word("아니")
        return Word("않", Kind.VERB if self.kind is Kind.VERB else Kind.ADJECTIVE)
