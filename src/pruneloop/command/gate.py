"""What an override may say: a value that can be meant, and nothing that names code to run."""

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, RangeSweep
from hydra.errors import OverrideParseException

from pruneloop import launcher
from pruneloop.command.choices import GROUPS, meant, options
from pruneloop.config import known_fields
from pruneloop.errors import ConfigError

# What may be changed. The others can name Python objects to call, packages to load, or
# folders outside the run's.
_HYDRA_KEYS = re.compile(
    r"hydra\.(run\.dir|sweep\.dir|mode|verbose|job\.(name|chdir)|launcher\..+|sweeper\..+)"
)
_COUNTS = tuple(f"hydra.sweeper.{name}" for name in ("max_batch_size", "n_trials", "n_jobs"))
_MOST_POINTS = 100_000


def refuse_code(arguments: Sequence[str]) -> None:
    """Let no override make Hydra call something, or leave the run or sweep folder.

    Raises:
        ConfigError: one would.
    """
    for argument in arguments:
        key = argument.lstrip("+~").partition("=")[0]
        override = "=" in argument or argument.startswith("~")
        of_hydra = override and re.match(r"hydra\b(?!/)", key)
        if (of_hydra and not _HYDRA_KEYS.fullmatch(key)) or re.search(
            r"(?<!\w)_target_(?!\w)", argument
        ):
            raise ConfigError(
                f"{key}: cannot be set here; a configuration never names code to run or a "
                "folder outside the run's"
            )


def check_overrides(arguments: Sequence[str]) -> None:
    """Check of every override what Hydra takes without a word, or would stumble over.

    Raises:
        ConfigError: a value cannot be read, or cannot be meant.
    """
    parser = OverridesParser.create()
    for argument in arguments:
        if "=" not in argument and not argument.startswith("~"):
            continue
        try:
            (override,) = parser.parse_overrides([argument])
        except OverrideParseException as error:
            raise _unreadable(argument, arguments) from error
        for value in _values(override):
            _check(override, value)


def _unreadable(argument: str, arguments: Sequence[str]) -> ConfigError:
    """Say how the whole command must be typed, with quotes around what needs them."""
    key, _, value = argument.partition("=")
    quoted = f'{key}="{value.strip(chr(34)).replace(chr(34), chr(92) + chr(34))}"'
    words = [quoted if word == argument else word for word in arguments]
    program = launcher.program()
    return ConfigError(
        f"cannot read {argument!r}: Hangul, spaces and any of {{}}[]=,: need quotes, within those "
        f"of the shell; write {program} {shlex.join(words)}"
    )


def _values(override: Override) -> Iterator[Any]:
    """Yield what an override's key is to be; those of a sweep each."""
    key, line = override.key_or_group, override.input_line
    if override.is_delete():
        raise ConfigError(f"{line}: a run needs one; write {key}=VALUE")
    if not override.is_sweep_override():
        yield override.value()
    elif override.is_discrete_sweep():
        swept = override.value()
        if isinstance(swept, RangeSweep):
            _check_range(line, swept)
        elif isinstance(swept, Glob):
            _check_pattern(override, swept)
        else:
            for value in override.sweep_iterator():
                yield value.text if isinstance(value, QuotedString) else value


def _check_range(line: str | None, swept: RangeSweep) -> None:
    if next(iter(swept.range()), None) is None:
        raise ConfigError(f"{line}: is empty; nothing would run")
    assert swept.start is not None and swept.stop is not None
    if (swept.stop - swept.start) / swept.step > _MOST_POINTS:
        raise ConfigError(f"{line}: is more than {_MOST_POINTS:,} points, which Hydra lists first")


def _check_pattern(override: Override, swept: Glob) -> None:
    key, line = override.key_or_group, override.input_line
    if key not in GROUPS and "/" not in key:
        raise ConfigError(f"{line}: {key} has no options for a pattern; list values: {key}=1,2")
    if not swept.filter(options(key)):
        known = ", ".join(options(key))
        raise ConfigError(f"{line}: fits none of {known}; nothing would run")


def _check(override: Override, value: Any) -> None:
    key, line = override.key_or_group, override.input_line
    if key in GROUPS or "/" in key:
        _check_option(override, value)
    elif key in ("hydra.run.dir", "hydra.sweep.dir"):
        if value is None or not str(value).strip():
            raise ConfigError(f"{line}: must be a folder; try {key}=outputs/mine")
    elif key == "hydra.verbose":
        names = value if isinstance(value, list) else [value]
        if not (isinstance(value, bool) or all(isinstance(name, str) for name in names)):
            raise ConfigError(f"{line}: must be true, false, or the name of a logger")
    elif key == "hydra.mode" and value not in ("RUN", "MULTIRUN"):
        raise ConfigError(f"{line}: must be RUN or MULTIRUN")
    elif key in _COUNTS and re.fullmatch(r"0|-\d+", str(value)):
        or_all = ", or null for all points at once" if key.endswith("max_batch_size") else ""
        raise ConfigError(f"{line}: must be from 1{or_all}")
    elif key in _SWITCHES and not isinstance(value, (bool, str)):
        raise ConfigError(f"{line}: must be true or false")


def _check_option(override: Override, value: Any) -> None:
    key, line = override.key_or_group, override.input_line
    if isinstance(value, (str, dict)) and value:
        return
    typed = str(line).partition("=")[2]  # 2_4 is read as the number 24
    known = options(key)
    near = meant(typed, known) if typed[:1].isalnum() else ""
    raise ConfigError(f"{line}: must be the name of an option{near}; one of {', '.join(known)}")


_SWITCHES = {key for key, field in known_fields() if field.type is bool} | {"hydra.job.chdir"}
