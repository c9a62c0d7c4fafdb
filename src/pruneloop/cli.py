"""The command line: Hydra composes the configuration, the pipeline runs it.

Whatever goes wrong ends as one line on standard error and an exit code (`errors.py`).
HYDRA_FULL_ERROR=1 shows the traceback instead.
"""

import atexit
import difflib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pruneloop.config import Config, known_keys, register_schema
from pruneloop.errors import (
    ConfigError,
    EnvironmentFault,
    FolderInUse,
    PeerLost,
    Preempted,
    PruneloopError,
    reason,
)
from pruneloop.records import RoundRecord, RunFolder, mark_start

_INTERRUPTED = 130


def main() -> None:
    """Run the command line; end the process with the exit code of what went wrong."""
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
    # Hydra then lets exceptions through, instead of printing them its own way.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Threads that wait by spinning slow small models tenfold where cores are shared.
    # Read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback
    logging.captureWarnings(True)  # as lines of the log, which do not tear a progress bar
    rank = int(os.environ.get("RANK", "0"))
    codes: list[int] = []

    def report(error: BaseException) -> None:
        known = None if full_error else _explain(error)
        if known is None:
            traceback.print_exception(error)
            codes.append(1)
            return
        if rank == 0:
            print(f"pruneloop: {known}", file=sys.stderr)
        elif isinstance(known, EnvironmentFault):  # it may be this machine's alone
            print(f"pruneloop (process {rank}): {known}", file=sys.stderr)
        if rank > 0:
            time.sleep(2)  # torchrun kills rank 0 when we end: let it speak first
        codes.append(known.exit_code)

    def execute(composed: DictConfig) -> float | list[float] | None:
        # Caught here, inside the job, so that a sweep goes on with its next point.
        try:
            return _execute(composed)
        except Preempted:
            if _may_requeue():
                _requeue()
            raise
        except Exception as error:
            if rank == 0:
                _note_failure(error)
            report(error)
            return None

    register_schema()
    try:
        _refuse_code(sys.argv[1:])
        if rank > 0:
            _share_the_first_folder()
        hydra.main(version_base="1.3", config_path=_conf_folder(), config_name="config")(execute)()
    except KeyboardInterrupt:
        codes.append(_INTERRUPTED)
    except (Exception, Preempted) as error:
        report(error)
    try:
        codes += [_summarise(folder) for folder in SweepFolder.seen if rank == 0]
    except Exception as error:
        report(error)
    sys.exit(max(codes, default=0))


# What of Hydra's own settings the command line may change. The others can name Python
# objects to call, packages to load, or folders outside the run's.
_HYDRA_KEYS = re.compile(
    r"hydra\.(run\.dir|sweep\.dir|mode|verbose|job\.(name|chdir)|launcher\..+|sweeper\..+)"
)


def _refuse_code(arguments: list[str]) -> None:
    """Let no override make Hydra call something, or leave the run or sweep folder.

    Raises:
        ConfigError: one would.
    """
    for argument in arguments:
        key = argument.lstrip("+~").partition("=")[0]
        override = "=" in argument or argument.startswith("~")
        of_hydra = override and re.match(r"hydra\b(?!/)", key)
        if (
            (of_hydra and not _HYDRA_KEYS.fullmatch(key))
            or argument.startswith("--experimental-rerun")  # it unpickles a file
            or re.search(r"(?<!\w)_target_(?!\w)", argument)
        ):
            raise ConfigError(
                f"{key}: cannot be set here; a configuration never names code to run or a "
                "folder outside the run's"
            )


def _share_the_first_folder() -> None:
    """Have one run folder for all processes: only rank 0 has Hydra make one that is kept."""
    unused = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, unused, ignore_errors=True)
    sys.argv += [f"hydra.run.dir={unused}", f"hydra.sweep.dir={unused}"]
    sys.argv += ["hydra.output_subdir=null", "hydra/job_logging=stdout"]
    sys.argv += ["hydra/hydra_logging=none"]


def _may_requeue() -> bool:
    """Whether this is a job of submitit's, and not one that its user has cancelled."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return "SUBMITIT_EXECUTOR" in os.environ
    job = os.environ["SLURM_JOB_ID"]
    answer = subprocess.run(
        ["squeue", "--noheader", "--format=%T", "--jobs", job], capture_output=True, text=True
    )
    return answer.stdout.strip() == "RUNNING"


def _requeue() -> None:
    """Have submitit put this job back into the queue: its own signal does."""
    name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
    signal.raise_signal(signal.Signals[f"SIG{name}"])


class SweepFolder(Callback):
    """Hydra's hook into a sweep: remembers its folder, and names its points."""

    seen: ClassVar[list[Path]] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
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


def _summarise(folder: Path) -> int:
    """Write and print a sweep's summary; return the largest exit code of its points."""
    from pruneloop.report.points import read_sweep
    from pruneloop.report.sweep import write_sweep

    if not any(folder.glob("*/.hydra")):
        return 0  # it ended before its first point
    sweep = read_sweep(folder)
    print(write_sweep(sweep))
    return sweep.exit_code


def _note_failure(error: Exception) -> None:
    """Leave in STATUS.json why a command failed, also before its run could say so itself."""
    if isinstance(error, (FolderInUse, PeerLost)):
        return  # STATUS.json speaks of another process
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    known = _explain(error)
    message, code = (str(known), known.exit_code) if known else (repr(error), 1)
    with suppress(OSError, ValueError):  # a folder that is gone must not hide what went wrong
        folder.write_failure(message, code)


def _conf_folder() -> str:
    """Return conf/ inside the installed package, or beside src/ in a clone."""
    here = Path(__file__).resolve().parent
    return str(next(f for f in (here / "conf", here.parents[1] / "conf") if f.is_dir()))


def _execute(composed: DictConfig) -> float | list[float] | None:
    """Run one configuration; return what a search is to maximise, if there is one."""
    try:
        config = cast(Config, OmegaConf.to_object(composed))
    except AttributeError as error:
        raise _unknown_key(_added_key(composed)) from error
    # torch and transformers take seconds to load: only once the configuration is right.
    from pruneloop import pipeline

    hydra_config = HydraConfig.get()
    if config.push_to_hub is not None and hydra_config.mode == RunMode.MULTIRUN:
        raise ConfigError(
            f"push_to_hub={config.push_to_hub}: the points of a sweep would overwrite each "
            "other; run the one to upload by itself, in its folder"
        )
    overrides = list(hydra_config.overrides.task)
    records = pipeline.run(config, Path(hydra_config.runtime.output_dir), overrides)
    direction = getattr(hydra_config.sweeper, "direction", None)  # a search has one
    if direction is None:
        return None
    if isinstance(direction, ListConfig):
        return [records[-1].sparsity, records[-1].accuracy]
    return goodness(records, config.search.max_drop)


def goodness(records: list[RoundRecord], max_drop: float) -> float:
    """Return the sparsity if accuracy fell by at most `max_drop`; else how far it fell too low.

    The second is negative, so that a search is led back.
    """
    drop = records[0].accuracy - records[-1].accuracy
    return records[-1].sparsity if drop <= max_drop else max_drop - drop


def _added_key(composed: DictConfig) -> str:
    """Return the key that a `+` override put where the classes have none."""
    own = {field.name for field in fields(Config)}
    for group, node in composed.items():
        if group not in own:
            return str(group)
        if isinstance(node, DictConfig):
            names = {field.name for field in fields(cast(type[Config], OmegaConf.get_type(node)))}
            for key in map(str, node):
                if key not in names:
                    return f"{group}.{key}"
    raise AssertionError("every key is known")


def _explain(error: BaseException) -> PruneloopError | Preempted | None:
    """Turn an exception into one of ours, with a message of one line; None for a bug."""
    if isinstance(error, (PruneloopError, Preempted)):
        return error
    if isinstance(error, MissingMandatoryValue):
        found = re.search(r"full_key: (\S+)", str(error))
        key = found.group(1) if found else "a key"
        return ConfigError(f"{key} is missing; give it as {key}=VALUE")
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"cannot read {error.override!r}; put quotes around a value with Hangul, spaces "
            "or any of {}[]=,: as in 'data.path=\"/자료/리뷰\"'"
        )
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_composition(error)
    if isinstance(error, OSError):
        return EnvironmentFault.of(error)
    if type(error).__module__.startswith("submitit"):
        return EnvironmentFault(f"a job of the sweep ended without a result ({reason(error)})")
    return None


_EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm"} | {
    name: name for name in ("joblib", "ray", "optuna")
}


def _explain_composition(error: Exception) -> ConfigError:
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(found.group(1))
    if found := re.search(r"Could not (?:find|load) '(\S+)/(\S+)'", text):
        group, option = found.groups()
        if option in _EXTRAS:
            return ConfigError(f'{group}: needs pip install "pruneloop[{_EXTRAS[option]}]"')
        listed = text.partition("Available options in")[2].partition("Config search")[0]
        return ConfigError(
            f"{group}={option}: no such option; one of {', '.join(listed.split()[1:])}"
        )
    text = " ".join(text.split()).removeprefix("Error merging override ")
    cause = str(error.__cause__ or "").split("\n")[0]
    return ConfigError(f"{text}: {cause}" if cause else text)


def _unknown_key(key: str) -> ConfigError:
    keys = known_keys()
    if key in keys:
        group = key.split(".")[0]
        return ConfigError(f"{key}: not a key of this choice of {group}; see conf/{group}/")
    near = difflib.get_close_matches(key, keys, n=1)
    return ConfigError(f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))
