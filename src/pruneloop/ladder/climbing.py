"""From rung to rung: what is tried, what is not, and what is handed over.

A rung that loses more than the budget is tried once more with twice the epochs; if it fails
again, what would start from it is not tried. All branches are.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import AutoConfig

from pruneloop import launcher, pipeline
from pruneloop.checkpoint import STATE, StateFolder
from pruneloop.config import Config
from pruneloop.deployment.making import Wish, deploy
from pruneloop.errors import CheckpointError, ConfigError
from pruneloop.exports.onnx_files import check_installed
from pruneloop.hub import push
from pruneloop.ladder.judging import Judge
from pruneloop.ladder.outcome import Attempt, Outcome, hand_over
from pruneloop.ladder.rungs import FIRST, RUNGS, Rung, Start, first_run, run_from
from pruneloop.prediction import load_classifier
from pruneloop.recorder import status, write_running
from pruneloop.records import RunFacts, RunFolder, read_deployed
from pruneloop.shrinking import layers_that_can_go

log = logging.getLogger(__name__)

_DENSE = f"{FIRST}/rounds/00"
"""Where the first rung's run leaves round 0."""
_ROUNDING = 1e-9


def climb(
    config: Config, path: Path, overrides: list[str], accepted: Callable[[], None] | None = None
) -> Outcome:
    """Try all rungs in a folder, or go on where an earlier try stopped in it.

    Leaves the smallest model within the budget there, as checkpoint/ and as deploy/.

    Args:
        overrides: what the command line changed of conf/, for the record.
        accepted: called once the folder is known to be this ladder's.

    Raises:
        ConfigError, InputError, CheckpointError, EnvironmentFault: as runs do.
    """
    check_installed("experiment=smallest")
    if launcher.world_size() > 1:
        raise ConfigError("ladder=true: goes from rung to rung in one process; start only one")
    pipeline.check_before_loading(config)
    folder = RunFolder(path)
    if folder.rounds_jsonl.exists():
        raise CheckpointError(f"{path}: holds a run that is no ladder; use another hydra.run.dir")
    with StateFolder(path / STATE).locked(), status(folder, main=True):
        return Ladder(config, folder, overrides, accepted).climb()


class Ladder:
    """A ladder in a folder; every rung is a run in rungs/NAME/, or again in rungs/NAME-again/."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        overrides: list[str],
        accepted: Callable[[], None] | None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._overrides = overrides
        self._accepted = accepted
        self._judge = Judge(
            config.data, config.budget.metric.name, lambda: self._facts().data.max_length
        )
        self._tries: list[Attempt] = []

    def climb(self) -> Outcome:
        """Try all rungs, and hand over the smallest one within the budget."""
        passed: dict[str, Attempt] = {}
        for rung in RUNGS:
            if why := self._obstacle(rung, passed):
                log.info(f"rung: {rung.said(self._config)}: not tried: {why}")
                continue
            found = self._try(rung, passed, again=False)
            if not found.within:
                found = self._try(rung, passed, again=True)
            if found.within:
                passed[rung.name] = found
        outcome = self._outcome()
        self._hand_over(outcome)
        return outcome

    def _obstacle(self, rung: Rung, passed: Mapping[str, Attempt]) -> str | None:
        """Return why a rung cannot be tried; None where it can."""
        for other in RUNGS:
            if other.name in rung.needs and other.name not in passed:
                return f"{other.said(self._config)} is not within the budget, or cannot be"
        if rung.halves_layers:
            base = self._place(passed[rung.needs[0]].checkpoint)
            if not layers_that_can_go(AutoConfig.from_pretrained(base, trust_remote_code=False)):
                return "no layer can go"
        return None

    def _try(self, rung: Rung, passed: Mapping[str, Attempt], again: bool) -> Attempt:
        """Run a rung, or find it done, and judge it."""
        said = rung.said(self._config) + (", twice the epochs" if again else "")
        log.info(f"rung: {said} ...")
        if rung.needs:
            base = self._place(passed[rung.needs[0]].checkpoint)
            config = run_from(self._config, rung, Start(base, self._place(_DENSE)), again)
        else:
            config = first_run(self._config, self._place(FIRST) if again else None)
        name = f"{rung.name}-again" if again else rung.name
        pipeline.run(config, self._place(name), self._overrides, accepted=self._accept)
        if not self._tries:
            self._tries.append(self._judged("int8", "int8 alone", None, _DENSE))
        epochs = config.finetune.epochs
        found = self._judged(rung.name, said, epochs, f"{name}/checkpoint")
        self._tries.append(found)
        self._outcome().write(self._folder)
        log.info(
            f"rung: {said}: {found.validation:.4f} on validation as int8, round 0 "
            f"{self._dense:.4f}: {'within' if found.within else 'beyond'} the budget"
        )
        return found

    def _accept(self) -> None:
        """Take the folder for this ladder's, once its first rung goes on or begins."""
        if self._accepted is not None:
            self._accepted()
            self._accepted = None
        write_running(self._folder)

    def _judged(self, rung: str, said: str, epochs: int | None, checkpoint: str) -> Attempt:
        found = self._judge.int8(self._place(checkpoint))
        lost = self._dense - found.validation
        return Attempt(
            rung=rung,
            model=said,
            epochs=epochs,
            parameters=found.parameters,
            int8_bytes=found.bytes,
            validation=found.validation,
            test=found.test,
            lost=lost,
            within=lost <= self._max_drop + _ROUNDING,
            checkpoint=checkpoint,
        )

    def _outcome(self) -> Outcome:
        return Outcome(self._tries, self._dense, self._max_drop)

    def _hand_over(self, outcome: Outcome) -> None:
        """Leave the best one as checkpoint/ and deploy/, and say so; without any, round 0."""
        folder, best = self._folder, outcome.best
        if best is None:
            log.warning("warning: no int8 file is within the budget; round 0 itself is left")
        hand_over(
            self._place(best.checkpoint if best else _DENSE), folder.checkpoint, outcome.card()
        )
        folder.write_facts(self._facts())
        wish = Wish(self._max_drop, int8=best is not None)
        if read_deployed(folder).get("max_drop") != self._max_drop:
            classifier = load_classifier(folder.checkpoint)
            deploy(classifier, folder.checkpoint, folder.deploy, self._judge.rows, wish)
        log.info("\n".join(["ladder:", *outcome.table()]))
        log.info(f"checkpoint: {folder.checkpoint} (verified; loads in plain transformers)")
        log.info(f"deploy:     {folder.deploy} (runner.py serves it without torch)")
        log.info(f"records:    {folder.path / 'ladder.csv'}")
        if self._config.push_to_hub is not None:
            what = best.model if best else "round 0"
            log.info(f"uploaded:   {push(folder.checkpoint, self._config.push_to_hub, what)}")

    def _facts(self) -> RunFacts:
        """Return what the first rung's run has recorded of the data, which all share."""
        facts = RunFolder(self._place(FIRST)).read_facts()
        assert facts is not None
        return facts

    @property
    def _dense(self) -> float:
        """What round 0 has on validation, in float32, on the rows that int8 is asked."""
        return self._judge.float32(self._place(_DENSE)).validation

    @property
    def _max_drop(self) -> float:
        assert self._config.budget.max_drop is not None
        return self._config.budget.max_drop

    def _place(self, name: str) -> Path:
        return self._folder.rungs / name
