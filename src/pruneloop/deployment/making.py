"""`deploy/`: written beside its name, measured on this machine, and renamed when it is whole."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from pruneloop import __version__
from pruneloop.deployed import LABELS, TOKENIZER
from pruneloop.deployment.figures import Accuracy, Figures, choose, table
from pruneloop.deployment.timing import RUNS
from pruneloop.deployment.trial import CHECKPOINT, DENSE, Judged, Rows, Trial, put_on_trial
from pruneloop.deployment.writing import FP32, INT8, check_deployable
from pruneloop.durable import fresh_folder, manifest, publish_folder, saving, seal_folder
from pruneloop.exports.onnx_files import write_int8
from pruneloop.exports.smaller import size
from pruneloop.facts import has_vnni, processor
from pruneloop.locating import DEPLOYED
from pruneloop.model.build import DENSE_SIZES
from pruneloop.prediction import TextClassifier
from pruneloop.sparse.writing import LOADER, SPARSE_FILE, write_sparse

_FULL = "model.full.onnx"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Wish:
    """What is asked for: the accuracy that int8 may lose on validation, and further files.

    With `int8`, that was judged before, and is served.
    """

    max_drop: float = 0.01
    full_range: bool = False
    sparse_file: bool = False
    zstd: bool = False
    int8: bool = False


def deploy(
    classifier: TextClassifier,
    checkpoint: Path,
    target: Path,
    rows: Rows,
    wish: Wish,
    done: Callable[[int], object] = lambda rows: None,
) -> list[str]:
    """Write the folder `target` out of a checkpoint; return what there is to say of it.

    Args:
        rows: what the models are measured on.
        done: is told the rows of each batch that is measured.

    Raises:
        InputError: the classifier cannot be served without torch and transformers.
        InvariantError: what was written does not say what the checkpoint says.
        EnvironmentFault: there is no space, or a write was refused.
    """
    nn.Module.to(classifier.model, "cpu")
    check_deployable(classifier)
    temporary = target.with_name(f".{target.name}.tmp")
    with saving(target.parent, 3 * _bytes(checkpoint)):
        fresh_folder(temporary)
        facts = _make(classifier, checkpoint, temporary, rows, wish, done)
        text = json.dumps(facts, ensure_ascii=False, indent=1)
        (temporary / DEPLOYED).write_text(text + "\n", encoding="utf-8")
        _write_further(checkpoint, temporary, wish)
        said = [*facts["table"], "", *facts["notes"]]
        _write_readme(temporary, facts["model"], said)
        (temporary / "runner.py").write_bytes((_HERE / "runner.py").read_bytes())
        seal_folder(temporary)
        publish_folder(temporary, target)
    return said


def _make(
    classifier: TextClassifier,
    checkpoint: Path,
    folder: Path,
    rows: Rows,
    wish: Wish,
    done: Callable[[int], object],
) -> dict[str, Any]:
    """Write the models with their tokenizer, and measure them; return what deploy.json holds."""
    trial, shrunk, off = put_on_trial(classifier, folder, rows, done)
    before = trial.judge()
    opened, int8, why = _choose_int8(trial, before, wish)
    judged = {CHECKPOINT: before, FP32: trial.judge(FP32), INT8: int8}
    figures = _measured(trial, judged, checkpoint, size(shrunk.model))
    notes = [why, *_removed(shrunk.neurons, shrunk.heads), _machine()]
    return {
        "model": opened,
        "checkpoint": manifest(checkpoint),
        "reading": asdict(trial.reading),
        "figures": [asdict(found) for found in figures],
        "removed": {"neurons": shrunk.neurons, "heads": shrunk.heads},
        "logits_off": off,
        "max_drop": wish.max_drop,
        "table": table(figures, opened),
        "notes": notes,
        "processor": processor(),
        "vnni": has_vnni(),
        "versions": {"pruneloop": __version__}
        | {name: version(name) for name in ("onnx", "onnxruntime", "torch", "transformers")},
    }


def _measured(
    trial: Trial, judged: dict[str, Judged], checkpoint: Path, shrunk: int
) -> list[Figures]:
    """Return a row of the table for the dense model, the checkpoint and each file."""
    times = trial.milliseconds([FP32, INT8])
    model = trial.checkpoint.model
    sizes = {name: (trial.folder / name).stat().st_size for name in judged if name != CHECKPOINT}
    sizes[CHECKPOINT] = _bytes(checkpoint)
    figures = [
        Figures(
            file=name,
            parameters=size(model) if name == CHECKPOINT else shrunk,
            bytes=sizes[name],
            milliseconds=times[name],
            validation=Accuracy.of(found.validation),
            test=Accuracy.of(found.test),
            changed=found.changed(judged[CHECKPOINT]),
        )
        for name, found in judged.items()
    ]
    if DENSE in times:
        count = int(getattr(model.config, DENSE_SIZES)["parameters"])
        dense = Figures(file=DENSE, parameters=count, bytes=4 * count, milliseconds=times[DENSE])
        figures.insert(0, dense)
    return figures


def _choose_int8(trial: Trial, before: Judged, wish: Wish) -> tuple[str, Judged, str]:
    """Write model.int8.onnx; return which file to open, what int8 is worth, and why so."""
    allowed = f"--max-drop {wish.max_drop:g}"
    write_int8(trial.folder / FP32, trial.folder / INT8, wish.full_range)
    first = trial.judge(INT8)
    lost = _points(before, first)
    if wish.int8:
        return INT8, first, f"runner.py opens {INT8}: {lost} on validation against the checkpoint"
    if choose(before.accuracy, wish.max_drop, [(INT8, first.accuracy)]):
        return INT8, first, f"runner.py opens {INT8}: {lost} on validation, within {allowed}"
    if not wish.full_range:
        write_int8(trial.folder / FP32, trial.folder / _FULL, full_range=True)
        full = trial.judge(_FULL)
        if choose(before.accuracy, wish.max_drop, [(_FULL, full.accuracy)]):
            os.replace(trial.folder / _FULL, trial.folder / INT8)
            return (
                *(INT8, full),
                f"runner.py opens {INT8}, in the full range of 8 bits: {_points(before, full)} on "
                f"validation, within {allowed}; {lost} in 7 bits, which processors without VNNI "
                "need",
            )
        (trial.folder / _FULL).unlink()
    return FP32, first, f"runner.py opens {FP32}: int8 has {lost} on validation, beyond {allowed}"


def _points(before: Judged, after: Judged) -> str:
    return f"{100 * (after.accuracy - before.accuracy):+.2f} points"


def _removed(neurons: int, heads: int) -> list[str]:
    if not neurons + heads:
        return []
    return [f"removed, as their zeros allow: {neurons:,} feed-forward neurons and {heads:,} heads"]


def _machine() -> str:
    """Return on what was measured, and how."""
    vnni = {True: "with VNNI", False: "without VNNI", None: "VNNI unknown"}[has_vnni()]
    return (
        f"times: one text, one thread, medians of {RUNS} turns against transformers' pipeline, on "
        f"{processor()} ({vnni}, {os.cpu_count()} cores)"
    )


def _bytes(checkpoint: Path) -> int:
    """Return the size of a checkpoint's weights on the disk."""
    files = [*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.bin")]
    return sum(file.stat().st_size for file in files)


def _write_further(checkpoint: Path, folder: Path, wish: Wish) -> None:
    """Write the files that are there for downloads."""
    if wish.sparse_file:
        shards = sorted(checkpoint.glob("*.safetensors"))
        write_sparse({k: v for shard in shards for k, v in load_file(shard).items()}, folder)
    if wish.zstd:
        import zstandard

        packed = zstandard.ZstdCompressor()  # higher levels take minutes for 3 %
        (folder / f"{INT8}.zst").write_bytes(packed.compress((folder / INT8).read_bytes()))


_FILES = {
    "runner.py": "says the label of texts; needs onnxruntime and tokenizers only",
    FP32: "the model in float32",
    INT8: "the model in int8",
    f"{INT8}.zst": "the same, compressed for downloads: `zstd -d` unpacks it",
    TOKENIZER: "how texts become tokens",
    LABELS: "the labels, in the order of the model's outputs",
    DEPLOYED: "which model runner.py opens, and all that was measured",
    SPARSE_FILE: "the checkpoint's weights without their zeros, bit for bit",
    LOADER: "reads that file into torch",
}


def _write_readme(folder: Path, opened: str, said: Sequence[str]) -> None:
    there = {path.name for path in folder.iterdir()} | {"runner.py"}
    files = "\n".join(f"- `{name}`: {what}" for name, what in _FILES.items() if name in there)
    template = (_HERE / "readme.md").read_text(encoding="utf-8")
    text = template.format(opened=opened, files=files, table="\n".join(said))
    (folder / "README.md").write_text(text, encoding="utf-8")
