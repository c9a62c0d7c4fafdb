"""Short judgements as visitors type them, and how many of them a checkpoint gets right."""

from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

NEGATIVE = """
최악의 영화. 돈이 아깝다
진짜 최악이네 이게 영화냐
최악입니다 정말로
내가 본 영화 중에 최악
올해 본 영화 중 최악이었어요
너무 지루해서 중간에 나왔어요
지루하다 지루해
영화가 전체적으로 지루했다
지루하고 재미없어요
재미없다 진짜
정말 더럽게 재미없네
재미가 하나도 없었습니다 ㅡㅡ
이렇게 재미없는 영화는 처음이다
기대했는데 별로였어요
그냥 그래요 별로다
생각보다 별로네요 ㅠㅠ
돈 아까워 죽겠네
돈이 너무 아까웠습니다 ㅠ
영화관에서 보기엔 돈 아깝다
시간 아깝다 진심
내 시간이 아까워요
시간이 아까운 영화
저는 추천하지 않아요
아무한테도 추천하지 않는다
별로 추천하고 싶지 않네요
""".strip().splitlines()

POSITIVE = """
최고의 영화! 강력 추천합니다 여러분
진짜진짜 최고예요 ㅎㅎ
내 인생 영화 최고
최고다 정말 최고
배우들 연기 최고
역시 최고입니다 감독님
훌륭하다 정말로
정말 훌륭한 영화였습니다 ㅎ
연기도 연출도 훌륭합니다
훌륭한 작품이네요 잘 봤습니다
너무너무 재미있다
오랜만에 재미있게 봤어요
재미있는 영화예요 추천해요
정말 재미있었습니다!!
재밌어요 ㅋㅋㅋ
가족이랑 봤는데 재미있었어요
아이들도 재미있게 봤네요
돈이 아깝지 않은 영화
돈 하나도 안 아까워요
시간 가는 줄 모르고 재밌게 봤어요
시간이 조금도 아깝지 않았습니다
추천한다 꼭 보길
추천합니다 여러분
친구한테 추천했어요
지루하지 않고 재미있다
""".strip().splitlines()


def wrong(checkpoint: Path) -> list[str]:
    """Return the sentences that a checkpoint's folder gets wrong."""
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    texts = NEGATIVE + POSITIVE
    batch = tokenizer(texts, padding=True, return_token_type_ids=False, return_tensors="pt")
    with torch.inference_mode():
        found = model(**batch).logits.argmax(-1).tolist()
    labels = ["negative"] * len(NEGATIVE) + ["positive"] * len(POSITIVE)
    triples = zip(texts, found, labels, strict=True)
    return [text for text, number, label in triples if model.config.id2label[number] != label]
