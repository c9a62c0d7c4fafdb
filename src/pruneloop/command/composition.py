"""What Hydra and OmegaConf say of a command that they cannot compose, in one line."""

import difflib
import re
from dataclasses import fields
from typing import cast

from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from pruneloop.config import Config, known_keys
from pruneloop.errors import ConfigError

_EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm"} | {
    name: name for name in ("joblib", "ray", "optuna")
}


def explain_composition(error: BaseException) -> ConfigError:
    """Return a composition's failure as a ConfigError."""
    if isinstance(error, MissingMandatoryValue):
        found = re.search(r"full_key: (\S+)", str(error))
        key = found.group(1) if found else "a key"
        return ConfigError(f"{key} is missing; give it as {key}=VALUE")
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"cannot read {error.override!r}; put quotes around a value with Hangul, spaces "
            "or any of {}[]=,: as in 'data.path=\"/자료/리뷰\"'"
        )
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(found.group(1))
    if found := re.search(r"Could not (?:find|load) '(\S+)/(\S+)'", text):
        return _unknown_option(found.group(1), found.group(2), text)
    text = " ".join(text.split()).removeprefix("Error merging override ")
    cause = str(error.__cause__ or "").split("\n")[0]
    return ConfigError(f"{text}: {cause}" if cause else text)


def _unknown_option(group: str, option: str, text: str) -> ConfigError:
    if option in _EXTRAS:
        return ConfigError(f'{group}: needs pip install "pruneloop[{_EXTRAS[option]}]"')
    listed = text.partition("Available options in")[2].partition("Config search")[0]
    return ConfigError(f"{group}={option}: no such option; one of {', '.join(listed.split()[1:])}")


def unknown_key(key: str) -> ConfigError:
    """Say that a key is not known, and what was perhaps meant."""
    keys = known_keys()
    if key in keys:
        group = key.split(".")[0]
        return ConfigError(f"{key}: not a key of this choice of {group}; see conf/{group}/")
    near = difflib.get_close_matches(key, keys, n=1)
    return ConfigError(f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))


def to_config(composed: DictConfig) -> Config:
    """Return the checked configuration.

    Raises:
        ConfigError: a value is out of its range, or a key is not known.
    """
    try:
        return cast(Config, OmegaConf.to_object(composed))
    except AttributeError as error:
        raise unknown_key(_added_key(composed)) from error


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
