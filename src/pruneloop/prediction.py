"""What a checkpoint says of texts: loaded as any transformers classifier, and asked in batches."""

import inspect
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pruneloop.durable import check_folder, is_sealed
from pruneloop.errors import (
    CheckpointError,
    EnvironmentFault,
    InputError,
    InvariantError,
    PruneloopError,
    listed,
    reason,
)
from pruneloop.model.architecture import label_names, read_config
from pruneloop.model.build import PRUNED_MARK
from pruneloop.model.inputs import LONGEST_TRIED, longest_input
from pruneloop.model.weights import quiet
from pruneloop.records import Text, parts_of

log = logging.getLogger(__name__)

_BATCH = 64
_HALF = re.compile("[\ud800-\udfff]")
_OTHER_HEADS = ("regression", "multi_label_classification")


@dataclass(frozen=True)
class TextClassifier:
    """A trained classifier on its device; `labels` in the order of its outputs.

    `longest` is how many tokens of a text it reads; `pairs` says whether it was trained on
    pairs of texts, and is None where its config does not say so.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    labels: list[str]
    longest: int
    pairs: bool | None = None

    def encode(self, texts: Sequence[Text]) -> "Encoded":
        """Tokenise texts, or pairs of them, cut to what the model reads.

        Raises:
            InputError: a text holds half a character, which no tokenizer reads; or the
                checkpoint was trained on pairs and these are none, or the other way round.
        """
        check_texts(texts, self.pairs)
        read = self.tokenizer(list(texts), truncation=True, max_length=self.longest)
        known = inspect.signature(self.model.forward).parameters
        return Encoded({name: column for name, column in read.items() if name in known})

    def unknown(self, encoded: "Encoded") -> float:
        """Return the share of the tokens that the tokenizer does not know."""
        return encoded.unknown(self.tokenizer.unk_token_id, self.tokenizer.all_special_ids)

    @torch.inference_mode()
    def logits(
        self, encoded: "Encoded", done: Callable[[int], object] = lambda rows: None
    ) -> Tensor:
        """Return every text's logits, float32 on the CPU, in the order of the texts.

        `done` is told the rows of each batch.

        Raises:
            InvariantError: the model gives a number that is none.
            EnvironmentFault: the GPU's memory is full.
        """
        collator = DataCollatorWithPadding(self.tokenizer)
        found = torch.empty(len(encoded), len(self.labels))
        for rows in encoded.batches():
            padded = collator([encoded.row(row) for row in rows])
            batch = {name: column.to(self.model.device) for name, column in padded.items()}
            try:
                found[rows] = self.model(**batch).logits.float().cpu()
            except torch.OutOfMemoryError as error:
                raise EnvironmentFault(
                    "the GPU's memory is full; CUDA_VISIBLE_DEVICES= takes the CPU instead"
                ) from error
            done(len(rows))
        if not bool(found.isfinite().all()):
            raise InvariantError(
                "the checkpoint's logits are not finite: it is damaged, or was trained so"
            )
        return found


@dataclass(frozen=True)
class Encoded:
    """Texts as a model reads them: the tokenizer's columns, a row a text."""

    columns: dict[str, list[list[int]]]

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def row(self, number: int) -> dict[str, list[int]]:
        """Return one text."""
        return {name: column[number] for name, column in self.columns.items()}

    def unknown(self, unknown: int | None, special: Sequence[int]) -> float:
        """Return the share of the id `unknown`; the special ids do not count."""
        without = set(special) - {unknown}
        ids = [i for row in self.columns["input_ids"] for i in row if i not in without]
        return sum(i == unknown for i in ids) / max(len(ids), 1)

    def batches(self) -> Iterator[list[int]]:
        """Yield row numbers by length, the longest first: what does not fit is found at once."""
        ids = self.columns["input_ids"]
        order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
        yield from (order[start : start + _BATCH] for start in range(0, len(order), _BATCH))


def check_texts(texts: Sequence[Text], pairs: bool | None) -> None:
    """Refuse texts that a classifier does not read; `pairs` says what it was trained on.

    Raises:
        InputError: a text holds half a character, which no tokenizer reads; or they are pairs
            and should be none, or the other way round.
    """
    if pairs is not None and pairs == isinstance(texts[0], str):
        raise InputError(
            "the checkpoint was trained on pairs of texts: give two columns, such as "
            "--text premise,hypothesis or data.text=[premise,hypothesis], or --pair A B"
            if pairs
            else "the checkpoint was trained on single texts, and these are pairs"
        )
    for text in texts:
        for part in parts_of(text):
            if not part.isascii() and _HALF.search(part):
                raise InputError(f"a text is no valid Unicode: {part[:60]!r}")


def labels_of(checkpoint: Path) -> list[str]:
    """Return the labels of a checkpoint, in the order of its outputs, without loading it.

    Raises:
        InputError: its config cannot be read.
    """
    try:
        return label_names(read_config(str(checkpoint), key=""))
    except InputError:
        raise
    # Whatever a damaged or foreign file makes the library say.
    except Exception as error:
        raise InputError(f"{checkpoint}: cannot be loaded ({reason(error)})") from error


def load_classifier(path: Path) -> TextClassifier:
    """Load the checkpoint of any transformers sequence classifier, in float32.

    It is on a GPU where there is one. No code of the checkpoint runs.

    Raises:
        InputError: the folder holds no trained single-label classifier with its tokenizer, or
            one that asks for code, a kernel or a quantiser, or cannot read a text.
        CheckpointError: its files are not what its manifest says.
    """
    check_files(path)
    try:
        read_config(str(path), key="")
        model = _load_model(path)
        tokenizer = _load_tokenizer(path, model.config.vocab_size)
        longest = longest_input(model, tokenizer) or LONGEST_TRIED
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        nn.Module.to(model, device)
        mark = getattr(model.config, PRUNED_MARK, None)
        pairs = bool(mark.get("pairs")) if isinstance(mark, dict) else None
        found = TextClassifier(model.eval(), tokenizer, label_names(model.config), longest, pairs)
        found.logits(found.encode([("영화", "음악") if pairs else "영화"]))
    except PruneloopError:
        raise
    except UnpicklingError as error:
        raise InputError(
            f"{path}: its weights are damaged, or a pickle of more than weights, which is not read"
        ) from error
    # Whatever a damaged or foreign file makes the libraries say.
    except Exception as error:
        raise InputError(f"{path}: cannot be loaded ({reason(error)})") from error
    return found


def check_files(path: Path) -> None:
    """Make sure that the files of a folder are what its manifest says, if it has one.

    Raises:
        CheckpointError: one is not.
    """
    if not is_sealed(path):
        return
    try:
        check_folder(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path}: {error}; if you have changed it yourself, delete its manifest.json"
        ) from error


def _load_model(path: Path) -> PreTrainedModel:
    with quiet():  # what it would warn of is refused below
        model, report = AutoModelForSequenceClassification.from_pretrained(
            path,
            dtype=torch.float32,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # refused below, by name
        )
    if report["missing_keys"]:
        missing = listed(sorted(report["missing_keys"]), 3)
        raise InputError(f"{path}: is no trained classifier; it lacks {missing}")
    if report["mismatched_keys"]:
        other = listed(sorted(name for name, *_ in report["mismatched_keys"]), 3)
        raise InputError(
            f"{path}: its config.json gives other sizes than its weights have: {other}"
        )
    if report["unexpected_keys"]:
        unused = listed(sorted(report["unexpected_keys"]), 3)
        log.warning(f"warning: {path}: weights that its config.json has no place for: {unused}")
    labels, kind = label_names(model.config), model.config.problem_type
    if len(labels) < 2 or kind in _OTHER_HEADS:
        raise InputError(
            f"{path}: does not choose one label of several ({kind or 'it has one output'})"
        )
    if len(set(labels)) < len(labels):
        raise InputError(f"{path}: two of its labels have the same name; see its config.json")
    return model


def _load_tokenizer(path: Path, rows: int) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise InputError(
            f"{path}: its tokenizer cannot be loaded ({reason(error).rstrip(': ')}); is its "
            "tokenizer.json there, and whole?"
        ) from error
    # Without its files, some tokenizers come out empty instead of not at all.
    files = tokenizer.vocab_files_names.values()
    if files and not any((path / name).is_file() for name in files):
        raise InputError(f"{path}: has no tokenizer; none of {', '.join(sorted(files))}")
    if len(tokenizer) > rows:
        raise InputError(
            f"{path}: its tokenizer has {len(tokenizer)} tokens, its embeddings only {rows}"
        )
    if tokenizer.pad_token_id is None:
        raise InputError(f"{path}: its tokenizer has no padding token")
    return tokenizer
