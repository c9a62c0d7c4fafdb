"""The configuration's types and ranges; its values stand in conf/.

Every class checks its own ranges in `__post_init__`, which runs when Hydra's composed
config is turned into these objects. Ranges are written positively (`0 < x < 1`), so
that a nan fails them.
"""

import hashlib
import math
import re
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from pruneloop.errors import ConfigError

Device = Enum("Device", ["auto", "cpu", "cuda"])
Precision = Enum("Precision", ["fp32", "bf16", "fp16"])
Tokenizer = Enum("Tokenizer", ["auto", "kobert"])
Format = Enum("Format", ["auto", "csv", "tsv", "json", "parquet"])
Quoting = Enum("Quoting", ["minimal", "none"])
Normalization = Enum("Normalization", ["NFC", "none"])
Method = Enum("Method", ["global_l1", "layer_l1", "random", "structured_ln"])
Tracker = Enum("Tracker", ["none", "tensorboard", "mlflow", "trackio", "wandb"])
Schedule = Enum("Schedule", ["geometric", "cubic", "linear", "oneshot"])


def _check(holds: bool, key: str, value: object, allowed: str, hint: str = "") -> None:
    if not holds:
        raise ConfigError(f"{key}={value}: {allowed}" + (f"; {hint}" if hint else ""))


def _at_least(minimum: int, **values: int) -> None:
    for key, value in values.items():
        _check(value >= minimum, key.replace("__", "."), value, f"must be at least {minimum}")


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """What every source of rows has: how much is held out, and what is dropped."""

    validation: float = MISSING
    split_seed: int = MISSING
    drop_overlap: bool = MISSING

    def __post_init__(self) -> None:
        _check(
            0 < self.validation < 1,
            "data.validation",
            self.validation,
            "must be a share of the training rows between 0 and 1",
            "try data.validation=0.1",
        )
        _at_least(0, data__split_seed=self.split_seed)


@dataclass(kw_only=True, slots=True)
class SampleData(DataConfig):
    """The built-in synthetic sample."""

    train_rows: int = MISSING
    test_rows: int = MISSING

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        _at_least(10, data__train_rows=self.train_rows, data__test_rows=self.test_rows)


@dataclass(kw_only=True, slots=True)
class CorpusData(DataConfig):
    """What a real corpus has: columns, a normal form, names for its labels."""

    text: str = MISSING
    label: str = MISSING
    label_names: list[str] = MISSING
    normalize: Normalization = MISSING
    test_share: float = MISSING

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        _check(
            0 < self.test_share < 1,
            "data.test_share",
            self.test_share,
            "must be a share of the rows between 0 and 1",
        )


@dataclass(kw_only=True, slots=True)
class FilesData(CorpusData):
    """Files on disk or behind a URL."""

    title: str | None = MISSING
    path: str | None = MISSING
    train: str = MISSING
    test: str | None = MISSING
    format: Format = MISSING
    delimiter: str | None = MISSING
    quoting: Quoting = MISSING
    encoding: str = MISSING

    def __post_init__(self) -> None:
        CorpusData.__post_init__(self)
        if self.delimiter == r"\t":  # as a command line can write it
            self.delimiter = "\t"
        _check(
            self.delimiter is None or len(self.delimiter) == 1,
            "data.delimiter",
            repr(self.delimiter),
            "must be one character",
            r'write a tab as data.delimiter="\t"',
        )


@dataclass(kw_only=True, slots=True)
class HubData(CorpusData):
    """A data set of the Hugging Face hub, or a local folder laid out like one."""

    name: str = MISSING
    config: str | None = MISSING
    revision: str | None = MISSING
    train: str = MISSING
    test: str | None = MISSING


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """What every model has: the length that its inputs are cut to, in tokens."""

    max_length: int = MISSING

    def __post_init__(self) -> None:
        _at_least(4, model__max_length=self.max_length)


@dataclass(kw_only=True, slots=True)
class TinyModel(ModelConfig):
    """A small BERT with random weights and a vocabulary of its own."""

    layers: int = MISSING
    hidden: int = MISSING
    heads: int = MISSING
    intermediate: int = MISSING
    vocab_size: int = MISSING
    dropout: float = MISSING

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        _at_least(
            1,
            model__layers=self.layers,
            model__hidden=self.hidden,
            model__heads=self.heads,
            model__intermediate=self.intermediate,
        )
        _at_least(100, model__vocab_size=self.vocab_size)
        _check(
            self.hidden % self.heads == 0,
            "model.heads",
            self.heads,
            f"must divide model.hidden={self.hidden}",
        )
        _check(
            0 <= self.dropout < 1, "model.dropout", self.dropout, "must be from 0 to less than 1"
        )


@dataclass(kw_only=True, slots=True)
class PretrainedModel(ModelConfig):
    """A model of the hub, or a folder that `save_pretrained` wrote."""

    name: str = MISSING
    revision: str | None = MISSING
    tokenizer: Tokenizer = MISSING


@dataclass(kw_only=True, slots=True)
class FinetuneConfig:
    """One round's fine-tuning; `dense_*` are round 0's own values, null for the same."""

    epochs: int = MISSING
    dense_epochs: int | None = MISSING
    learning_rate: float = MISSING
    dense_learning_rate: float | None = MISSING
    batch_size: int = MISSING
    accumulation: int = MISSING
    warmup: float = MISSING
    weight_decay: float = MISSING
    max_grad_norm: float = MISSING
    precision: Precision = MISSING

    def __post_init__(self) -> None:
        if self.dense_epochs is None:
            self.dense_epochs = self.epochs
        if self.dense_learning_rate is None:
            self.dense_learning_rate = self.learning_rate
        _at_least(
            1,
            finetune__epochs=self.epochs,
            finetune__dense_epochs=self.dense_epochs,
            finetune__batch_size=self.batch_size,
            finetune__accumulation=self.accumulation,
        )
        for key in ("learning_rate", "dense_learning_rate", "max_grad_norm"):
            value = getattr(self, key)
            _check(0 < value < math.inf, f"finetune.{key}", value, "must be above 0")
        _check(
            0 <= self.warmup < 1,
            "finetune.warmup",
            self.warmup,
            "must be a share of the steps from 0 to less than 1",
        )
        _check(
            0 <= self.weight_decay < math.inf,
            "finetune.weight_decay",
            self.weight_decay,
            "must be 0 or more",
        )


@dataclass(kw_only=True, slots=True)
class PruneConfig:
    """What a round prunes: which weights, by which method, how many of them."""

    method: Method = MISSING
    amount: float | None = MISSING
    target_sparsity: float | None = MISSING
    schedule: Schedule = MISSING
    scope: Any = MISSING
    include: Any = MISSING
    exclude: Any = MISSING
    max_layer_sparsity: float = MISSING

    def __post_init__(self) -> None:
        for key in ("scope", "include", "exclude"):
            value = getattr(self, key)
            names = value if isinstance(value, list) else [value]
            _check(
                all(isinstance(name, str) for name in names),
                f"prune.{key}",
                value,
                "must be a name or a list of names",
                f"try prune.{key}=[qkv,ffn]" if key == "scope" else "",
            )
            setattr(self, key, names)
        if self.target_sparsity is None:
            self.amount = 0.2 if self.amount is None else self.amount
            _check(
                0 < self.amount < 1,
                "prune.amount",
                self.amount,
                "must be a fraction between 0 and 1 (the share of the kept weights that "
                "a round removes)",
                "try prune.amount=0.2",
            )
        else:
            _check(
                self.amount is None,
                "prune.target_sparsity",
                self.target_sparsity,
                f"excludes prune.amount={self.amount}",
                "give one of the two",
            )
            _check(
                0 < self.target_sparsity < 1,
                "prune.target_sparsity",
                self.target_sparsity,
                "must be a fraction between 0 and 1",
                "try prune.target_sparsity=0.8",
            )
        _check(
            0 < self.max_layer_sparsity <= 1,
            "prune.max_layer_sparsity",
            self.max_layer_sparsity,
            "must be above 0 and at most 1 (off)",
        )
        _check(
            self.max_layer_sparsity == 1 or self.method == Method.global_l1,
            "prune.max_layer_sparsity",
            self.max_layer_sparsity,
            f"works with prune=global_l1, not with {self.method.name}",
        )


@dataclass(kw_only=True, slots=True)
class StructuredPruneConfig(PruneConfig):
    """Structured pruning's own keys: the order of the norm and the dimension."""

    n: float = MISSING
    dim: int = MISSING

    def __post_init__(self) -> None:
        PruneConfig.__post_init__(self)
        _check(self.n > 0, "prune.n", self.n, "must be above 0 (inf for the largest entry)")
        _check(self.dim in (0, 1), "prune.dim", self.dim, "must be 0 (rows) or 1 (columns)")


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    """How often the resumable state is saved within a round."""

    every_steps: int | None = MISSING
    every_minutes: float = MISSING

    def __post_init__(self) -> None:
        if self.every_steps is not None:
            _at_least(1, checkpoint__every_steps=self.every_steps)
        _check(
            self.every_minutes > 0,
            "checkpoint.every_minutes",
            self.every_minutes,
            "must be above 0",
        )


@dataclass(kw_only=True, slots=True)
class SearchConfig:
    """What a search calls good: a sparsity, as long as the accuracy allows it."""

    max_drop: float = MISSING

    def __post_init__(self) -> None:
        _check(
            0 <= self.max_drop < 1,
            "search.max_drop",
            self.max_drop,
            "must be a fraction of accuracy from 0 to less than 1",
            "try search.max_drop=0.01",
        )


@dataclass(kw_only=True, slots=True)
class Config:
    """A whole run."""

    rounds: int = MISSING
    seed: int = MISSING
    device: Device = MISSING
    tracker: Tracker = MISSING
    push_to_hub: str | None = MISSING
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    finetune: FinetuneConfig = MISSING
    prune: PruneConfig = MISSING
    checkpoint: CheckpointConfig = MISSING
    search: SearchConfig = MISSING

    def __post_init__(self) -> None:
        _check(
            1 <= self.rounds <= 1000,
            "rounds",
            self.rounds,
            "must be from 1 to 1000 (round 0, the dense fine-tune, comes on top)",
            "try rounds=5",
        )
        _check(0 <= self.seed < 2**31, "seed", self.seed, "must be from 0 to 2147483647")
        _check(
            not (self.finetune.precision == Precision.fp16 and self.device == Device.cpu),
            "finetune.precision",
            "fp16",
            "needs a GPU",
            "use bf16 or fp32 with device=cpu",
        )


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return a configuration as dotted keys and plain values."""
    found: dict[str, Any] = {}
    for field in fields(node):
        value, key = getattr(node, field.name), prefix + field.name
        if is_dataclass(value):
            found |= flat(value, key + ".")
        else:
            found[key] = value.name if isinstance(value, Enum) else value
    return found


def point_name(overrides: str) -> str:
    """Return the folder name of a sweep's point: flat, short, and never that of another.

    Args:
        overrides: Hydra's `override_dirname`, such as `prune.amount=0.2,seed=1`.
    """
    name = re.sub(r"[^\w=,.+-]", "-", overrides).lstrip(".") or "defaults"
    name = name.encode()[:120].decode(errors="ignore")
    if name == overrides:
        return name
    return f"{name}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"


# At import, since a launcher's process resolves folder names before it runs anything of ours.
OmegaConf.register_new_resolver("point_name", point_name, replace=True)

_GROUPS: dict[str, tuple[type, ...]] = {
    "data": (SampleData, FilesData, HubData),
    "model": (TinyModel, PretrainedModel),
    "finetune": (FinetuneConfig,),
    "prune": (PruneConfig, StructuredPruneConfig),
}


def register_schema() -> None:
    """Put the classes where conf/ refers to them: `/schema/GROUP/CLASS@_here_`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, classes in _GROUPS.items():
        for node in classes:
            store.store(group=f"schema/{group}/{node.__name__}", name="schema", node=node)


def known_keys() -> set[str]:
    """Return every key that some choice of the groups has, dotted."""
    keys = {field.name for field in fields(Config)}
    for group, node in (("checkpoint", CheckpointConfig), ("search", SearchConfig)):
        keys |= {f"{group}.{field.name}" for field in fields(node)}
    for group, classes in _GROUPS.items():
        keys |= {f"{group}.{field.name}" for node in classes for field in fields(node)}
    return keys
