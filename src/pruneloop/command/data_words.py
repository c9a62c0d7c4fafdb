"""`data=... data.KEY=VALUE` for commands besides training: composed by Hydra as for a run."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from pruneloop.command.choices import conf_folder
from pruneloop.command.composition import to_config
from pruneloop.command.gate import check_overrides, refuse_code
from pruneloop.config import DataConfig, FilesData, HubData, SampleData, register_schema
from pruneloop.errors import ConfigError, InputError

_OF_THE_RUN = "of_the_run"


def data_config(
    words: Sequence[str],
    own: Mapping[str, Any],
    given: Mapping[str, Any] = MappingProxyType({}),
    test_only: bool = False,
) -> DataConfig:
    """Return the checked data configuration that words make.

    Args:
        words: `data=...` and `data.KEY=VALUE`.
        own: a run's data settings by key, if there are any: without `data=...`, the words
            change these.
        given: values of keys that may be any text, and are not in the words' grammar.
        test_only: only the test rows are asked for, so that files need none to train on.

    Raises:
        ConfigError: a word is about something else, or cannot be composed.
        InputError: the run's settings are not those of this version.
    """
    for word in words:
        if not word.startswith(("data=", "data.")) or "=" not in word:
            raise ConfigError(f"{word}: only data=... and data.KEY=VALUE may stand here")
    refuse_code(words)
    check_overrides(words)
    register_schema()
    choice = []
    if own and not any(word.startswith("data=") for word in words):
        ConfigStore.instance().store(group="data", name=_OF_THE_RUN, node=_typed(own))
        choice = [f"data={_OF_THE_RUN}"]
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        composed = compose("config", [*choice, *words])
    for key, value in given.items():
        OmegaConf.update(composed, f"data.{key}", value)
    if test_only and OmegaConf.is_missing(composed.data, "train"):
        composed.data.train = composed.data.test or "???"
    return to_config(composed).data


def _typed(own: Mapping[str, Any]) -> Any:
    """Return a run's data settings as the class that has these keys."""
    for kind in (SampleData, FilesData, HubData):
        if {field.name for field in fields(kind)} == set(own):
            return OmegaConf.merge(OmegaConf.structured(kind), dict(own))
    raise InputError("run.json: its data settings are not what this version of pruneloop writes")
