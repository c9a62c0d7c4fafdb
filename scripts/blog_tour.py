"""블로그 글 "torch.nn.utils.prune 모듈로 BERT 다이어트 시키기"의 단계를 pruneloop로 따라가기.

    python scripts/blog_tour.py

KoBERT와 모양이 같은 모델(임의의 가중치)에서 글이 보여 준 수를 그대로 다시 얻는다. 실제
KoBERT로 해 보려면: python scripts/blog_tour.py --model monologg/kobert
"""

import argparse

import torch
from transformers import BertConfig, BertModel

from pruneloop.pruning import (
    GlobalL1,
    Masks,
    RandomGlobal,
    StructuredLn,
    drops_by_amount,
    prunable_weights,
)
from pruneloop.pruning.torch_form import from_torch, to_torch

KEY = "encoder.layer.0.attention.self.key.weight"


def load(name: str | None) -> BertModel:
    """KoBERT를 읽거나, 모양이 같은 모델을 만든다."""
    if name:
        return BertModel.from_pretrained(name, dtype=torch.float32)
    torch.manual_seed(0)
    return BertModel(BertConfig(vocab_size=8002, pad_token_id=1))


def main() -> None:
    """글의 순서대로 가지를 치고 수를 찍는다."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="허브 이름이나 폴더 (없으면 임의의 가중치)")
    model = load(parser.parse_args().model)
    print(f"0. BertModel의 파라미터: {sum(p.numel() for p in model.parameters()):,}개")

    one = prunable_weights(model, scope=[], include=[KEY])
    (key,) = one.values()
    masks = RandomGlobal(seed=0).prune(one, Masks.dense(one), [round(0.3 * key.numel())])
    print(f"1. 첫 층 key 행렬의 30 %를 임의로: {masks.zeros:,} / {masks.prunable:,}개가 0")
    masks.zero_weights(one)

    structured = StructuredLn(n=2, dim=1)
    columns = structured.units(masks)
    again = structured.prune(one, masks, [round(0.3 * columns[0])])
    lost = columns[0] - structured.units(again)[0]
    print(f"2. 그 위에 L2 노름이 작은 열 30 %를: {columns[0]}열 중 {lost}열이 사라짐")
    print(f"   마스크는 겹친다: 0이 {masks.zeros:,}개에서 {again.zeros:,}개로, 되살아난 것은 없음")
    again.zero_weights(one)

    to_torch(model, again)
    names = [
        name for name, _ in model.get_submodule(KEY.removesuffix(".weight")).named_parameters()
    ]
    print(f"3. torch의 형태로: 파라미터 {names}, 버퍼 weight_mask")
    from_torch(model)
    print(f"   다시 평범하게(영구적으로): state_dict에 마스크 {_masks(model)}개")

    model = load(parser.parse_args().model)
    qkv = prunable_weights(model, scope=["qkv"])
    total = sum(weight.numel() for weight in qkv.values())
    masks = Masks.dense(qkv)
    masks = GlobalL1().prune(qkv, masks, [round(0.2 * total)])
    masks.zero_weights(qkv)
    print(f"4. q/k/v {len(qkv)}개 행렬 전체에서 |w|가 작은 20 %를 한꺼번에:")
    for layer in range(0, 36, 3):
        parts = list(masks.items())[layer : layer + 3]
        shown = ", ".join(
            f"{name.split('.')[-2]} {100 * (~mask).sum().item() / mask.numel():.2f} %"
            for name, mask in parts
        )
        print(f"   층 {layer // 3:>2}: {shown}")
    print(f"   전체: {masks.zeros:,} / {total:,}개 = {100 * masks.zeros / total:.2f} %")

    whole = prunable_weights(model, scope=["qkv", "embeddings", "encoder_pooler"])
    size = sum(weight.numel() for weight in whole.values())
    wider = Masks.from_zeros(whole)
    (drop,) = drops_by_amount([size - wider.zeros], 1, 0.2)[0]
    wider = GlobalL1().prune(whole, wider, [drop])
    print(f"5. 임베딩과 풀러까지 {len(whole)}개 행렬에서 남은 것의 20 %를 더:")
    print(f"   전체: {wider.zeros:,} / {size:,}개 = {100 * wider.zeros / size:.2f} %")
    print("다음 단계(글의 제안): 미세조정과 번갈아 되풀이하기")
    print("  python train.py experiment=kobert_nsmc")


def _masks(model: BertModel) -> int:
    return sum("mask" in name for name in model.state_dict())


if __name__ == "__main__":
    main()
