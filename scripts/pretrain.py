"""Pretrain a BERT of KoBERT's shape on raw reviews, by masked words, for some minutes.

    python scripts/pretrain.py /corpora outputs/kobert_shape --device cuda --minutes 7

Reads `nsmc_raw/` and `kobert_tokenizer/` of the corpora; leaves the model and its tokenizer, as
`model=pretrained model.name=FOLDER` takes them. The rate falls with the time that is left, so
that any number of minutes is a whole schedule.
"""

import argparse
import json
import lzma
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from pruneloop.model.tokenizers import load_kobert_tokenizer  # noqa: E402

WARMUP = 0.05


def read_texts(folder: Path, rows: int | None) -> list[str]:
    """Return the reviews of the raw corpus, or its first ones."""
    (path,) = folder.glob("*.tsv.xz")
    with lzma.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()[1:]
    return [line.split("\t")[1] for line in lines[:rows] if line.count("\t") >= 2]


def batches_by_length(lengths: list[int], size: int, seed: int) -> list[list[int]]:
    """Return the row numbers of an epoch's batches: rows of like length, in mixed order."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randperm(len(lengths), generator=generator).tolist()
    rows = sorted(mixed, key=lengths.__getitem__)  # equal lengths stay mixed
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def endless(
    rows: list[dict[str, list[int]]],
    collator: DataCollatorForLanguageModeling,
    size: int,
    more: int,
) -> Iterator[dict[str, Tensor]]:
    """Yield epoch after epoch, masked anew; `more` processes prepare the batches."""
    lengths, epoch = [len(row["input_ids"]) for row in rows], 0
    while True:
        sampler = batches_by_length(lengths, size, epoch)
        yield from DataLoader(
            rows, batch_sampler=sampler, collate_fn=collator, num_workers=more, pin_memory=more > 0
        )
        epoch += 1


def main() -> None:
    """Pretrain, say how it went, and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--rows", type=int, help="the first ones only")
    for name, default in (("layers", 12), ("hidden", 768), ("batch", 256), ("length", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.manual_seed(0)
    on_gpu = given.device == "cuda"
    tokenizer = load_kobert_tokenizer(str(given.data / "kobert_tokenizer"))
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    texts = read_texts(given.data / "nsmc_raw", given.rows)
    ids = tokenizer(texts, truncation=True, max_length=given.length)["input_ids"]
    collator = DataCollatorForLanguageModeling(tokenizer, pad_to_multiple_of=8 if on_gpu else None)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=given.hidden,
        num_hidden_layers=given.layers,
        num_attention_heads=max(given.hidden // 64, 1),
        intermediate_size=4 * given.hidden,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = BertForMaskedLM(config).to(given.device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), given.rate, (0.9, 0.98), weight_decay=0.01, fused=True
    )
    stream = endless([{"input_ids": row} for row in ids], collator, given.batch, 4 * on_gpu)
    begun, limit, steps, said = time.monotonic(), 60 * given.minutes, 0, []
    for batch in stream:
        done = (time.monotonic() - begun) / limit
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = given.rate * min(done / WARMUP, (1 - done) / (1 - WARMUP))
        moved = {name: value.to(given.device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(given.device, torch.bfloat16, enabled=on_gpu):
            loss = model(**moved).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
        if steps % 200 == 1:  # looking waits for the device
            said.append([steps, float(loss.detach())])
    last = float(loss.detach())
    if not last < float("inf"):
        raise SystemExit(f"the loss is {last} after {steps} steps; try a smaller --rate")
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    rows = steps * given.batch
    print(json.dumps({"steps": steps, "rows": rows, "loss": last, "losses": said}))


if __name__ == "__main__":
    main()
