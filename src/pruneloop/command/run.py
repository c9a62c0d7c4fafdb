"""`pruneloop KEY=VALUE ...`: Hydra composes the configuration, the pipeline runs it."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig

from pruneloop import launcher
from pruneloop.command.choices import conf_folder
from pruneloop.command.completion import complete
from pruneloop.command.composition import to_config
from pruneloop.command.explain import Errors
from pruneloop.command.folder import JobFiles
from pruneloop.command.loading import loading
from pruneloop.command.output import guard_output
from pruneloop.command.sweep import RunHook, requeue, starting, summarise
from pruneloop.command.verbs import show_help, show_version
from pruneloop.command.words import checked
from pruneloop.config import Config, HubData, PretrainedModel, register_schema
from pruneloop.errors import (
    ConfigError,
    EnvironmentFault,
    InvariantError,
    Preempted,
    PruneloopError,
)
from pruneloop.ladder.rungs import check_ladder
from pruneloop.offline import keep_to_cache_without_hub
from pruneloop.records import RunFolder, last_kept
from pruneloop.signals import heed_signals, watch_parent


def run(arguments: Sequence[str], errors: Errors) -> None:
    """Run one configuration, or all points of a sweep, and then its summary.

    A point that fails is shown and counted in `errors`, and the sweep goes on.
    """
    register_schema()
    words = checked(arguments)
    if {"--help", "-h"}.intersection(words):
        show_help()
    elif "--version" in words:
        show_version()
    elif not complete(words):
        _launch(words, errors)


def _launch(words: Sequence[str], errors: Errors) -> None:
    """Have Hydra compose and run what a command line asks for."""
    first, command = launcher.rank() == 0, os.getpid()

    def execute(composed: DictConfig) -> float | list[float] | None:
        # Caught here, inside the job, so that a sweep goes on with its next point.
        guard_output()  # a launcher's process comes in here
        if os.getppid() == command and "SUBMITIT_EXECUTOR" not in os.environ:
            watch_parent()  # of a worker, as joblib starts them; a job outlives its command
        files = JobFiles(composed) if first else None
        try:
            heed_signals()
            return _execute(composed, files)
        except Preempted as stop:
            if files is not None:
                files.note_stop(stop)
            requeue()
            raise
        except Exception as error:
            if files is not None:
                files.note_failure(error, RunHook.made)
            errors.show(error)
            if launcher.world_size() > 1 and _may_be_alone(error):
                sys.exit(errors.exit_code)  # the others wait for this process, until it ends
            return None

    sys.argv[1:] = words
    if not first:
        _share_the_first_folder()
    try:
        with starting(words, errors):
            hydra.main(version_base="1.3", config_path=conf_folder(), config_name="config")(
                execute
            )()
    finally:
        if first:
            for folder in RunHook.seen:
                errors.add(summarise(folder))


def _share_the_first_folder() -> None:
    """Have one run folder for all processes: only rank 0 has Hydra make one that is kept."""
    unused = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, unused, ignore_errors=True)
    sys.argv += [f"hydra.run.dir={unused}", f"hydra.sweep.dir={unused}"]
    sys.argv += ["hydra/hydra_logging=none"]


def _execute(composed: DictConfig, files: JobFiles | None) -> float | list[float] | None:
    """Run one configuration; return what a search is to maximise, if there is one."""
    config = to_config(composed)
    hydra_config = HydraConfig.get()
    swept = hydra_config.mode == RunMode.MULTIRUN
    check_command(config, swept)
    keep_to_cache_without_hub(_named(config))
    # torch and transformers take seconds to load: only once the configuration is right.
    with loading():
        from pruneloop import pipeline
        from pruneloop.report.answer import at_chance

    overrides = list(hydra_config.overrides.task)
    folder = Path(hydra_config.runtime.output_dir)
    shared = folder.parent / "round0" if swept else None
    accepted = files.accept if files else None
    # Paths are meant from where they were typed, also where hydra.job.chdir has led elsewhere.
    with chdir(hydra_config.runtime.cwd):
        if config.ladder:
            from pruneloop.ladder.climbing import climb

            climb(config, folder, overrides, accepted)
            return None
        records = pipeline.run(config, folder, overrides, shared, accepted)
    kept = last_kept(records)
    direction = getattr(hydra_config.sweeper, "direction", None)  # a search has one
    if direction is None:
        return None
    facts = RunFolder(folder).read_facts()
    if facts is not None and at_chance(records, facts):
        raise InvariantError(
            f"{folder}: its dense model is at chance, so the search does not score it; train "
            "round 0 longer (finetune.dense_epochs), or at another finetune.dense_learning_rate"
        )
    # With a budget, the round that is kept is the sparsest within it.
    return [kept.sparsity, kept.accuracy] if isinstance(direction, ListConfig) else kept.sparsity


def check_command(config: Config, swept: bool) -> None:
    """Check what a sweep cannot do, and what a ladder cannot."""
    if config.push_to_hub is not None and swept:
        raise ConfigError(
            f"push_to_hub={config.push_to_hub}: the points of a sweep would overwrite each "
            "other; run the one to upload by itself, in its folder"
        )
    if config.ladder and swept:
        raise ConfigError("ladder=true: is many runs, and no point of a sweep; leave out -m")
    if config.ladder:
        check_ladder(config)


def _named(config: Config) -> list[str]:
    """Return what a run loads by its name on the hub, or from a folder."""
    data, model, teacher = config.data, config.model, config.distill.teacher
    names = [data.name] if isinstance(data, HubData) else []
    names += [model.name] if isinstance(model, PretrainedModel) else []
    return names + ([teacher] if teacher else [])


def _may_be_alone(error: Exception) -> bool:
    """Whether an error may be that of one process of several, and not of all."""
    return isinstance(error, EnvironmentFault) or not isinstance(error, PruneloopError)
