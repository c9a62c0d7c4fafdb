"""A whole run, against the transformers Trainer loop that a good user would write today.

    python scripts/bench_run.py --data /corpora --hidden 256 --layers 4 --pairs 5 --json mid.json
    python scripts/bench_run.py --rows 1000 --device cuda --precision bf16
    python scripts/bench_run.py --data /corpora --pairs 5 --against sweep
    python scripts/bench_run.py --table mid.json tiny.json

Both begin with the same weights, tokenizer and rows (NSMC's, or the built-in sample's without
--data), train as many epochs a round, and prune 20 % of the encoder's kept weights each round;
the loop by `torch.nn.utils.prune`. Each is a process of its own, in turns: process CPU time, with
one thread on a CPU, and wall time. Every pair has a seed of its own. Prints the medians and writes
all of it as JSON, after every pair: the same command goes on where it was cut off. `--against
sweep` has a sweep of four amounts in the Trainer's place; `--table` writes README's table.
"""

import argparse
import csv
import gzip
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
AMOUNT = 0.2
T_OF_5 = 2.776  # Student's t for 95 % and five seeds
SIZES = (
    *(("rows", 4000), ("test-rows", 1000), ("hidden", 64), ("layers", 2), ("length", 64)),
    *(("batch", 64), ("rounds", 3), ("dense-epochs", 2), ("epochs", 1), ("pairs", 1)),
)

# No import of either side up here: each pays for its own.


# -- what both begin with --------------------------------------------------------------------


def read_rows(data: Path | None, split: str, count: int) -> list[tuple[str, str]]:
    """Return texts and labels, evenly out of NSMC, or of the built-in sample."""
    if data is None:
        from pruneloop.data.sample import generate

        return generate(count, seed=0 if split == "train" else 1)
    path = data / "nsmc" / f"ratings_{split}.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [
            (row["document"], "positive" if row["label"] == "1" else "negative")
            for row in csv.DictReader(file, delimiter="\t")
            if row["document"].strip()
        ]
    return rows[:: max(len(rows) // count, 1)][:count]


def prepare(given: argparse.Namespace, folder: Path) -> None:
    """Write the rows as CSV, and a model with random weights and its tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from pruneloop.model.tokenizers import train_wordpiece

    for split, count in (("train", given.rows), ("test", given.test_rows)):
        rows = read_rows(given.data, split, count)
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
        if split == "train":
            tokenizer = train_wordpiece((text for text, _ in rows), 8002, given.length)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=given.hidden,
        num_hidden_layers=given.layers,
        num_attention_heads=max(given.hidden // 64, 1),
        intermediate_size=4 * given.hidden,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertForSequenceClassification(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


# -- the two sides ---------------------------------------------------------------------------


def our_line(given: argparse.Namespace, folder: Path, out: Path, seed: int) -> list[str]:
    """Return the command of our run."""
    words = {
        "data.path": folder,
        "data.train": "train.csv",
        "data.test": "test.csv",
        "model.name": folder / "model",
        "model.max_length": given.length,
        "finetune.learning_rate": given.rate,
        "finetune.epochs": given.epochs,
        "finetune.dense_epochs": given.dense_epochs,
        "finetune.batch_size": given.batch,
        "finetune.precision": given.precision,
        "prune.amount": AMOUNT,
        "rounds": given.rounds,
        "seed": seed,
        "device": given.device,
        "hydra.run.dir": out,
    }
    line = [sys.executable, str(ROOT / "train.py"), "data=files", "model=pretrained"]
    return line + [f"{key}={value}" for key, value in words.items()]


def sweep_line(given: argparse.Namespace, folder: Path, out: Path, seed: int) -> list[str]:
    """Return the command of a sweep of four amounts, ours among them."""
    line = [word for word in our_line(given, folder, out, seed) if "hydra.run.dir" not in word]
    line.remove(f"prune.amount={AMOUNT}")
    return [*line, "-m", f"prune.amount={AMOUNT},0.1,0.3,0.4", f"hydra.sweep.dir={out}"]


def our_scores(out: Path) -> dict[str, Any]:
    """Return the last round's test accuracy, and how long each round took."""
    rounds = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in rounds]
    return {"test_accuracy": rounds[-1]["test_accuracy"], "round_seconds": seconds}


def trainer_loop(given: argparse.Namespace, folder: Path, out: Path, seed: int) -> None:
    """The Trainer's side: a round is a prune, a Trainer, and two evaluations."""
    import numpy
    from datasets import load_dataset
    from torch import nn
    from torch.nn.utils import prune
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    files = {split: str(folder / f"{split}.csv") for split in ("train", "test")}
    rows = load_dataset("csv", data_files=files, cache_dir=str(out / "cache"))
    names = sorted(set(rows["train"]["label"]))

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        found = tokenizer(batch["text"], truncation=True, max_length=given.length)
        return {**found, "labels": [names.index(label) for label in batch["label"]]}

    rows = rows.map(encode, batched=True, remove_columns=["text", "label"])
    parts = rows["train"].train_test_split(0.1, seed=seed)
    linear = [m for m in model.base_model.encoder.modules() if isinstance(m, nn.Linear)]
    weights = [(module, "weight") for module in linear]
    seconds = []
    for number in range(given.rounds + 1):
        if number:
            prune.global_unstructured(weights, prune.L1Unstructured, amount=AMOUNT)
        trainer = Trainer(
            model,
            TrainingArguments(
                str(out),
                num_train_epochs=given.epochs if number else given.dense_epochs,
                per_device_train_batch_size=given.batch,
                # As pruneloop's `evaluation_size`, which is quickest on each.
                per_device_eval_batch_size=given.batch * (16 if given.device == "cuda" else 1),
                learning_rate=given.rate,
                warmup_steps=0.1,
                weight_decay=0.01,
                bf16=given.precision == "bf16",
                use_cpu=given.device == "cpu",
                train_sampling_strategy=given.sampling,
                # With one seed a round would repeat the last one's order and dropout.
                seed=seed + 1000 * number,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=parts["train"],
            eval_dataset=parts["test"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {
                "accuracy": float((numpy.argmax(p.predictions, -1) == p.label_ids).mean())
            },
        )
        begun = time.monotonic()
        trainer.train()
        trainer.evaluate()
        scores = trainer.evaluate(rows["test"])
        seconds.append(time.monotonic() - begun)
    for module, name in weights:
        if prune.is_pruned(module):
            prune.remove(module, name)
    model.save_pretrained(out / "checkpoint")
    found = {"test_accuracy": scores["eval_accuracy"], "round_seconds": seconds}
    (out / "scores.json").write_text(json.dumps(found))


# -- side by side ----------------------------------------------------------------------------


def timed(line: list[str], device: str) -> dict[str, float]:
    """Run a program; return its CPU time and its wall time.

    Raises:
        SystemExit: it failed; says what it printed.
    """
    paths = (str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    if device == "cpu":
        env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        env |= {"CUDA_VISIBLE_DEVICES": ""}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    result = subprocess.run(line, env=env, capture_output=True, text=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begun
    if result.returncode:
        raise SystemExit(f"{line[1]}: exit code {result.returncode}\n{result.stderr[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": cpu, "wall_seconds": wall}


def one_pair(
    given: argparse.Namespace, words: list[str], folder: Path, index: int
) -> dict[str, dict[str, Any]]:
    """Time both sides once, or the one that is asked for; which comes first alternates."""
    found = {}
    sides = ["ours", given.against]
    for side in sides if index % 2 == 0 else sides[::-1]:
        out = folder / f"{side}-{index}"
        if given.only not in (None, side):
            continue
        if side == "ours":
            times = timed(our_line(given, folder, out, index), given.device)
            found[side] = times | our_scores(out)
        elif side == "sweep":
            times = timed(sweep_line(given, folder, out, index), given.device)
            found[side] = times | our_scores(out / f"prune.amount={AMOUNT}")
        else:
            own = [sys.executable, __file__, *words, "--side", str(folder), str(out), str(index)]
            times = timed(own, given.device)
            found[side] = times | json.loads((out / "scores.json").read_text())
    return found


def summary(pairs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the medians of each side, and those of the ratios: below 1 ours is faster."""
    keys = ("cpu_seconds", "wall_seconds", "test_accuracy")
    found: dict[str, Any] = {
        side: {key: statistics.median(pair[side][key] for pair in pairs) for key in keys}
        for side in pairs[0]
    }
    if len(found) > 1:
        other = next(side for side in pairs[0] if side != "ours")
        for key in keys[:2]:
            ratios = [pair["ours"][key] / pair[other][key] for pair in pairs]
            found[f"ratio_of_{key}"] = statistics.median(ratios)
    return found


def table(files: list[Path]) -> str:
    """Return the results of several files as a table in Markdown, of what ran against the Trainer.

    Accuracies are means over the pairs' seeds, with 95 % intervals (Student's t).

    Raises:
        SystemExit: a file has other than five pairs, or none of the Trainer.
    """
    lines = [
        "| model | numbers | Trainer's batches | pruneloop | Trainer | ratio | accuracy, pruneloop "
        "| accuracy, Trainer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file in files:
        found = json.loads(file.read_text())
        asked, median, pairs = found["options"], found["median"], found["pairs"]
        if len(pairs) != 5 or {*pairs[0]} != {"ours", "trainer"}:
            raise SystemExit(f"{file}: needs five pairs of both sides; run it with --pairs 5")
        cells = [f"{asked['layers']} x {asked['hidden']}", asked["precision"]]
        cells.append({"random": "as they come", "group_by_length": "by length"}[asked["sampling"]])
        cells += [f"{median[side]['cpu_seconds']:.1f} s" for side in ("ours", "trainer")]
        cells.append(f"{median['ratio_of_cpu_seconds']:.2f}")
        for side in ("ours", "trainer"):
            scores = [pair[side]["test_accuracy"] for pair in pairs]
            far = T_OF_5 * statistics.stdev(scores) / len(scores) ** 0.5
            cells.append(f"{statistics.mean(scores):.3f} ± {far:.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def options(given: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures depend on: what was asked for, and the source."""
    free = ("pairs", "json", "side", "table")
    source = hashlib.sha256()
    for file in sorted((ROOT / "src").rglob("*.py")):
        source.update(file.read_bytes())
    asked = {key: str(value) for key, value in vars(given).items() if key not in free}
    return asked | {"source": source.hexdigest()}


def done_before(given: argparse.Namespace) -> list[dict[str, dict[str, Any]]]:
    """Return the pairs that the same options have measured already."""
    found = json.loads(given.json.read_text()) if given.json.exists() else {}
    same = found.get("options") == options(given)
    return list(found["pairs"][: given.pairs]) if same else []


def main() -> None:
    """Run the pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the corpora; the built-in sample without")
    for name, default in SIZES:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    how = "how the Trainer makes its batches; ours are of similar lengths"
    ways = ["random", "group_by_length"]
    parser.add_argument("--sampling", default=ways[1], choices=ways, help=how)
    parser.add_argument("--against", default="trainer", choices=["trainer", "sweep"])
    parser.add_argument("--only", choices=["ours", "trainer"], help="time one side alone")
    parser.add_argument("--json", type=Path, default=Path("bench_run.json"))
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--table", type=Path, nargs="+", help="write the table of such files")
    given = parser.parse_args()
    if given.table:
        return print(table(given.table))
    if given.only not in (None, "ours", given.against):
        parser.error(f"--only {given.only}: is no side of --against {given.against}")
    if given.side:
        folder, out, seed = given.side
        return trainer_loop(given, Path(folder), Path(out), int(seed))
    with tempfile.TemporaryDirectory() as name:
        prepare(given, Path(name))
        pairs = done_before(given)
        while len(pairs) < given.pairs:
            pairs.append(one_pair(given, sys.argv[1:], Path(name), len(pairs)))
            found = {"options": options(given), "median": summary(pairs), "pairs": pairs}
            given.json.write_text(json.dumps(found, indent=1))
    print(json.dumps(summary(pairs), indent=1))


if __name__ == "__main__":
    main()
