"""What a command line may say: flags, then KEY=VALUE, and nothing that names code to run."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, RangeSweep
from hydra.errors import OverrideParseException

from pruneloop import launcher
from pruneloop.command.choices import GROUPS, meant, options
from pruneloop.command.verbs import VERBS
from pruneloop.config import known_fields, known_keys
from pruneloop.errors import ConfigError

# What may be changed. The others can name Python objects to call, packages to load, or
# folders outside the run's.
_HYDRA_KEYS = re.compile(
    r"hydra\.(run\.dir|sweep\.dir|mode|verbose|job\.(name|chdir)|launcher\..+|sweeper\..+)"
)
# Hydra's own flags, with the values that they take. Those left out read another folder's
# configuration, which could name code, or unpickle a file.
_FLAGS: dict[str, tuple[str, ...] | None] = {
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--version", "--resolve"), None),
    **dict.fromkeys(("--run", "-r", "--multirun", "-m", "--shell-completion", "-sc"), None),
    **dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")),
    **dict.fromkeys(("--package", "-p"), ()),
    **dict.fromkeys(
        ("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    ),
}
_PATHS = (
    *("hydra.run.dir", "hydra.sweep.dir", "data.path", "data.train", "data.test", "data.name"),
    *("model.name", "start_from", "distill.teacher"),
)
_COUNTS = tuple(f"hydra.sweeper.{name}" for name in ("max_batch_size", "n_trials", "n_jobs"))
_MOST_POINTS = 100_000
_COMMANDS = ("--run", "-r", "--multirun", "-m", "--cfg", "-c", "--info", "-i")
_COMPLETION = ("--shell-completion", "-sc")


def checked(arguments: Sequence[str]) -> list[str]:
    """Return a command line as Hydra wants it, having refused what it would stumble over.

    Raises:
        ConfigError: a word is neither a flag nor KEY=VALUE, would run code, or cannot be meant.
    """
    words = arranged(arguments)
    refuse_code(words)
    check_overrides(words)
    return words


def arranged(arguments: Sequence[str]) -> list[str]:
    """Return a command line with its flags first, as Hydra wants them.

    Raises:
        ConfigError: something is neither a flag nor KEY=VALUE.
    """
    flags, overrides, rest = [], [], list(arguments)
    while rest:
        word = rest.pop(0)
        name, _, value = word.partition("=")
        if name.startswith("-") and name not in _FLAGS:
            raise _misspelt(name.lstrip("-").replace("-", "_"), value, word, rest)
        if name.startswith("-"):
            flags += _with_value(name, value or (rest.pop(0) if _takes_value(name, rest) else ""))
        elif "=" in word or word.startswith("~"):
            overrides.append(_in_home(word))
        else:
            raise _misspelt(word, "", word, rest)
    _check_flags(flags, overrides)
    return flags + overrides


def _takes_value(name: str, rest: Sequence[str]) -> bool:
    return _FLAGS[name] is not None and bool(rest) and "=" not in rest[0]


def _with_value(name: str, value: str) -> list[str]:
    allowed = _FLAGS[name]
    if allowed is None and value:
        raise ConfigError(f"{name}={value}: {name} takes no value")
    if allowed and value not in allowed:
        raise ConfigError(f"{name} {value}: must be one of {', '.join(allowed)}")
    return [name, value] if allowed is not None else [name]


def _check_flags(flags: Sequence[str], overrides: Sequence[str]) -> None:
    completion = any(flag in _COMPLETION for flag in flags)
    if sum(flag in _COMMANDS for flag in flags) + completion > 1:
        raise ConfigError(f"{' '.join(flags)}: only one of these at a time")
    if "--resolve" in flags and not {"--cfg", "-c", "--help", "-h"}.intersection(flags):
        raise ConfigError("--resolve: goes with --cfg; write --cfg job --resolve")
    if completion and not any(re.match("(un)?install=|query=", word) for word in overrides):
        raise ConfigError("--shell-completion: write --shell-completion install=bash")


def _misspelt(key: str, value: str, word: str, rest: Sequence[str]) -> ConfigError:
    """Say how to write `--rounds 8`, `--learning-rate=1e-4` or `rounds 8`."""
    keys = sorted({*known_keys(), *GROUPS})
    found = [known for known in keys if known == key or known.endswith(f".{key}")]
    if found:
        follows = value or (rest[0] if rest and "=" not in rest[0] else "VALUE")
        return ConfigError(f"{word}: settings are written KEY=VALUE; write {found[0]}={follows}")
    if word.startswith("-"):
        near = meant(key, keys)
        return ConfigError(
            f"{word}: no such flag; settings are written KEY=VALUE, see --help{near}"
        )
    near = meant(word, [*VERBS, *keys])
    return ConfigError(f"{word}: no such command, and no KEY=VALUE{near}")


def _in_home(word: str) -> str:
    """Put the home folder in the place of `~`, which no shell does behind a `=`."""
    key, equals, value = word.partition("=")
    if key not in _PATHS:
        return word
    return key + equals + re.sub(r"(?<![^\[,])~(?=[/,\]]|$)", lambda _: str(Path.home()), value)


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
