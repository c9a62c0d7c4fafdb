"""All that only a GPU can show, in one command: docs/gpu.md says how it is run.

    python scripts/gpu_check.py --data /corpora --out outputs/gpu --parts 1,2,3

A part is a list of steps; each step's facts are written into the part's JSON as soon as they
are there. Started again, what is written is not done again, and a step that failed is tried
anew. `--device cpu` does every part at a toy size.
"""

import argparse
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts")]

import torch  # noqa: E402

from pruneloop.durable import write_atomically  # noqa: E402
from pruneloop.errors import EmptyMatrix  # noqa: E402
from pruneloop.pruning import (  # noqa: E402
    Blocks,
    Evidence,
    Groups,
    Lines,
    Magnitude,
    Masks,
    Method,
    Movement,
    Random,
    Taylor,
    UnitGroups,
    UnitMethod,
    Wanda,
    drops_by_amount,
    prunable_weights,
)
from pruneloop.records import RunFolder  # noqa: E402

LIMIT = 480.0
"""The seconds that a part may take; a step that would begin later waits for the next start."""

Facts = dict[str, Any]
Steps = Iterator[tuple[str, Callable[[], Facts]]]


@dataclass(frozen=True)
class Place:
    """Where the corpora are, where runs may be made, and what computes."""

    data: Path
    work: Path
    device: str
    deadline: float = float("inf")

    @property
    def real(self) -> bool:
        """Whether it is the real thing, and no toy on a CPU."""
        return self.device == "cuda"

    def pick(self, real: Any, toy: Any) -> Any:
        """Return what is meant for this device."""
        return real if self.real else toy

    def call(self, *words: object) -> str:
        """Run a Python program; return the end of what it printed.

        Raises:
            RuntimeError: it failed, or the part's time was over.
        """
        line = [sys.executable, *map(str, words)]
        # Absolute: tests start processes in folders of their own.
        given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        path = os.pathsep.join([str(ROOT / "src"), *map(os.path.abspath, given)])
        left = max(self.deadline - time.monotonic(), 1.0) if self.real else None
        with subprocess.Popen(
            line,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as program:
            try:
                said, _ = program.communicate(timeout=left)
            except subprocess.TimeoutExpired:
                # What it has started in turn must not go on and hold the GPU.
                os.killpg(program.pid, signal.SIGKILL)
                raise RuntimeError("the part's time was over") from None
        if program.returncode:
            raise RuntimeError(f"exit code {program.returncode}: {said[-3000:]}")
        return said[-3000:]

    def measured(self, script: str, *words: object) -> Facts:
        """Run one of the benchmarks, and return the JSON that it writes."""
        path = self.work / f"{script}.json"
        self.call(ROOT / "scripts" / f"{script}.py", *words, "--json", path)
        return json.loads(path.read_text())

    def train(self, name: str, *overrides: str) -> Facts:
        """Run `train.py` in a folder of its own, or go on there; return what its rounds reached."""
        folder = self.work / "runs" / name
        begun = time.monotonic()
        words = (f"hydra.run.dir={folder}", f"device={self.device}", *overrides)
        words += ("checkpoint.every_minutes=1",)  # what being cut off can cost
        self.call(ROOT / "train.py", *words)
        records = RunFolder(folder).read_rounds()
        keys = ("sparsity", "accuracy", "test_accuracy", "shock_accuracy", "seconds")
        rounds = [{key: getattr(record, key) for key in keys} for record in records]
        return {"wall_seconds": time.monotonic() - begun, "rounds": rounds}


# -- part 1: the same bits, and the tests that want a GPU ------------------------------------


def masks_agree(device: str, layers: int, hidden: int, levels: int) -> dict[str, bool]:
    """Return of every method whether three rounds leave the CPU's masks on a device.

    Args:
        levels: how many different magnitudes the weights have; 0 for no ties but chance's.
    """
    weights = _some_weights(layers, hidden, levels)
    methods = _methods(heads=max(hidden // 64, 2))
    return {
        name: len({_digests(method, weights, torch.device(d)) for d in ("cpu", device)}) == 1
        for name, method in methods.items()
    }


def _some_weights(layers: int, hidden: int, levels: int) -> dict[str, torch.Tensor]:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": 4 * hidden}
    config = BertConfig(vocab_size=50, num_attention_heads=max(hidden // 64, 2), **shape)
    weights = prunable_weights(BertForSequenceClassification(config))
    return {name: _coarse(weight.detach(), levels) for name, weight in weights.items()}


def _coarse(values: torch.Tensor, levels: int) -> torch.Tensor:
    top = values.abs().max()
    return (values / top * levels).round() / levels if levels else values.clone()


def _methods(heads: int) -> dict[str, Method | UnitMethod]:
    ranks = {"magnitude": Magnitude(), "random": Random(3), "taylor": Taylor(), "wanda": Wanda()}
    ranks["movement"] = Movement()
    groups: dict[str, Groups | Blocks] = {
        "global": Groups(),
        "layer": Groups(together=False),
        "cap": Groups(cap=0.8),
        "rows": Groups(Lines(2, 0), together=False),
        "columns": Groups(Lines(1, 1)),
        "2:4": Blocks(2, 4),
    }
    found: dict[str, Method | UnitMethod] = {
        f"{rank}, {group}": Method(ranks[rank], groups[group])
        for rank in ranks
        for group in groups
        # The norm of a line would add up ranks, which is nothing.
        if (rank, group) not in (("movement", "rows"), ("movement", "columns"))
    }
    units = UnitGroups(("ffn", "heads"), True, heads)
    for rank, n in (("magnitude", 2), ("taylor", 1), ("random", 2)):
        found[f"{rank}, units"] = UnitMethod(ranks[rank], units, n)
    return found


def _digests(
    method: Method | UnitMethod, given: dict[str, torch.Tensor], device: torch.device
) -> str:
    """Return a digest of the masks that two rounds leave, or why they could not be had."""
    weights = {name: weight.clone().to(device) for name, weight in given.items()}
    masks, found = Masks.dense(weights), ""
    generator = torch.Generator().manual_seed(5)
    evidence = {}
    for name, weight in given.items():
        shape = (1, weight.shape[1]) if method.needs is Evidence.inputs else weight.shape
        drawn = torch.randn(shape, generator=generator)
        signed = method.needs is Evidence.movement
        evidence[name] = _coarse(drawn if signed else drawn.abs(), 50).to(device)
    for _ in range(2):
        (drops,) = drops_by_amount(method.units(masks), 1, 0.3)
        if isinstance(method.groups, Blocks):
            drops = [weight.numel() // 4 for weight in weights.values()]
        try:
            masks = method.prune(weights, masks, drops, evidence)
        except EmptyMatrix as error:
            return f"{found} {error}"
        masks.zero_weights(weights)
        found += masks.digest()
    return found


def part_1(place: Place) -> Steps:
    """Masks equal the CPU's bit for bit; the tests marked `cuda`."""
    layers, hidden = place.pick((4, 768), (1, 16))
    for levels in (0, 50):

        def agree(levels: int = levels) -> Facts:
            found = masks_agree(place.device, layers, hidden, levels)
            if not all(found.values()):
                raise RuntimeError(f"other masks than the CPU's: {found}")
            return found

        yield f"masks, {levels or 'all'} magnitudes", agree
    chosen = place.pick(("-m", "cuda", *_SIDE_BY_SIDE), ("-k", "selection and cpu"))
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, "tests/test_cuda.py")
    yield "tests", lambda: {"said": place.call(*tests)}


# Most of their time is starting; pytest-benchmark warns of xdist, which is an error here.
_SIDE_BY_SIDE = ("-n", "8", "-p", "no:benchmark") if find_spec("xdist") else ()


# -- part 2: what the prune costs ------------------------------------------------------------


def part_2(place: Place) -> Steps:
    """The prune against torch's and the limit; a masked step against a dense one, in bf16."""
    sizes = place.pick(("--steps", 30), ("--layers", 1, "--rounds", 2, "--repeats", 1))
    for name, words in (("distinct", ()), ("ties", ("--ties",))):
        prune = ("--device", place.device, "--only", "prune", *sizes, *words)
        yield f"prune, {name}", lambda p=prune: place.measured("bench_pruning", *p)
    for precision in ("bf16", "fp32"):
        words = ("--device", place.device, "--only", "steps", "--precision", precision)
        # A CPU without bf16 takes minutes for a batch of it.
        toy = ("--layers", 1, "--steps", 1, "--shapes", "2x8")
        steps = (*words, *place.pick(("--steps", 60), toy))
        yield f"step, {precision}", lambda s=steps: place.measured("bench_pruning", *s)


# -- part 3: throughput ----------------------------------------------------------------------


def part_3(place: Place) -> Steps:
    """Rows a second at KoBERT's shape, against the Trainer loop on a tenth of the rows."""
    shape = place.pick(("--layers", 12, "--hidden", 768), ("--layers", 1, "--hidden", 16))
    words = ("--device", place.device, "--data", place.data, *shape, "--pairs", 1)
    words += ("--rounds", 1, "--dense-epochs", 1, "--precision", place.pick("bf16", "fp32"))
    words += ("--rate", 5e-5, "--batch", place.pick(64, 16))
    for side, rows in (("ours", place.pick(150_000, 63)), ("trainer", place.pick(15_000, 63))):
        # As many test rows to the training rows as NSMC has.
        given = (*words, "--rows", rows, "--test-rows", rows // 3, "--only", side)
        yield side, lambda g=given: place.measured("bench_run", *g)


def part_3b(place: Place) -> Steps:
    """The levers of a step at KoBERT's shape, each on its own."""
    from gpu_levers import LEVERS, measure

    for name in LEVERS:
        sizes = place.pick((12, 768, 64, 200), (1, 16, 4, 1))
        yield name, lambda n=name, s=sizes: measure(n, place.device, *s)


# -- part 4: evidence ------------------------------------------------------------------------


def _curve(place: Place, name: str, model: list[str], seed: int, rate: float) -> Steps:
    """L1 to 90 %, and the same with distillation, which takes over the first one's round 0."""
    rows = place.pick([], ["data.max_train_rows=64", "data.max_test_rows=32"])
    nsmc = ["data=nsmc", f"data.path={place.data}/nsmc"]
    nsmc += ["data.train=ratings_train.txt.gz", "data.test=ratings_test.txt.gz", *rows]
    plan = ["rounds=4", "prune.target_sparsity=0.9", "prune.amount=null"]
    plan += [f"finetune.learning_rate={rate}", "finetune.epochs=1", "finetune.dense_epochs=2"]
    plan += [f"finetune.batch_size={place.pick(64, 32)}"]
    plan += [f"finetune.precision={place.pick('auto', 'fp32')}", f"seed={seed}"]
    plain = f"{name}-l1-{seed}"
    words = [*nsmc, *model, *plan, "model.max_length=64"]
    yield plain, lambda: place.train(plain, *words)
    follow = ["distill=logits"]

    def taught() -> Facts:
        first = place.work / "runs" / plain
        start = [f"start_from={first}"] if RunFolder(first).is_done() else []
        return place.train(f"{name}-distilled-{seed}", *words, *follow, *start)

    yield f"{name}-distilled-{seed}", taught


def part_4a(place: Place) -> Steps:
    """`e5_small_ko` on all of NSMC, with and without distillation, three seeds."""
    yield "unpacked", lambda: _unpack(place)
    model = place.pick(["model=pretrained", f"model.name={place.work}/e5_small_ko"], _TOY)
    for seed in place.pick((0, 1, 2), (0,)):
        yield from _curve(place, "e5", model, seed, 1e-4)


def _unpack(place: Place) -> Facts:
    """Copy the model's folder with its weights unpacked."""
    source, target = place.data / "e5_small_ko", place.work / "e5_small_ko"
    packed = source / "model.safetensors.xz"
    if not place.real and not packed.exists():
        return {"bytes": 0}
    target.mkdir(exist_ok=True)
    for file in source.glob("*.json"):
        shutil.copyfile(file, target / file.name)
    weights = lzma.decompress(packed.read_bytes())
    (target / "model.safetensors").write_bytes(weights)
    return {"bytes": len(weights)}


_TOY = ["model=tiny", "model.layers=1", "model.hidden=16", "model.intermediate=32"]


def part_4b(place: Place) -> Steps:
    """Pretrain a BERT of KoBERT's shape on the raw reviews."""
    words: list[object] = [place.data, place.work / "kobert_shape", "--device", place.device]
    words += place.pick(["--minutes", 7], ["--minutes", 0.02, "--layers", 1, "--hidden", 16])
    words += place.pick([], ["--rows", 64, "--batch", 8])
    script = ROOT / "scripts/pretrain.py"
    yield "pretrained", lambda: {"said": place.call(script, *words).splitlines()[-8:]}


def part_4c(place: Place) -> Steps:
    """The same curve with the model of part 4b."""
    model = ["model=pretrained", f"model.name={place.work}/kobert_shape"]
    yield from _curve(place, "kobert", model, 0, 5e-5)


PARTS: dict[str, Callable[[Place], Steps]] = {
    "1": part_1,
    "2": part_2,
    "3": part_3,
    "3b": part_3b,
    "4a": part_4a,
    "4b": part_4b,
    "4c": part_4c,
}


# -- all of them -----------------------------------------------------------------------------


def machine_facts(device: str) -> Facts:
    """Return what computed: figures of one card say nothing of another."""
    import accelerate
    import transformers

    libraries = (torch, transformers, accelerate)
    found = {library.__name__: library.__version__ for library in libraries}
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        found |= {"card": torch.cuda.get_device_name(), "capability": f"{major}.{minor}"}
        found["cuda"] = str(torch.version.cuda)
    return found | {"device": device, "python": sys.version.split()[0]}


def do_part(name: str, place: Place, path: Path) -> bool:
    """Do what of a part is not written yet; return whether all of it is done."""
    found = json.loads(path.read_text()) if path.exists() else {}
    machine = machine_facts(place.device)
    if found.get("machine", machine) != machine:
        raise SystemExit(f"{path}: was written on another machine; take another --out")
    found = {"part": name, "machine": machine, "steps": found.get("steps", {}), "failed": {}}
    begun = time.monotonic()
    done = True
    limited = Place(place.data, place.work, place.device, begun + LIMIT)
    for step, work in PARTS[name](limited):
        if step in found["steps"]:
            continue
        if time.monotonic() - begun > LIMIT:
            return False
        started = time.monotonic()
        print(f"part {name}: {step} ...", flush=True)
        try:
            found["steps"][step] = work() | {"seconds": time.monotonic() - started}
        except (Exception, SystemExit) as error:  # the other steps must not be lost with it
            found["failed"][step] = f"{type(error).__name__}: {error}"[-4000:]
            print(f"part {name}: {step}: failed: {found['failed'][step]}", flush=True)
            done = False
        write_atomically(path, json.dumps(found, indent=1, default=str).encode())
    return done


def main() -> None:
    """Do the parts; exit code 1 if one of them is not done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="such as 1,2; all by default")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--out", type=Path, required=True, help="where the JSON files go")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "gpu_work")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    given = parser.parse_args()
    names = given.parts.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"--parts: {','.join(unknown)}: must be some of {','.join(PARTS)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this machine has no usable CUDA GPU; try --device cpu")
    place = Place(given.data.resolve(), given.work.resolve(), given.device)
    for folder in (given.out, place.work):
        folder.mkdir(parents=True, exist_ok=True)
    done = [do_part(name, place, given.out / f"part_{name}.json") for name in names]
    raise SystemExit(0 if all(done) else 1)


if __name__ == "__main__":
    main()
