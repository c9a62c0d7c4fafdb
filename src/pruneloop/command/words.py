"""What a command line may look like: flags, then KEY=VALUE; a word of another form is refused."""

import re
from collections.abc import Sequence
from pathlib import Path

from pruneloop.command.choices import GROUPS, meant
from pruneloop.command.gate import check_overrides, refuse_code
from pruneloop.command.verbs import VERBS
from pruneloop.config import known_keys
from pruneloop.errors import ConfigError

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
