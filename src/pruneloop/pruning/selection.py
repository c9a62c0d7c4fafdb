"""The k smallest scores over many tensors, exactly, without gathering them.

The bits of a non-negative float, read as an integer, order as the float does. Two
counting passes, over the upper and then the lower 16 of those bits, find the exact k-th
smallest score; a third pass writes the masks. The extra memory is a few chunks and the
16-bit histograms, whatever the size of the tensors.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pruneloop.errors import InvariantError

# Elements worked on at a time: small enough for a CPU's cache; a GPU wants long kernels.
CPU_CHUNK = 1 << 18
GPU_CHUNK = 1 << 24

_SIGN = 0x8000
_INFINITE = 0x7F80  # the upper half of inf's bits; a NaN's is at least that


def chunk_size(tensor: Tensor) -> int:
    """Return how many elements of a tensor to work on at a time."""
    return CPU_CHUNK if tensor.device.type == "cpu" else GPU_CHUNK


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    return iter(tensor.detach().reshape(-1).contiguous().split(chunk_size(tensor)))


def _upper(chunk: Tensor) -> Tensor:
    """Return the upper 16 bits of |x| as int16 (the high halves, little-endian)."""
    return chunk.float().view(torch.int16)[1::2] & (_SIGN - 1)


def _lower(chunk: Tensor) -> Tensor:
    """Return the lower 16 bits of |x| as int32."""
    return chunk.float().view(torch.int32) & 0xFFFF


def _magnitude(chunk: Tensor) -> Tensor:
    """Return all 31 bits of |x| as int32."""
    return chunk.float().view(torch.int32) & 0x7FFFFFFF


def _find(counts: Tensor, k: int) -> tuple[int, int]:
    """Return the bin of the k-th element (1-based), and how many lie below that bin."""
    ends = counts.cumsum(0)
    place = int(torch.searchsorted(ends, k))
    return place, int(ends[place] - counts[place])


def smallest(scores: Sequence[Tensor], masks: Sequence[Tensor], k: int) -> list[Tensor]:
    """Return the masks without the `k` kept entries of smallest |score|.

    Args:
        scores: tensors of any float type and shape, compared in float32. An entry that
            is already pruned must score 0.
        masks: bool tensors of the same shapes, True where an entry is still kept.
        k: how many kept entries to take away, exactly. Ties go by position, the first
            tensor first, so that the result is the same on every device and rank.

    Raises:
        InvariantError: a score is NaN or infinite.
        ValueError: fewer than `k` entries are kept.

    Without ties this equals `torch.topk` of the kept |scores|, `largest=False`.
    """
    pruned = sum(mask.numel() - int(mask.count_nonzero()) for mask in masks)
    total = sum(mask.numel() for mask in masks)
    if not 0 <= k <= total - pruned:
        raise ValueError(f"cannot take {k} out of {total - pruned} kept entries")

    upper = torch.zeros(_SIGN, dtype=torch.int64, device=scores[0].device)
    for score in scores:
        for chunk in _chunks(score):
            upper += torch.bincount(_upper(chunk), minlength=_SIGN)
    if int(upper[_INFINITE:].sum()):
        raise InvariantError("a weight to be ranked is NaN or infinite")
    if k == 0:
        return [mask.clone() for mask in masks]
    # The pruned entries score 0 and stand below all others: count them as taken.
    high, below = _find(upper, pruned + k)

    lower = torch.zeros(1 << 16, dtype=torch.int64, device=upper.device)
    for score in scores:
        for chunk in _chunks(score):
            inside = chunk[_upper(chunk) == high]
            lower += torch.bincount(_lower(inside), minlength=1 << 16)
    low, below_low = _find(lower, pruned + k - below)
    threshold = high << 16 | low
    ties = pruned + k - below - below_low
    if threshold == 0:
        ties -= pruned
    elif ties == int(lower[low]):
        threshold, ties = threshold + 1, 0  # all of them go: no order to respect
    return _without(scores, masks, threshold, ties)


def _without(
    scores: Sequence[Tensor], masks: Sequence[Tensor], threshold: int, ties: int
) -> list[Tensor]:
    """Drop all entries below the threshold, and the first `ties` that are equal to it."""
    result = []
    for score, mask in zip(scores, masks, strict=True):
        kept = torch.empty(mask.numel(), dtype=torch.bool, device=mask.device)
        out = kept.split(chunk_size(score))
        for chunk, before, after in zip(_chunks(score), _chunks(mask), out, strict=True):
            magnitude = _magnitude(chunk)
            torch.ge(magnitude, threshold, out=after)
            if threshold == 0:
                after &= before  # here a pruned entry's 0 is a tie like a kept one's
            if ties:
                equal = (magnitude == threshold) & before
                after &= ~(equal & (equal.cumsum(0) <= ties))
                ties -= min(ties, int(equal.count_nonzero()))
        result.append(kept.view_as(mask))
    return result
