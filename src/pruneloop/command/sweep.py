"""What a sweep needs of the command: its folder, its points' names, its way back on Slurm."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override

from pruneloop.command.explain import Errors, explain
from pruneloop.command.folder import cut_secrets, first_missing
from pruneloop.command.output import say
from pruneloop.errors import ConfigError, reason
from pruneloop.records import mark_start
from pruneloop.signals import heed_signals


class RunHook(Callback):
    """Hydra's hook into a command: remembers its folders, and names a sweep's points.

    `made` is the outermost folder that Hydra makes for a single run.
    """

    seen: ClassVar[list[Path]] = []
    made: ClassVar[Path | None] = None

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        type(self).made = first_missing(Path(config.hydra.run.dir).resolve())

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        heed_signals()  # a launcher may wait for hours
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        mark_start(folder)
        self.seen.append(folder)
        # A point's folder is named by what is swept, not by what all points share. The
        # points' configs are composed anew, from these lists.
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        shared = [o.key_or_group for o in overrides if not o.is_sweep_override()]
        with flag_override(config, "readonly", False):
            config.hydra.overrides.hydra.append(
                f"hydra.job.config.override_dirname.exclude_keys=[{','.join(shared)}]"
            )


def summarise(folder: Path) -> int:
    """Write and print a sweep's summary; return the largest exit code of its points."""
    from pruneloop.report.points import read_sweep
    from pruneloop.report.sweep import write_sweep

    if not any(folder.glob("*/.hydra")):
        cut_secrets(folder)
        return 0  # it ended before its first point
    sweep = read_sweep(folder)
    say([write_sweep(sweep)])
    return sweep.exit_code


def requeue() -> None:
    """Have submitit put a preempted job of its back into the queue: its own signal does."""
    if _may_requeue():
        name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
        signal.raise_signal(signal.Signals[f"SIG{name}"])


def _may_requeue() -> bool:
    """Whether this is a job of submitit's, and not one that its user has cancelled."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return "SUBMITIT_EXECUTOR" in os.environ
    job = os.environ["SLURM_JOB_ID"]
    answer = subprocess.run(
        ["squeue", "--noheader", "--format=%T", "--jobs", job], capture_output=True, text=True
    )
    return answer.stdout.strip() == "RUNNING"


@contextmanager
def starting(words: Sequence[str], errors: Errors) -> Iterator[None]:
    """Say in one line that a sweeper or launcher cannot be started; runs tell their own errors.

    Raises:
        ConfigError: it cannot.
    """
    try:
        yield
    except Exception as error:
        # Optuna's, after a search none of whose points is done; each has said why.
        if "No trials are completed" in str(error) and errors.exit_code:
            return
        named = [word for word in words if re.match(r"\W*hydra[./](sweeper|launcher)\b", word)]
        if not named or explain(error) is not None:
            raise
        raise ConfigError(f"{' '.join(named)}: cannot be started with ({reason(error)})") from error
