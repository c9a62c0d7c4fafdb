"""The page of one run, and its pictures."""

from pathlib import Path

from jinja2 import UndefinedError

from pruneloop.durable import write_atomically
from pruneloop.errors import InputError, utf8
from pruneloop.records import RunFolder, last_kept
from pruneloop.report.answer import answers
from pruneloop.report.figures import accuracy_curve, heat_map, save_png, to_svg
from pruneloop.report.layers import by_kind, by_layer_and_kind
from pruneloop.report.page import render
from pruneloop.report.predictions import changes, confusions

_EXAMPLES = 20
_MOST_LABELS = 20


def write_report(folder: RunFolder) -> None:
    """Write report.html and the PNG files beside it, of a finished run or one under way.

    Raises:
        InputError: the folder holds no record of a run, or one of another version.
    """
    try:
        _write_report(folder)
    except (ValueError, TypeError, KeyError, UndefinedError) as error:
        if isinstance(error, InputError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{folder.path}: its records are not what this version of pruneloop writes ({reason})"
        ) from error


def _write_report(folder: RunFolder) -> None:
    rounds, facts = folder.read_rounds(), folder.read_facts()
    if not rounds or not facts:
        raise InputError(f"{folder.path}: holds no round of a run yet")
    layers, predictions = folder.read_layers(), folder.read_predictions()
    kept = last_kept(rounds)
    newest = [layer for layer in layers if layer.round == kept.round]
    control = RunFolder(folder.control).read_rounds()
    curve, tips = accuracy_curve(rounds, control)
    save_png(curve, folder.curve)
    save_png(heat_map(newest), folder.heat_map)
    files = sorted(folder.checkpoint.glob("*")) if folder.checkpoint.is_dir() else []
    page = render(
        "run.html",
        facts=facts,
        rounds=rounds,
        control=control,
        answers=answers(rounds, facts),
        dense=rounds[0],
        last=kept,
        status=folder.read_status(),
        deployed=folder.read_deployed(),
        curve=to_svg(curve, tips),
        grid=by_layer_and_kind(newest),
        kinds=by_kind(layers),
        confusions=confusions(predictions, facts.data.labels) if predictions else None,
        most_labels=_MOST_LABELS,
        padding=_said_of_padding(folder.checkpoint),
        changes=changes(predictions),
        examples=_EXAMPLES,
        files={file.name: file.stat().st_size for file in files},
        # One bit for each prunable weight says whether its value follows.
        bitmask_bytes=4 * (facts.parameters - kept.zeros) + kept.prunable / 8,
    )
    write_atomically(folder.report, utf8(page))
    folder.seal([folder.report, folder.curve, folder.heat_map])


def _said_of_padding(checkpoint: Path) -> str:
    """Return what the checkpoint's card says of rows whose result depends on their batch."""
    card = checkpoint / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    return text.partition("\n## Padding\n")[2].partition("\n#")[0].strip()
