"""From a data config to tokenised splits, saying what was read, dropped and cut."""

import logging
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from pruneloop.config import CorpusData, DataConfig
from pruneloop.data import sources, splits, tokenising
from pruneloop.errors import printable, shortened

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """The tokenised splits, and the length that their rows were cut to."""

    train: tokenising.Tokenised
    validation: tokenising.Tokenised
    test: tokenising.Tokenised
    max_length: int

    @property
    def truncated(self) -> int:
        """How many rows were cut."""
        return sum(length > self.max_length for length in self.wholes)

    @property
    def sufficient_length(self) -> int:
        """The length that cuts at most 1 % of the rows, in tokens."""
        lengths = sorted(self.wholes)
        return lengths[-1 - len(lengths) // 100]

    @property
    def wholes(self) -> list[int]:
        """The lengths of all rows before they were cut, in tokens."""
        return [*self.train.wholes, *self.validation.wholes, *self.test.wholes]

    @property
    def fingerprint(self) -> str:
        """A hash of texts, labels, tokenizer and length."""
        return "-".join(p.fingerprint[:16] for p in (self.train, self.validation, self.test))


def load_splits(config: DataConfig) -> splits.Splits:
    """Read the rows and divide them, saying what was read, dropped and changed."""
    corpus = sources.load(config)
    of_corpus = config if isinstance(config, CorpusData) else None
    result = splits.split(
        corpus,
        validation=config.validation,
        test_share=of_corpus.test_share if of_corpus else 0.0,
        seed=config.split_seed,
        drop_overlap=config.drop_overlap,
        label_names=of_corpus.label_names if of_corpus else (),
        min_rows_per_label=of_corpus.min_rows_per_label if of_corpus else 1,
        max_train_rows=config.max_train_rows,
        max_test_rows=config.max_test_rows,
    )
    log.info(printable(f"data: {result.name}"))
    counts = ", ".join(f"{key.replace('_', ' ')} {n:,}" for key, n in result.counts.items())
    log.info(f"rows: {counts}; labels: {_named(result)}")
    for name, labels in result.missing().items():
        log.warning(printable(f"warning: no row of the {name} split has the label {labels}"))
    return result


def _named(result: splits.Splits) -> str:
    """Return the labels, each with the name that stands for it."""
    pairs = zip(result.values, result.labels, strict=True)
    said = ", ".join(value if value == name else f"{value}={name}" for value, name in pairs)
    return shortened(printable(said), 900)


def _cut(data: Data, most: int) -> str:
    """Return how many rows are cut, and at which length hardly one would be.

    Args:
        most: the longest that model and tokenizer take.
    """
    share = data.truncated / len(data.wholes)
    said = f"{data.truncated:,} rows truncated ({share:.1%}"
    enough = data.sufficient_length
    if data.max_length < enough <= most:
        said += f"; model.max_length={enough} would cut at most 1 %"
    elif data.max_length < enough:
        said += f"; {enough} tokens would cut at most 1 %, and the model takes {most}"
    return f"{said})"


def tokenise_splits(
    split: splits.Splits, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Data:
    """Tokenise all splits, saying what was cut and what the tokenizer did not know."""
    train, validation, test = (
        tokenising.tokenise(rows, tokenizer, max_length)
        for rows in (split.train, split.validation, split.test)
    )
    data = Data(train, validation, test, max_length)
    warning = tokenising.check_unknown(train.unknown)
    if warning:
        log.warning(f"warning: {warning}")
    cut = _cut(data, tokenizer.model_max_length)
    log.info(f"tokens: at most {max_length} a row, {cut}, {train.unknown:.2%} unknown")
    return data
