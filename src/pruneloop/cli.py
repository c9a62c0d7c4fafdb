"""The command line: Hydra composes the configuration, the pipeline runs it."""

import os
import re
import sys
from pathlib import Path
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pruneloop.config import Config, register_schema
from pruneloop.errors import ConfigError, PruneloopError

_PREFIX = "pruneloop"
_INTERRUPTED = 130


def _conf_folder() -> str:
    """Return conf/ inside the installed package, or beside src/ in a clone."""
    here = Path(__file__).resolve().parent
    return str(next(f for f in (here / "conf", here.parents[1] / "conf") if f.is_dir()))


def _execute(composed: DictConfig) -> None:
    config = cast(Config, OmegaConf.to_object(composed))
    # torch and transformers take seconds to load: only once the configuration is right.
    from pruneloop import pipeline

    pipeline.run(config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """Run the command line; end the process with the exit code of what went wrong."""
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
    # Hydra then lets exceptions through, instead of printing them its own way.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    if int(os.environ.get("RANK", "0")) > 0:
        # One run folder for all processes: only rank 0 has Hydra make one.
        sys.argv += ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    register_schema()
    try:
        hydra.main(version_base="1.3", config_path=_conf_folder(), config_name="config")(_execute)()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if full_error:
            raise
        known = _explain(error)
        if known is None:
            raise
        print(f"{_PREFIX}: {known}", file=sys.stderr)
        sys.exit(known.exit_code)


def _explain(error: Exception) -> PruneloopError | None:
    """Turn an exception into one of ours, with a message of one line; None for a bug."""
    if isinstance(error, PruneloopError):
        return error
    if isinstance(error, MissingMandatoryValue):
        key = _field(error, "full_key")
        return ConfigError(f"{key} is missing; give it as {key}=VALUE")
    if isinstance(error, (HydraException, OmegaConfBaseException, AttributeError)):
        return _explain_config(error)
    return None


def _explain_config(error: Exception) -> ConfigError | None:
    text = _one_line(str(error))
    cause = f": {_one_line(str(error.__cause__))}" if error.__cause__ else ""
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"cannot read {error.override!r}; put quotes around the value if it has Hangul, "
            f"spaces or any of {{}}[]=,: as in 'data.path=\"/자료/리뷰\"' ({text})"
        )
    return ConfigError(text + cause)


def _one_line(text: str) -> str:
    return " ".join(re.sub(r"full_key:.*|object_type=.*|reference_type=.*", "", text).split())


def _field(error: Exception, name: str) -> str:
    found = re.search(rf"{name}: (\S+)", str(error))
    return found.group(1) if found else "a key"
