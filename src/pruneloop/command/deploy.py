"""`pruneloop deploy`: which run, its rows, and what is written beside its checkpoint."""

from pathlib import Path

from tqdm import tqdm

from pruneloop.command.evaluate import config_of, run_facts
from pruneloop.data.loading import load_splits
from pruneloop.deployment.making import Wish, deploy
from pruneloop.deployment.trial import ROWS, Rows
from pruneloop.errors import InputError
from pruneloop.locating import find_run
from pruneloop.measurement import LabelledRows
from pruneloop.prediction import load_classifier
from pruneloop.report.run import write_report


def deploy_run(folder: Path, wish: Wish) -> list[str]:
    """Write deploy/ into a run's folder; return what there is to say of it.

    Raises:
        InputError: the folder is no finished run's, its data are gone, or its classifier
            cannot be served without torch.
    """
    run, facts = find_run(folder), run_facts(folder)
    if run is None or facts is None:
        raise InputError(f"{folder}: is no run's folder, whose rows say what int8 costs")
    classifier = load_classifier(run.checkpoint)
    splits = load_splits(config_of(facts))
    whole = [LabelledRows.of(splits, name) for name in ("validation", "test")]
    validation, test = (rows.thinned(ROWS) for rows in whole)
    rows = Rows(validation, test, facts.data.max_length)
    asked = 3 * (len(validation.texts) + len(test.texts))
    with tqdm(total=asked, unit="row", leave=False, disable=None, delay=0.5) as bar:
        said = deploy(classifier, run.checkpoint, run.deploy, rows, wish, bar.update)
    for part, all_rows in zip((validation, test), whole, strict=True):
        if len(part.texts) < len(all_rows.texts):
            said.append(
                f"{part.split}: measured on {len(part.texts):,} of {len(all_rows.texts):,} rows"
            )
    if run.rounds_jsonl.exists():
        write_report(run)
        said.append(f"report: {run.report}")
    return [*said, f"written: {run.deploy}"]
