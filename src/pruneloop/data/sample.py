"""The built-in sample: synthetic Korean reviews whose label follows from word order.

It exists so that the whole pipeline can be tried without any download. It is no
benchmark: its sentences come from a small grammar. The grammar makes composition
decide the label, so that a bag of character n-grams cannot solve it. A polarity word
is flipped by a marker far behind it ("... 훌륭하다고는 ... 말할 수 없다"), and in a
concession ("... 좋지만 ...") only the clause after `-지만` counts.
"""

import random
from collections.abc import Sequence

LABELS = ("negative", "positive")

_ASPECTS = (
    "연기 줄거리 음악 영상 연출 대사 배우 결말 장면 편집 분위기 주인공 촬영 각본 감독 "
    "초반부 후반부 설정 화면 목소리 주제 전개 조명 액션 반전"
).split()

# (negative stems, positive stems), indexed by the label.
_STEMS = (
    "지루하 엉성하 유치하 형편없 답답하 어색하 산만하 뻔하 실망스럽 허술하 평면적이 아쉽".split(),
    "훌륭하 좋 뛰어나 재미있 감동적이 아름답 신선하 완벽하 탄탄하 매력적이 인상적이 새롭".split(),
)

_DEGREES = ("", "정말 ", "꽤 ", "너무 ", "조금 ", "무척 ", "생각보다 ", "확실히 ")

_ASIDES = (
    "",
    "솔직히 ",
    "아무리 봐도 ",
    "몇 번을 다시 봐도 ",
    "끝까지 본 사람이라면 ",
    "극장을 나오면서 ",
    "친구에게 자신 있게 ",
    "곰곰이 생각해 보면 ",
)

# A frame behind "...다고(는)": one ending keeps the polarity, the other one flips it.
_FRAMES = (
    ("말할 수 ", ("있다", "없다")),
    ("말할 수 ", ("있어요", "없어요")),
    ("하는 말에 ", ("동의한다", "동의하지 않는다")),
    ("하는 평은 ", ("맞는 말이에요", "틀린 말이에요")),
)

_TAILS = ("", "", ".", "!", "..", " ㅋㅋ", " ㅠㅠ")


def _has_final(word: str) -> bool:
    return (ord(word[-1]) - 0xAC00) % 28 != 0


def _topic(noun: str) -> str:
    return noun + ("은" if _has_final(noun) else "는")


def _subject(noun: str) -> str:
    return noun + ("이" if _has_final(noun) else "가")


def _polite(stem: str) -> str:
    """The spoken ending -아요/-어요 of one of the stems above."""
    if stem.endswith("하"):
        return stem[:-1] + "해요"
    if stem.endswith("적이"):
        return stem + "에요"
    if stem[-1] in "럽답쉽롭":  # ㅂ-irregular: 아름답다, 아름다워요
        return stem[:-1] + chr(ord(stem[-1]) - 17) + "워요"
    if stem.endswith("나"):
        return stem + "요"
    return stem + ("아요" if stem.endswith("좋") else "어요")


def _quoted(stem: str) -> str:
    """The quoted form: -다고 for adjectives, -라고 behind the copula."""
    return stem + ("라고" if stem.endswith("적이") else "다고")


def _sentence(rng: random.Random) -> tuple[str, int]:
    label = rng.randrange(2)
    noun, degree = rng.choice(_ASPECTS), rng.choice(_DEGREES)
    if rng.random() < 0.5:
        flipped = int(rng.random() < 0.35)
        stem = rng.choice(_STEMS[label ^ flipped])
        quote = _quoted(stem) + rng.choice((" ", "는 "))
        frame, endings = rng.choice(_FRAMES)
        text = f"{_subject(noun)} {degree}{quote}{rng.choice(_ASIDES)}{frame}"
        text += endings[flipped]
    else:
        stem = rng.choice(_STEMS[label])
        ending = stem + "다" if rng.randrange(2) else _polite(stem)
        text = f"{rng.choice(_ASIDES)}{_topic(noun)} {degree}{ending}"
    if rng.random() < 0.3:
        stem = rng.choice(_STEMS[rng.randrange(2)])
        text = f"{_topic(rng.choice(_ASPECTS))} {rng.choice(_DEGREES)}{stem}지만 {text}"
    return text + rng.choice(_TAILS), label


def generate(rows: int, seed: int, exclude: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Generate `rows` distinct (text, label name) pairs, none of them in `exclude`."""
    rng = random.Random(seed)
    seen = set(exclude)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < rows:
        text, label = _sentence(rng)
        if text not in seen:
            seen.add(text)
            pairs.append((text, LABELS[label]))
    return pairs
