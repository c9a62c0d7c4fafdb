"""The page of one run, and its pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from pruneloop.durable import write_atomically
from pruneloop.errors import InputError, utf8
from pruneloop.records import PredictionRecord, RunFolder, last_kept, read_deployed
from pruneloop.report.answer import answers, checkpoint_of, chosen
from pruneloop.report.cautions import cautions
from pruneloop.report.curve import accuracy_curve
from pruneloop.report.figures import heat_map, save_png, to_svg
from pruneloop.report.language import translate
from pruneloop.report.layers import by_kind, by_layer_and_kind
from pruneloop.report.page import render
from pruneloop.report.predictions import changes, confusions, moved

_EXAMPLES = 10
_MOST_LABELS = 8


def write_report(folder: RunFolder, language: str | None = None) -> None:
    """Write report.html and the PNG files beside it, of a finished run or one under way.

    Args:
        language: `en` or `ko`; without it, that of the run.

    Raises:
        InputError: the folder holds no record of a run, or one of another version.
    """
    try:
        _write_report(folder, language)
    except (ValueError, TypeError, KeyError, UndefinedError) as error:
        if isinstance(error, InputError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{folder.path}: its records are not what this version of pruneloop writes ({reason})"
        ) from error


def _write_report(folder: RunFolder, language: str | None) -> None:
    rounds, facts = folder.read_rounds(), folder.read_facts()
    if not rounds or not facts:
        raise InputError(f"{folder.path}: holds no round of a run yet")
    language = language or facts.language
    layers, kept, t = folder.read_layers(), last_kept(rounds), translate(language)
    newest = [layer for layer in layers if layer.round == kept.round]
    control = RunFolder(folder.control).read_rounds()
    found = answers(rounds, facts)
    shown = chosen(facts.config["budget.max_drop"])
    # In the picture of its own, as in papers, labels are English and there is one answer.
    mine = [answer for answer in found if answer.drop == shown]
    save_png(accuracy_curve(rounds, facts, mine, control)[0], folder.curve)
    save_png(heat_map(newest), folder.heat_map)
    picture, tips = accuracy_curve(rounds, facts, found, control, t)
    files = sorted(folder.checkpoint.glob("*")) if folder.checkpoint.is_dir() else []
    page = render(
        "run.html",
        language,
        facts=facts,
        rounds=rounds,
        control=control,
        answers=[vars(a) | {"checkpoint": checkpoint_of(a.record, rounds, folder)} for a in found],
        chosen=shown,
        cautions=cautions(rounds, facts, t),
        dense=rounds[0],
        last=kept,
        status=folder.read_status(),
        deployed=read_deployed(folder),
        curve=to_svg(picture, tips, t("Accuracy over the weights that are kept")),
        grid=by_layer_and_kind(newest),
        kinds=by_kind(layers),
        padding=_card_says(folder.checkpoint, "Padding"),
        smaller=_card_says(folder.checkpoint, "Size"),
        files={file.name: file.stat().st_size for file in files},
        # One bit for each prunable weight says whether its value follows.
        bitmask_bytes=4 * (facts.parameters - kept.zeros) + kept.prunable / 8,
        **_predictions(folder.read_predictions(), facts.data.labels),
    )
    write_atomically(folder.report, utf8(page))
    folder.seal([folder.report, folder.curve, folder.heat_map])


def _predictions(rows: Sequence[PredictionRecord], labels: Sequence[str]) -> dict[str, Any]:
    """Return what the page says of the predictions; `confusions` is None without any."""
    if not rows:
        return {"confusions": None}
    both = confusions(rows, labels)
    pairs = list(zip(*(matrix.scores() for matrix in both), strict=True))
    cells = moved(*both) if len(labels) <= _MOST_LABELS else []
    return {
        "confusions": both,
        "labels": sorted(pairs, key=lambda pair: pair[1].f1 - pair[0].f1),
        "moved": cells,
        "largest": max((abs(cell.change) for row in cells for cell in row), default=0),
        "changes": changes(rows),
        "examples": _EXAMPLES,
    }


def _card_says(checkpoint: Path, section: str) -> str:
    """Return a section of the checkpoint's card; empty where it has none of that name."""
    card = checkpoint / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    return text.partition(f"\n## {section}\n")[2].partition("\n#")[0].strip()
