"""The configuration's types and ranges; its values stand in conf/.

A range stands once, as metadata beside its field: the check, the error line and the
table in docs/configuration.md come from there. The checks run in `__post_init__`, when
Hydra's composed config is turned into these objects. What needs more than one key to
tell is checked by the class itself.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from pruneloop.errors import utf8
from pruneloop.ranges import Checked, number, refused
from pruneloop.redaction import public, without_secrets

# With values that are texts: OmegaConf takes a member by the number of its value too, and
# prune.criterion=3 would be a criterion.
Device = Enum("Device", ["auto", "cpu", "cuda"], type=str)
Precision = Enum("Precision", ["fp32", "bf16", "fp16", "auto"], type=str)
Tokenizer = Enum("Tokenizer", ["auto", "kobert"], type=str)
Format = Enum("Format", ["auto", "csv", "tsv", "json", "parquet", "xlsx"], type=str)
Layout = Enum("Layout", ["table", "folders"], type=str)
BadRows = Enum("BadRows", ["error", "skip"], type=str)
Quoting = Enum("Quoting", ["minimal", "none"], type=str)
Normalization = Enum("Normalization", ["NFC", "none"], type=str)
Criterion = Enum("Criterion", ["magnitude", "random", "taylor", "wanda", "movement"], type=str)
Group = Enum("Group", ["global", "layer"], type=str)
Tracker = Enum("Tracker", ["none", "tensorboard", "mlflow", "trackio", "wandb"], type=str)
Schedule = Enum("Schedule", ["geometric", "cubic", "linear", "oneshot"], type=str)
ValidateEvery = Enum("ValidateEvery", ["round", "epoch"], type=str)
ClassWeights = Enum("ClassWeights", ["none", "balanced"], type=str)
Metric = Enum("Metric", ["accuracy", "macro_f1"], type=str)
Language = Enum("Language", ["auto", "en", "ko"], type=str)


def _word(key: str, value: Any, hint: str = "") -> str:
    """Return a name that YAML may have read as something else.

    Raises:
        ConfigError: it is no text and no number: `yes`, `no`, `true` and lists are none.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        hint = hint or "put quotes around yes, no, true and false"
        raise refused(key, str(value).lower(), "must be a text", hint)
    if not str(value).strip():
        raise refused(key, repr(value), "must not be empty")
    return unicodedata.normalize("NFC", str(value))


def _text_columns(value: Any) -> Any:
    """Return the name of one column, or a list of two for a pair of texts."""
    if not isinstance(value, list):
        return _word("data.text", value)
    names = [_word("data.text", name) for name in value]
    if len(names) != 2 or names[0] == names[1]:
        hint = "try data.text=[premise,hypothesis]"
        raise refused("data.text", f"[{','.join(names)}]", "must be one column, or two", hint)
    return names


def _check_file_names(key: str, value: Any) -> None:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise refused(key, value, "must be a file's name, or a list of such names")
    if len(set(names)) < len(names):
        raise refused(key, f"[{','.join(names)}]", "has a file twice")


@dataclass(kw_only=True, slots=True)
class DataConfig(Checked):
    """What every source of rows has: how much is used and held out, and what is dropped."""

    prefix: ClassVar[str] = "data."
    validation: float = number(
        0, 1, "()", "a share of the training rows", "try data.validation=0.1"
    )
    split_seed: int = number(0, 2**31 - 1)
    drop_overlap: bool = MISSING
    max_train_rows: int | None = number(2, 10**9)
    max_test_rows: int | None = number(1, 10**9)


@dataclass(kw_only=True, slots=True)
class SampleData(DataConfig):
    """The built-in synthetic sample."""

    train_rows: int = number(10, 10**6)
    test_rows: int = number(10, 10**6)


@dataclass(kw_only=True, slots=True)
class CorpusData(DataConfig):
    """What a real corpus has: columns, a normal form, names for its labels, bad rows."""

    text: Any = MISSING
    label: Any = field(default=MISSING, metadata={"kind": "text"})
    label_names: list[Any] = MISSING
    min_rows_per_label: int = number(1, 10**9)
    normalize: Normalization = MISSING
    test_share: float = number(0, 1, "()", "a share of the rows")
    bad_rows: BadRows = MISSING
    max_bad: float = number(0, 1, "[)", "a share of the rows")

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        self.text = _text_columns(self.text)
        self.label = _word("data.label", self.label)
        hint = """write 'data.label_names=["no","yes"]'"""
        names = [_word("data.label_names", name, hint).strip() for name in self.label_names]
        for name in names:
            if not name or names.count(name) > 1:
                listed = f"[{','.join(names)}]"
                raise refused("data.label_names", listed, "needs a name of its own for each label")
        self.label_names = names

    @property
    def texts(self) -> list[str]:
        """The column of the text, or those of a pair of texts."""
        return self.text if isinstance(self.text, list) else [self.text]

    @property
    def columns_read(self) -> list[tuple[str, str]]:
        """Every column that is read, behind the end of the key that names it."""
        return [*(("text", column) for column in self.texts), ("label", self.label)]


@dataclass(kw_only=True, slots=True)
class FilesData(CorpusData):
    """Files on disk or behind a URL."""

    title: str | None = MISSING
    path: str | None = MISSING
    train: Any = MISSING
    test: Any = MISSING
    format: Format = MISSING
    layout: Layout = MISSING
    columns: list[Any] = MISSING
    records: str | None = MISSING
    delimiter: str | None = field(default=MISSING, metadata={"blank": True})
    quoting: Quoting = MISSING
    encoding: str = MISSING
    max_bytes: int = number(1, 10**15)

    def __post_init__(self) -> None:
        CorpusData.__post_init__(self)
        _check_file_names("data.train", self.train)
        if self.test is not None:
            _check_file_names("data.test", self.test)
        self.columns = [_word("data.columns", column).strip() for column in self.columns]
        self._check_columns()
        if self.delimiter == r"\t":  # as a command line can write it
            self.delimiter = "\t"
        if self.delimiter is not None and (
            len(self.delimiter) != 1 or self.delimiter in '\r\n"\0\ufeff'
        ):
            raise refused(
                "data.delimiter",
                repr(self.delimiter),
                "must be one character, and no quote or line end",
                r'write a tab as data.delimiter="\t"',
            )

    def _check_columns(self) -> None:
        listed = f"[{','.join(self.columns)}]"
        if len(set(self.columns)) < len(self.columns):
            raise refused("data.columns", listed, "has a column twice")
        for key, column in self.columns_read:
            if self.columns and column not in self.columns:
                raise refused("data.columns", listed, f"lacks {column!r}, which is data.{key}")
        if self.layout == Layout.folders and len(self.texts) > 1:
            raise refused("data.layout", "folders", "has one text a file, and no pairs")


@dataclass(kw_only=True, slots=True)
class HubData(CorpusData):
    """A data set of the Hugging Face hub, or a local folder laid out like one."""

    name: str = MISSING
    config: str | None = MISSING
    revision: str | None = MISSING
    train: str = MISSING
    test: str | None = MISSING


@dataclass(kw_only=True, slots=True)
class ModelConfig(Checked):
    """What every model has: the length that its inputs are cut to, in tokens."""

    prefix: ClassVar[str] = "model."
    max_length: int = number(4, 10**6)


@dataclass(kw_only=True, slots=True)
class TinyModel(ModelConfig):
    """A small BERT with random weights and a vocabulary of its own."""

    layers: int = number(1, 1000)
    hidden: int = number(1, 10**5)
    heads: int = number(1, 10**5)
    intermediate: int = number(1, 10**6)
    vocab_size: int = number(100, 10**7)
    dropout: float = number(0, 1, "[)")

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.hidden % self.heads:
            raise refused("model.heads", self.heads, f"must divide model.hidden={self.hidden}")


@dataclass(kw_only=True, slots=True)
class PretrainedModel(ModelConfig):
    """A model of the hub, or a folder that `save_pretrained` wrote."""

    name: str = MISSING
    revision: str | None = MISSING
    tokenizer: Tokenizer = MISSING


@dataclass(kw_only=True, slots=True)
class FinetuneConfig(Checked):
    """One round's fine-tuning; `dense_*` are round 0's own values."""

    prefix: ClassVar[str] = "finetune."
    epochs: int = number(1, 10**5)
    dense_epochs: int = number(0, 10**5, meaning="0 measures the given model")
    learning_rate: float = number(0, math.inf, "()")
    dense_learning_rate: float = number(0, math.inf, "()")
    batch_size: int = number(1, 10**6)
    accumulation: int = number(1, 10**6)
    warmup: float = number(0, 1, "[)", "a share of the steps")
    weight_decay: float = number(0, math.inf, "[)")
    max_grad_norm: float = number(0, math.inf, "()")
    precision: Precision = MISSING
    compile: bool = MISSING
    class_weights: ClassWeights = MISSING
    validate_every: ValidateEvery = MISSING
    keep_best: bool = MISSING

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.keep_best and self.validate_every != ValidateEvery.epoch:
            hint = "add finetune.validate_every=epoch"
            raise refused("finetune.keep_best", "true", "needs to know every epoch's score", hint)


@dataclass(kw_only=True, slots=True)
class PruneConfig(Checked):
    """What a round prunes: which weights, by which method, how many of them."""

    prefix: ClassVar[str] = "prune."
    criterion: Criterion = MISSING
    group: Group = MISSING
    evidence_batches: int = number(1, 10**9)
    amount: float | None = number(
        0, 1, "()", "the fraction of the kept weights that a round removes", "try prune.amount=0.2"
    )
    target_sparsity: float | None = number(
        0, 1, "()", "the sparsity after the last round", "try prune.target_sparsity=0.8"
    )
    schedule: Schedule = MISSING
    scope: Any = MISSING
    include: Any = MISSING
    exclude: Any = MISSING
    max_layer_sparsity: float = number(0, 1, "(]", "1 is off")
    keep_zeros: bool = MISSING

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        for key in ("scope", "include", "exclude"):
            value = getattr(self, key)
            names = value if isinstance(value, list) else [value]
            if not all(isinstance(name, str) for name in names):
                hint = "try prune.scope=[qkv,ffn]" if key == "scope" else ""
                raise refused(f"prune.{key}", value, "must be a name or a list of names", hint)
            setattr(self, key, names)
        self.check_amount()

    def check_amount(self) -> None:
        """Make sure that exactly one thing says how much is pruned."""
        if self.target_sparsity is not None and self.amount is not None:
            raise refused(
                "prune.target_sparsity",
                self.target_sparsity,
                f"excludes prune.amount={self.amount}",
                "give one of the two",
            )
        if self.target_sparsity is None and self.amount is None:
            raise refused("prune.amount", "null", "needs a value, or prune.target_sparsity one")
        if self.amount is not None and self.schedule != Schedule.geometric:
            raise refused(
                "prune.schedule",
                self.schedule.name,
                f"is how prune.target_sparsity is reached, and prune.amount={self.amount} is the "
                "same every round",
                "try prune.target_sparsity=0.8",
            )


@dataclass(kw_only=True, slots=True)
class StructuredPruneConfig(PruneConfig):
    """Structured pruning's own keys: the order of the norm and the dimension."""

    n: float = number(0, math.inf, "(]", "inf for the largest entry")
    dim: int = number(0, 1, meaning="0 for rows, 1 for columns")

    def __post_init__(self) -> None:
        PruneConfig.__post_init__(self)
        if self.criterion == Criterion.movement:
            # Its scores are places in an order, which no norm adds up.
            hint = "try magnitude or taylor"
            raise refused("prune.criterion", "movement", "does not rank rows and columns", hint)


@dataclass(kw_only=True, slots=True)
class PatternPruneConfig(PruneConfig):
    """N:M pruning's own key: how many of how many neighbours stay."""

    pattern: list[int] = MISSING

    def __post_init__(self) -> None:
        PruneConfig.__post_init__(self)
        if len(self.pattern) != 2 or not 0 < self.pattern[0] < self.pattern[1]:
            hint = "try prune.pattern=[2,4]"
            raise refused("prune.pattern", self.pattern, "must be [n,m] with 0 < n < m", hint)

    def check_amount(self) -> None:
        """Make sure that the pattern alone says how much is pruned."""
        for key, value in (("amount", self.amount), ("target_sparsity", self.target_sparsity)):
            if value is not None:
                hint = "the pattern says how much is pruned"
                raise refused(f"prune.{key}", value, "excludes prune.pattern", hint)


_UNIT_SCOPES = {"ffn": "ffn", "heads": "attention", "layers": "encoder"}


@dataclass(kw_only=True, slots=True)
class UnitPruneConfig(PruneConfig):
    """Unit pruning's own key: what goes as a whole."""

    units: list[str] = MISSING

    def __post_init__(self) -> None:
        PruneConfig.__post_init__(self)
        if not self.units or not {*self.units} <= {*_UNIT_SCOPES}:
            hint = "try prune.units=[ffn,heads]"
            raise refused("prune.units", self.units, "must be some of ffn, heads, layers", hint)
        if "layers" in self.units and len({*self.units}) > 1:
            hint = "prune layers, then start another run from that checkpoint (model=pretrained)"
            raise refused("prune.units", self.units, "has layers beside others", hint)
        scope = [_UNIT_SCOPES[kind] for kind in _UNIT_SCOPES if kind in self.units]
        for key, allowed in (("scope", ([], scope)), ("include", ([],)), ("exclude", ([],))):
            if getattr(self, key) not in allowed:
                hint = "the units say what is pruned"
                raise refused(f"prune.{key}", getattr(self, key), "excludes prune.units", hint)
        cap, criterion = self.max_layer_sparsity, self.criterion
        if cap != 1:
            hint = "one unit of a layer always stays"
            raise refused("prune.max_layer_sparsity", cap, "excludes prune.units", hint)
        what, ranks = "units", {Criterion.magnitude, Criterion.taylor, Criterion.random}
        hint = "try magnitude, taylor or random"
        if self.prunes_layers:
            what, ranks = "layers", {Criterion.magnitude, Criterion.random}
            hint = "leave it out: layers go by the validation loss without them; or try random"
        if criterion not in ranks:
            raise refused("prune.criterion", criterion.name, f"does not rank {what}", hint)
        self.scope = scope

    @property
    def prunes_layers(self) -> bool:
        """Whether whole layers go."""
        return "layers" in self.units


@dataclass(kw_only=True, slots=True)
class RewindConfig(Checked):
    """What a round starts from: the weights as they are, or as they were early in round 0."""

    prefix: ClassVar[str] = "rewind."
    weights: bool = MISSING
    epoch: float = number(0, math.inf, "[)")


@dataclass(kw_only=True, slots=True)
class DistillConfig(Checked):
    """How far a round follows the teacher, which is round 0."""

    prefix: ClassVar[str] = "distill."
    alpha: float = number(0, 1, "[]", "0 for the labels alone, 1 for the teacher alone")
    temperature: float = number(0, math.inf, "()")
    teacher: str | None = MISSING

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.teacher is not None and self.alpha == 0:
            hint = "write distill=logits"
            raise refused("distill.teacher", self.teacher, "needs distill.alpha above 0", hint)


@dataclass(kw_only=True, slots=True)
class BudgetConfig(Checked):
    """How much of round 0's validation score a run may lose; `max_drop` null is no limit."""

    prefix: ClassVar[str] = "budget."
    max_drop: float | None = number(
        0, 1, "[)", "a fraction of the metric", "try budget.max_drop=0.01"
    )
    metric: Metric = MISSING
    min_amount: float = number(0, 1, "()")


@dataclass(kw_only=True, slots=True)
class CheckpointConfig(Checked):
    """How often the resumable state is saved within a round."""

    prefix: ClassVar[str] = "checkpoint."
    every_steps: int | None = number(1, 10**9)
    every_minutes: float = number(0, math.inf, "(]")


@dataclass(kw_only=True, slots=True)
class ReportConfig(Checked):
    """How the pages speak."""

    prefix: ClassVar[str] = "report."
    language: Language = MISSING


@dataclass(kw_only=True, slots=True)
class Config(Checked):
    """A whole run."""

    rounds: int = number(
        1, 1000, meaning="round 0, the dense fine-tune, comes on top", hint="try rounds=5"
    )
    seed: int = number(0, 2**31 - 1)
    device: Device = MISSING
    tracker: Tracker = MISSING
    push_to_hub: str | None = MISSING
    start_from: str | None = MISSING
    control: bool = MISSING
    keep_rounds: bool = MISSING
    ladder: bool = MISSING
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    finetune: FinetuneConfig = MISSING
    prune: PruneConfig = MISSING
    rewind: RewindConfig = MISSING
    distill: DistillConfig = MISSING
    budget: BudgetConfig = MISSING
    report: ReportConfig = MISSING
    checkpoint: CheckpointConfig = MISSING

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.finetune.precision == Precision.fp16 and self.device == Device.cpu:
            hint = "use bf16 or fp32 with device=cpu"
            raise refused("finetune.precision", "fp16", "needs a GPU", hint)
        if self.rewind.weights and self.rewind.epoch > self.finetune.dense_epochs:
            epochs = f"finetune.dense_epochs={self.finetune.dense_epochs}"
            raise refused("rewind.epoch", self.rewind.epoch, f"is behind the end of {epochs}")
        if self.finetune.dense_epochs == 0:
            self._check_given_model()
        if isinstance(self.prune, PatternPruneConfig) and self.budget.max_drop is not None:
            pattern = f"prune.pattern={self.prune.pattern}: there is no half of a pattern to try"
            raise refused("budget.max_drop", self.budget.max_drop, f"excludes {pattern}")

    def _check_given_model(self) -> None:
        """Make sure that there is a trained model for round 0 to measure."""
        if not isinstance(self.model, PretrainedModel):
            hint = "give one by model=pretrained model.name=/folder"
            raise refused("finetune.dense_epochs", 0, "needs a trained classifier", hint)
        if self.prune.criterion == Criterion.movement:
            hint = "movement watches round 0 train"
            raise refused("finetune.dense_epochs", 0, "excludes prune.criterion=movement", hint)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return a configuration as dotted keys and plain values, as they may be on record."""
    found: dict[str, Any] = {}
    for each in fields(node):
        value, key = getattr(node, each.name), prefix + each.name
        if is_dataclass(value):
            found |= flat(value, key + ".")
        else:
            found[key] = value.name if isinstance(value, Enum) else public(value)
    return found


def point_name(overrides: str) -> str:
    """Return the folder name of a sweep's point: flat, short, and never that of another.

    Args:
        overrides: Hydra's `override_dirname`, such as `prune.amount=0.2,seed=1`.
    """
    name = re.sub(r"[^\w=,.+-]", "-", without_secrets(overrides)).lstrip(".") or "defaults"
    name = utf8(name)[:120].decode(errors="ignore")
    if name == overrides:
        return name
    return f"{name}-{hashlib.sha256(utf8(overrides)).hexdigest()[:8]}"


def unless(other: object, value: object) -> object:
    """Return a key's value in conf/ that stands back where another key is given."""
    return value if other is None else None


# At import, since a launcher's process resolves folder names before it runs anything of ours.
OmegaConf.register_new_resolver("point_name", point_name, replace=True)
OmegaConf.register_new_resolver("unless", unless, replace=True)

GROUPS: dict[str, tuple[type[Checked], ...]] = {
    "data": (SampleData, FilesData, HubData),
    "model": (TinyModel, PretrainedModel),
    "finetune": (FinetuneConfig,),
    "prune": (PruneConfig, StructuredPruneConfig, PatternPruneConfig, UnitPruneConfig),
    "rewind": (RewindConfig,),
    "distill": (DistillConfig,),
}
"""The groups of conf/ whose options have a type."""


def register_schema() -> None:
    """Put the classes where conf/ refers to them: `/schema/GROUP/CLASS@_here_`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, classes in GROUPS.items():
        for node in classes:
            store.store(group=f"schema/{group}/{node.__name__}", name="schema", node=node)


def known_fields() -> Iterator[tuple[str, Any]]:
    """Yield every key that some choice of the groups has, dotted, with its field."""
    parts = [(Config, ""), (BudgetConfig, "budget."), (CheckpointConfig, "checkpoint.")]
    parts += [(node, node.prefix) for classes in GROUPS.values() for node in classes]
    for node, prefix in parts:
        yield from ((prefix + key.name, key) for key in fields(node))


def known_keys() -> set[str]:
    """Return every key that some choice of the groups has, dotted."""
    return {key for key, _ in known_fields()}
