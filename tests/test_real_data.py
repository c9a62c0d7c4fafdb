"""The real corpora and KoBERT's shape, where they are at hand."""

import json
import unicodedata
from pathlib import Path

import pandas
import pytest
import torch
from support import SHARED, composed, needs_shared
from transformers import BertConfig, BertForSequenceClassification

from pruneloop.data import sources, splits
from pruneloop.pruning import GlobalL1, Masks, drops_by_amount, prunable_weights

pytestmark = needs_shared


@pytest.mark.more
def test_nsmc_has_all_its_rows() -> None:
    corpus = sources.load(composed("data=nsmc", f"data.path={SHARED / 'data/nsmc'}").data)
    assert corpus.test is not None
    assert (len(corpus.train), corpus.train.empty) == (149_995, 5)
    assert (len(corpus.test), corpus.test.empty) == (49_997, 3)
    assert set(corpus.train.labels) == {"0", "1"}
    # pandas decodes the quoted documents on its own; the words NA and null are reviews.
    table = pandas.read_csv(
        SHARED / "data/nsmc/ratings_train.txt.gz", sep="\t", keep_default_na=False, dtype=str
    )
    texts = [unicodedata.normalize("NFC", text) for text in table["document"] if text.strip()]
    assert corpus.train.texts == texts
    result = splits.split(corpus, 0.1, 0.1, seed=0, drop_overlap=True)
    assert result.counts["train_rows_also_in_test"] == result.counts["dropped_overlap"] > 0


def test_ynat_reads_its_seven_topics(tmp_path: Path) -> None:
    folder = SHARED / "data/ynat"
    names = ("data.train=ynat_train.tsv.gz", "data.test=ynat_dev.tsv.gz")
    corpus = sources.load(composed("data=ynat", f"data.path={folder}", *names).data)
    assert corpus.test is not None
    assert (len(corpus.train), len(corpus.test)) == (44_931, 9_107)
    assert len(set(corpus.train.labels)) == 7


@pytest.mark.parametrize("scope", ["qkv", pytest.param("encoder", marks=pytest.mark.more)])
def test_five_rounds_of_a_fifth_on_kobert(scope: str) -> None:
    """Random weights of KoBERT's shape: the golden zero counts, by the real engine."""
    golden = json.loads((SHARED / "golden/seed.json").read_text())
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(**golden["kobert_config"]))
    assert sum(p.numel() for p in model.parameters()) == 92_188_418
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.empty(weight.shape).normal_(0, 0.02, generator=generator)
        for name, weight in prunable_weights(model, [scope]).items()
    }
    masks, method = Masks.dense(weights), GlobalL1()
    zeros = []
    for (drop,) in drops_by_amount(method.units(masks), 5, 0.2):
        masks = method.prune(weights, masks, [drop])
        masks.zero_weights(weights)
        zeros.append(masks.zeros)
    assert zeros == golden["amount_0.2_rounds_5_zeros"][scope]
