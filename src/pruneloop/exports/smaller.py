"""The checkpoint of a run that prunes units: without them, and proved to say the same."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pruneloop.errors import InvariantError
from pruneloop.model.build import DENSE_SIZES
from pruneloop.model.inputs import LONGEST_TRIED
from pruneloop.pruning import Masks
from pruneloop.records import Text
from pruneloop.shrinking import Shape, Shrunk, shrink, without_layers

log = logging.getLogger(__name__)

_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Smaller:
    """A model without its pruned units, the masks of what is left, and what the card says."""

    model: PreTrainedModel
    masks: Masks
    note: str


def without_units(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    texts: Sequence[Text],
    layers: Sequence[int] | None = None,
) -> Smaller:
    """Return a physically smaller copy of a model whose units are pruned.

    Args:
        layers: the numbers of those that are not skipped; None for all.

    Raises:
        InvariantError: its logits on `texts` are not those of the model, or weights are lost.
    """
    model.eval()
    shrunk = shrink(model if layers is None else without_layers(model, layers))
    _check_logits(model, shrunk.model, tokenizer, texts)
    smaller = dict(shrunk.model.named_parameters())
    left = Masks({name: smaller[name].detach() != 0 for name in masks if name in smaller})
    before = dict(model.named_parameters())
    kept = sum(int(before[name].count_nonzero()) for name in masks)
    if left.prunable - left.zeros > kept:
        raise InvariantError("the smaller checkpoint has weights that the model has not")
    if not hasattr(model.config, DENSE_SIZES):
        dense = asdict(Shape.of(model)) | {"parameters": size(model)}
        setattr(shrunk.model.config, DENSE_SIZES, dense)
    note = _note(model, shrunk)
    log.info(note)
    return Smaller(shrunk.model, left, f"\n## Size\n\n{note}.\n")


def size(model: PreTrainedModel) -> int:
    """Return how many parameters a model has."""
    return sum(parameter.numel() for parameter in model.parameters())


def _check_logits(
    model: PreTrainedModel,
    smaller: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
) -> None:
    longest = min(tokenizer.model_max_length, LONGEST_TRIED)
    inputs = tokenizer(
        list(texts), return_tensors="pt", padding=True, truncation=True, max_length=longest
    ).to(model.device)
    with torch.inference_mode():
        known, found = model(**inputs).logits, smaller(**inputs).logits
    off = float((known - found).abs().max() / known.abs().max().clamp(min=1))
    if not off <= _TOLERANCE:
        raise InvariantError(f"without its pruned units the model's logits differ by {off:.1e}")


def _note(model: PreTrainedModel, shrunk: Shrunk) -> str:
    dead = shrink(shrunk.model, heads=True).heads
    before, after = Shape.of(model), Shape.of(shrunk.model)
    layers = f", {after.layers} of {before.layers} layers" if after.layers < before.layers else ""
    heads = (
        f"; {dead:,} heads are zero blocks, which plain transformers cannot leave out and "
        "`pruneloop deploy` does"
        if dead
        else ""
    )
    return (
        f"smaller: {size(shrunk.model):,} of {size(model):,} parameters, feed-forward width "
        f"{after.width:,} of {before.width:,}{layers}{heads}"
    )
