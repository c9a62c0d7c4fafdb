"""What a run hands over at its end, and after every round where that is asked for."""

import logging
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from pruneloop.data.splits import Splits, texts_of
from pruneloop.exports.checkpoint import export
from pruneloop.exports.predictions import prediction_rows
from pruneloop.exports.smaller import without_units
from pruneloop.model.build import Classifier
from pruneloop.pruning import PrunedModel
from pruneloop.records import RoundRecord, RunFolder
from pruneloop.report.card import model_card
from pruneloop.run_state import Predictions
from pruneloop.shrinking import is_known

log = logging.getLogger(__name__)


def write_checkpoint(
    target: Path,
    folder: RunFolder,
    split: Splits,
    classifier: Classifier,
    pruned: PrunedModel,
    records: Sequence[RoundRecord],
    lines: bool,
) -> None:
    """Write the model as it is now, with the card that its records make.

    Args:
        lines: whole rows, columns or units were pruned: it is written without the units.

    Raises:
        InvariantError: it does not come back as it was.
        EnvironmentFault: there is no space, or a write was refused.
    """
    facts = folder.read_facts()
    assert facts is not None
    card = model_card(facts, records)
    texts = texts_of(split.validation)[:32]
    model, tokenizer, masks = classifier.model, classifier.tokenizer, pruned.masks
    if lines and is_known(model):
        layers = pruned.layers.kept if pruned.layers else None
        smaller = without_units(model, tokenizer, masks, texts, layers)
        model, masks, card = smaller.model, smaller.masks, card + smaller.note
    export(model, tokenizer, masks, target, texts, card)


def write_pages(folder: RunFolder, split: Splits, tokenised: Dataset, said: Predictions) -> None:
    """Write the predictions and the report, and seal the records.

    Args:
        tokenised: the test rows as they were measured on.
    """
    folder.write_predictions(prediction_rows(split, tokenised, said))
    folder.seal(folder.records)
    report(folder)


def report(folder: RunFolder) -> None:
    """Write the report; a machine without matplotlib leaves it to another one, and says so."""
    try:
        # matplotlib takes half a second to load, which only the end of a run should pay.
        from pruneloop.report.run import write_report
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        log.warning(
            "warning: no report.html: matplotlib is not installed; where it is, "
            f"pruneloop report {folder.path} writes it"
        )
        return
    write_report(folder)
