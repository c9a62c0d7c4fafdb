"""From a data config to tokenised splits, saying what was read, dropped and cut."""

import logging
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from pruneloop.config import CorpusData, DataConfig
from pruneloop.data import sources, splits, tokenising

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
        return self.train.truncated + self.validation.truncated + self.test.truncated

    @property
    def fingerprint(self) -> str:
        """A hash of texts, labels, tokenizer and length."""
        return "-".join(p.fingerprint[:16] for p in (self.train, self.validation, self.test))


def load_splits(config: DataConfig) -> splits.Splits:
    """Read the rows and divide them, saying what was read, dropped and changed."""
    corpus = sources.load(config)
    result = splits.split(
        corpus,
        config.validation,
        config.test_share if isinstance(config, CorpusData) else 0.0,
        config.split_seed,
        config.drop_overlap,
        config.label_names if isinstance(config, CorpusData) else (),
    )
    log.info(f"data: {result.name}")
    counts = ", ".join(f"{key.replace('_', ' ')} {n:,}" for key, n in result.counts.items())
    log.info(f"rows: {counts}; labels: {', '.join(result.labels)}")
    for name, labels in result.missing().items():
        log.warning(f"warning: no row of the {name} split has the label {labels}")
    return result


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
    log.info(
        f"tokens: at most {max_length} a row, {data.truncated:,} rows truncated, "
        f"{train.unknown:.2%} unknown"
    )
    return data
