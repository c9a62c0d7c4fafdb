"""What Hydra and OmegaConf say of a command that they cannot compose, in one line."""

import re
from dataclasses import fields
from typing import cast

from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from pruneloop.command.choices import instead_of, meant, options
from pruneloop.config import Config
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
        return ConfigError(f"cannot read {error.override!r}; put quotes around its value")
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'", text):
        return ConfigError(found.group(1) + instead_of(found.group(1)))
    if found := re.search(r"Could not (?:find|load) '(\S+)/(\S+)'", text):
        return _unknown_option(found.group(1), found.group(2))
    if found := re.search(r"Ambiguous value for argument '(.*?)'\n", text):
        key, _, values = found.group(1).partition("=")
        return ConfigError(
            f"{key}={values}: several values are a sweep; add -m to run each of them, or write "
            f"{key}=[{values}] to have them all in one run"
        )
    text = " ".join(text.split()).removeprefix("Error merging override ")
    cause = str(error.__cause__ or "").split("\n")[0]
    if found := re.search(r"Invalid value '(.*)', expected one of \[(.*)\]", cause):
        cause += meant(found.group(1), found.group(2).split(", "))
    return ConfigError(f"{text}: {cause}" if cause else text)


def _unknown_option(group: str, option: str) -> ConfigError:
    if option in _EXTRAS:
        return ConfigError(f'{group}: needs pip install "pruneloop[{_EXTRAS[option]}]"')
    known = options(group)
    near = meant(option, known)
    return ConfigError(f"{group}={option}: no such option{near}; one of {', '.join(known)}")


def to_config(composed: DictConfig) -> Config:
    """Return the checked configuration.

    Raises:
        ConfigError: a value is out of its range, or a key is not known.
    """
    try:
        return cast(Config, OmegaConf.to_object(composed))
    except AttributeError as error:
        key = _added_key(composed)
        raise ConfigError(key + instead_of(key)) from error


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
