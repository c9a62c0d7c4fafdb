"""The last layer for the first token alone: all that a classifier reads of it.

Queries, attention output and feed-forward of the last layer are one position instead of all, and
its keys and values are never computed. The logits and the gradients are the same but for rounding;
dropout draws fewer numbers. The change lives inside `FirstTokenOnly` alone: outside of it the
model is the plain one, for saving, exports and their verification.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

FAMILIES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""BERT and what has its forward: it branches on no value, and draws no number on the CPU."""

_TOLERANCE = 1e-5  # of the largest logit


class Shortcut:
    """Calls give a context in which a model's last layer is one position, or the plain model.

    It is taken only where the model proves equal with it on rows with padding: a family that
    pools otherwise, or another version of it, computes as ever.
    """

    def __init__(self, model: PreTrainedModel, skips: bool = False) -> None:
        """Try it.

        Args:
            skips: layers are skipped as they are pruned, the last one perhaps: there is none.
        """
        self._taken: AbstractContextManager[None] = nullcontext()
        layer = None if skips else _last_layer(model)
        if layer is not None and _proves_equal(model, FirstTokenOnly(layer)):
            self._taken = FirstTokenOnly(layer)

    @property
    def taken(self) -> bool:
        """Whether the model has it."""
        return isinstance(self._taken, FirstTokenOnly)

    def __call__(self) -> AbstractContextManager[None]:
        return self._taken


class FirstTokenOnly(AbstractContextManager[None]):
    """Has a layer compute its first position only, as long as the block runs."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        # The same object every time: `torch.compile` would begin anew for another one.
        self._forward = partial(_first_position, layer)

    def __enter__(self) -> None:
        vars(self._layer)["forward"] = self._forward

    def __exit__(self, *_: object) -> None:
        del vars(self._layer)["forward"]


def _first_position(
    layer: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
) -> Tensor:
    first = hidden_states[:, :1]
    read = _attended(layer.attention.self, hidden_states, attention_mask)
    given: Tensor = layer.feed_forward_chunk(layer.attention.output(read, first))
    return given


def _attended(inner: Any, states: Tensor, mask: Tensor | None) -> Tensor:
    """Return what the first position reads of all `states`, rows x 1 x width.

    `states` is rows x tokens x width; `mask`, rows x 1 x tokens x tokens, is True where a position
    is read, or is to be added.

    With one query q a row, q (K h) is (q K) h, and the sum of p V h is V times the sum of p h: the
    matrices of keys and values meet one vector a row and head instead of every position.
    """
    heads = (-1, inner.attention_head_size)
    keys, values = (linear.weight.unflatten(0, heads) for linear in (inner.key, inner.value))
    key_bias, value_bias = (linear.bias.unflatten(0, heads) for linear in (inner.key, inner.value))
    # Heads first: rows are the batch of one matrix product a head.
    query = inner.query(states[:, 0]).unflatten(-1, heads).transpose(0, 1) * heads[1] ** -0.5
    asked = (query @ keys).transpose(0, 1)
    scores = asked @ states.transpose(1, 2)
    # The same for all positions: it changes nothing, but gives the bias its gradient of 0.
    scores = scores + (query * key_bias[:, None]).sum(-1).t()[..., None]
    if mask is not None and mask.dtype == torch.bool:
        unread = ~mask[:, :, 0]
        scores = scores.masked_fill(unread, torch.finfo(scores.dtype).min)
        # As torch has it, a row that is all padding reads nothing.
        shares = scores.softmax(-1).masked_fill(unread, 0.0)
    else:
        shares = (scores if mask is None else scores + mask[:, :, 0]).softmax(-1)
    shares = nn.functional.dropout(shares, inner.dropout.p if inner.training else 0.0)
    seen = (shares @ states).transpose(0, 1)
    # Dropout leaves shares that do not add up to 1.
    read = seen @ values.transpose(1, 2) + shares.sum(-1).t()[..., None] * value_bias[:, None]
    return read.transpose(0, 1).flatten(1)[:, None]


def _last_layer(model: PreTrainedModel) -> nn.Module | None:
    """Return the last layer of an encoder whose classifier reads the first token."""
    config = model.config
    if config.model_type not in FAMILIES or getattr(config, "is_decoder", False):
        return None
    if getattr(config, "_attn_implementation", None) not in ("sdpa", "eager"):
        return None
    base: Any = model.base_model
    last: nn.Module = base.encoder.layer[-1]
    return last


def _proves_equal(model: PreTrainedModel, short: AbstractContextManager[None]) -> bool:
    """Whether a model gives the same logits of rows with padding with the shortcut."""
    rows = torch.arange(48, device=model.device).view(4, 12) % (model.config.vocab_size - 10) + 5
    lengths = torch.tensor([[12], [7], [3], [12]], device=model.device)
    attended = (torch.arange(12, device=model.device) < lengths).long()
    inputs = {"input_ids": rows, "attention_mask": attended}
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            plain = model(**inputs).logits.float()
            with short:
                quick = model(**inputs).logits.float()
    # Whatever another version of the family says of a layer that it does not know.
    except (AttributeError, TypeError, RuntimeError, IndexError, ValueError):
        return False
    finally:
        model.train(training)
    return bool((plain - quick).abs().max() <= _TOLERANCE * plain.abs().max().clamp(min=1))
