"""What `pruneloop deploy` gains at KoBERT's shape, against what it must reach.

    python scripts/bench_deploy.py
    python scripts/bench_deploy.py --layers 2 --runs 3

One thread, processor time, medians of alternating runs: a shared machine does not change them
much. Prints one table and writes it as JSON; exit 1 where a target is missed. Random weights:
only time, size and exactness are looked at.
"""

import argparse
import copy
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from pruneloop.data import sample
from pruneloop.deployed import open_model
from pruneloop.deployment.trial import CHECKPOINT, Rows, Trial
from pruneloop.deployment.writing import FP32, INT8, reading_of, write_model, write_words
from pruneloop.exports.onnx_files import write_int8
from pruneloop.measurement import LabelledRows
from pruneloop.model.tokenizers import train_wordpiece
from pruneloop.prediction import TextClassifier
from pruneloop.pruning import prunable_weights
from pruneloop.shrinking import without_layers
from pruneloop.sparse.writing import write_sparse


@dataclass(frozen=True)
class Shape:
    """A cut of the dense model, and the speed over the pipeline that it must reach."""

    name: str
    layers: float
    heads: float
    neurons: float
    at_32: float
    at_64: float
    file: float | None = None


SHAPES = [
    Shape("int8", 1, 1, 1, 4.0, 3.8, 0.26),
    Shape("half heads, half feed-forward", 1, 0.5, 0.5, 7.5, 7.2),
    Shape("half layers, half feed-forward", 0.5, 1, 0.5, 11, 10.5, 0.10),
    Shape("quarter heads, quarter feed-forward", 1, 0.25, 0.25, 12.5, 12),
]


class Targets:
    """What was measured against what must be reached."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, name: str, found: float, limit: float, at_least: bool = False) -> None:
        """Put one on record."""
        met = found >= limit if at_least else found <= limit
        self.rows.append({"name": name, "found": found, "limit": limit, "met": met})
        sign = ">=" if at_least else "<="
        print(f"{'ok  ' if met else 'MISS'}  {name:<52} {found:>10.3g}  ({sign} {limit:g})")


def cut(model: BertForSequenceClassification, shape: Shape) -> BertForSequenceClassification:
    """Return a copy without a share of the layers, and zeros for heads and neurons."""
    depth = model.config.num_hidden_layers
    kept = max(round(shape.layers * depth), 1)
    cut = without_layers(model, range(kept)) if kept < depth else copy.deepcopy(model)
    with torch.no_grad():
        for layer in cut.bert.encoder.layer:
            layer.output.dense.weight[
                :, round(shape.neurons * model.config.intermediate_size) :
            ] = 0
            layer.attention.output.dense.weight[:, round(shape.heads * 12) * 64 :] = 0
    return cut


def bench(options: argparse.Namespace) -> Targets:
    """Measure everything."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = [text for text, _ in sample.generate(2000, seed=0)]
    tokenizer = train_wordpiece(rows, vocab_size=8002, max_length=512)
    config = BertConfig(vocab_size=8002, num_hidden_layers=options.layers, pad_token_id=0)
    dense = BertForSequenceClassification(config).eval()
    labelled = LabelledRows("sample", "validation", rows[:32], ["0"] * 32)
    targets = Targets()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        size = sum(parameter.nbytes for parameter in dense.parameters())
        for number, shape in enumerate(SHAPES):
            place = folder / str(number)
            place.mkdir()
            classifier = TextClassifier(cut(dense, shape), tokenizer, ["0", "1"], 512)
            words = write_words(classifier, place, rows[:32])
            started = time.process_time()
            _, off = write_model(classifier, place, words, rows[:4])
            write_int8(place / FP32, place / INT8)
            spent = time.process_time() - started
            targets.add(f"{shape.name}: fp32 logits off by", off, 1e-5)
            targets.add(f"{shape.name}: export and int8, seconds", spent, 40)
            if shape.file is not None:
                ratio = (place / INT8).stat().st_size / size
                targets.add(f"{shape.name}: file", ratio, shape.file)
            _speeds(targets, shape, place, words, dense, classifier, labelled, options.runs)
        _cold_start(targets, folder / "0", rows[0])
        _sparse(targets, dense, folder)
    return targets


def _speeds(
    targets: Targets,
    shape: Shape,
    folder: Path,
    words: str,
    dense: nn.Module,
    classifier: TextClassifier,
    labelled: LabelledRows,
    runs: int,
) -> None:
    """Time the int8 file against the pipeline of the dense model."""
    whole = TextClassifier(dense, classifier.tokenizer, classifier.labels, 512)
    trial = Trial(folder, words, whole, reading_of(whole), Rows(labelled, labelled, None), id)
    times = trial.milliseconds([INT8], runs)
    for tokens, limit in (("32", shape.at_32), ("64", shape.at_64)):
        speed = times[CHECKPOINT][tokens] / times[INT8][tokens]
        targets.add(
            f"{shape.name}: speed at {tokens} ({times[INT8][tokens]:.1f} of "
            f"{times[CHECKPOINT][tokens]:.0f} ms)",
            *(speed, limit),
            at_least=True,
        )


def _cold_start(targets: Targets, folder: Path, text: str) -> None:
    """Start the runner in a process of its own."""
    (folder / "deploy.json").write_text(json.dumps({"model": INT8}))
    runner = Path(open_model.__code__.co_filename).parent / "deployment/runner.py"
    (folder / "runner.py").write_bytes(runner.read_bytes())
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [sys.executable, "-c", _STARTED, str(folder / "runner.py"), text]
    said = subprocess.run(line, env=env, capture_output=True, text=True, check=True).stdout
    seconds, kibibytes = said.splitlines()[-1].split()
    targets.add("runner: cold start, seconds of CPU", float(seconds), 1)
    targets.add("runner: peak memory, MiB", int(kibibytes) / 1024, 300)


# Asked of the process itself: what its parent had before the fork would count otherwise.
_STARTED = """
import re, runpy, sys, time
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
print(time.process_time(), re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def _sparse(targets: Targets, dense: nn.Module, folder: Path) -> None:
    """Write the sparse file of a model with so many zeros in its encoder."""
    pruned = prunable_weights(dense)
    for share, limit in ((0.67, 0.42), (0.9, 0.21)):
        tensors = {
            name: weight.masked_fill(torch.rand_like(weight) < share, 0.0)
            if name in pruned
            else weight
            for name, weight in dense.named_parameters()
        }
        size = sum(tensor.nbytes for tensor in tensors.values())
        path = write_sparse(tensors, folder)
        targets.add(f"sparse file at {share:.0%}", path.stat().st_size / size, limit)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path("bench_deploy.json"))
    options = parser.parse_args()
    started = time.process_time()
    targets = bench(options)
    facts = {"machine": platform.processor() or platform.machine(), "rows": targets.rows}
    options.out.write_text(json.dumps(facts, indent=1))
    print(f"{time.process_time() - started:.0f} s of CPU; written: {options.out}")
    sys.exit(any(not row["met"] for row in targets.rows))


if __name__ == "__main__":
    main()
