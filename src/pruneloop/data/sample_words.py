"""The words of the built-in sample, each list from the frequent to the rare.

Frequencies fall by Zipf's law over a list's ranks (`Ranked`): its order matters.
"""

import random
from bisect import bisect
from collections.abc import Iterable
from itertools import accumulate
from typing import Generic, TypeVar

from pruneloop.data.korean import Kind, Word

T = TypeVar("T")


class Ranked(Generic[T]):
    """Items that are drawn with a weight of 1/rank."""

    def __init__(self, items: Iterable[T]) -> None:
        self.items = list(items)
        self._sums = list(accumulate(1 / rank for rank in range(1, len(self.items) + 1)))

    def draw(self, rng: random.Random) -> T:
        """Draw one of the items."""
        return self.items[bisect(self._sums, rng.random() * self._sums[-1])]


def _listed(text: str) -> Ranked[str]:
    return Ranked(words.replace("_", " ") for words in text.split())


# What a review talks about. A predicate says which of these groups it fits.
ASPECTS = {
    "p": _listed(
        "스토리 내용 전개 결말 이야기 줄거리 반전 설정 소재 후반부 마무리 각본 초반부 구성 "
        "마지막_장면 서사 대본 개그 세계관 복선 플롯 로맨스 에필로그 도입부 에피소드"
    ),
    "a": _listed(
        "연기 배우들_연기 주인공 캐릭터 배우들 연기력 주연_배우 남주 여주 조연들 주인공_연기 "
        "목소리 감정선 악역 아역_배우 표정 조연_연기 두_사람_호흡 신인_배우 단역들 사투리"
    ),
    "c": _listed(
        "연출 음악 영상 액션 분위기 대사 장면 영상미 편집 화면 감독의_연출 배경음악 촬영 "
        "액션_장면 색감 음향 그래픽 주제가 특수효과 의상 조명 미장센 세트 카메라_움직임 자막"
    ),
    "w": _listed("영화 작품 이_영화 드라마 이_작품 이번_편 영화_자체 애니 시리즈 다큐 단편"),
}

# A stem, and behind a slash its groups; `!` marks a verb, `=` a noun, `-` what 안 may negate.
_NEGATIVE = """
지루하-/pwc 별로=/pacw 재미없/pw 뻔하-/p 최악=/pacw 아쉽/pac 유치하-/pcw 실망스럽/pacw
어색하/ac 엉망=/pcw 형편없/pacw 답답하-/pa 허술하/pc 노잼=/w 어설프/pac 억지스럽/pa
지겹-/pw 산만하/pc 진부하/p 늘어지!/p 엉성하/pc 시시하/pw 식상하-/pc 졸작=/w 밋밋하/pc
오글거리!/ac 허무하/p 거슬리!/ac 따분하/pw 망작=/w 뜬금없/p 촌스럽/c 싱겁/p 조잡하/c
부자연스럽/ac 황당하/p 빈약하/pc 한심하/pw 불쾌하/pw 과장되/a 느슨하/p 무미건조하/pac
지지부진하/p 작위적=/pa 불친절하/p 상투적=/pc 조악하/c 참담하/w 장황하/p 구태의연하/p
조야하/c 졸렬하/p 맹탕=/pw 낙제점=/pac 난잡하/pc 졸속=/p 함량_미달=/pacw
"""
_POSITIVE = """
좋-/pac 재밌-/pw 최고=/pacw 재미있/pw 훌륭하/pacw 감동적=/pw 완벽하/pacw 멋지/acw 탄탄하/p
뛰어나/ac 대단하/pacw 인상적=/pac 신선하/pc 명작=/w 아름답/c 돋보이!/ac 자연스럽/ac 꿀잼=/w
매력적=/pa 흥미롭/p 놀랍/pac 빛나!/ac 참신하/p 유쾌하/pw 따뜻하/pw 섬세하/ac 볼만하/pcw
걸작=/w 깔끔하/pc 환상적=/cw 짜릿하/pc 강렬하/ac 세련되/c 통쾌하/p 사랑스럽/a 압도적=/ac
예쁘/c 수작=/w 감각적=/c 기발하/p 생생하/ac 치밀하/p 알차/p 독창적=/pc 탁월하/ac 훈훈하/p
애틋하/p 웅장하/c 눈부시/ac 절묘하/pc 만족스럽/pacw 근사하/c 촘촘하/p 독보적=/ac 경이롭/c
유려하/c 백미=/ac 기막히/pc 출중하/a 으뜸=/pac 빼어나/ac
"""


def _parsed(entry: str) -> tuple[Word, str, bool]:
    head, _, groups = entry.replace("_", " ").partition("/")
    stem = head.rstrip("!=-")
    kind = {"!": Kind.VERB, "=": Kind.NOUN}.get(head[-1], Kind.ADJECTIVE)
    return Word(stem, kind), groups, head.endswith("-")


def _by_group(text: str) -> dict[str, Ranked[Word]]:
    entries = [_parsed(entry) for entry in text.split()]
    found = {
        group: Ranked(word for word, groups, _ in entries if group in groups) for group in ASPECTS
    }
    return found | {"안": Ranked(word for word, _, short in entries if short)}


# By label: negative, positive. "안" holds what the short negation may stand before.
SAID = (_by_group(_NEGATIVE), _by_group(_POSITIVE))

DEGREES = _listed("너무 정말 진짜 꽤 참 완전 굉장히 상당히 무척 확실히 유난히 말도_못_하게")
# What may stand before a noun such as 최고.
PLAIN_DEGREES = _listed("정말 진짜 완전 그냥 역시")
BELITTLING = _listed("그렇게 전혀 별로 그다지 하나도 딱히 조금도 결코")
ASIDES = _listed(
    "솔직히 아무리_봐도 개인적으로 끝까지_보고_나서도 곰곰이_생각해_보면 몇_번을_다시_봐도 "
    "극장을_나오면서 원작_팬으로서 남들이_뭐라_하든 며칠이_지난_지금도 "
    "이_장르를_좋아하는_사람으로서"
)
SETTINGS = _listed(
    "친구랑_봤는데 극장에서_봤는데 어제_봤는데 가족이랑_봤는데 주말에_봤는데 솔직히_말해서 "
    "집에서_봤는데 혼자_봤는데 시사회로_봤는데 아이들이랑_봤는데 남자친구랑_봤는데 다시_봤는데"
)
STRESSED = _listed("진짜진짜 너무너무 정말정말 와 아 역시")
# What stands behind a judgement, whichever it is.
AFTERWARDS = _listed("진짜 정말 진심 정말로 솔직히 감독님 여러분 진심으로 휴")
OPENERS = _listed("솔직히 진짜 와 역시 음.. 결론은 아무튼 제_기준에는 한마디로")


def _heads(text: str) -> tuple[Word, ...]:
    return tuple(_parsed(entry)[0] for entry in text.split())


# What leads, the form of the quoted word and what joins it; then heads that keep its
# polarity, and heads that turn it.
QUOTES = (
    ("왜 ", "quoted", " 하는지", _heads("알겠 이해가_되!"), _heads("모르겠 이해가_안_되!")),
    ("", "quoted", "", _heads("말할_수_있 말하고_싶"), _heads("말할_수_없 말하고_싶지_않")),
    ("", "quoted", "는", (), _heads("못_하겠 말_못_하겠")),
    ("", "quoted", " 해도", _heads("과언이_아니 틀린_말이_아니"), ()),
    ("", "reported", " 평에", _heads("동의하! 공감하!"), _heads("동의할_수_없 공감이_안_되!")),
    ("", "reported", " 말은", _heads("사실= 맞는_말="), _heads("거짓말= 틀린_말=")),
)
# How it was, behind "... 줄 알았는데".
REFUTED = _heads("전혀_아니 완전히_착각= 그게_아니 제_오해= 큰_오산=")
CONFIRMED = _heads("역시나= 제_예상이_맞 예상대로= 생각한_그대로=")

RIVALS = Ranked("전작 원작 1편 예고편 만화책 전편 소설 리메이크 외전 극장판".split())
