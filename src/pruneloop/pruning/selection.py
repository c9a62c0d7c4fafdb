"""The k smallest scores over many tensors, exactly, without gathering them.

The bits of a non-negative float, read as an integer, order as the float does. A sample says
between which two values the k-th smallest score most probably lies. One pass over all entries
then keeps those above, counts, and lists the few between; sorting these finds the threshold.
Where the sample says too little, as of many equal scores, two counting passes over the upper
and then the lower 16 bits find it, and a third one writes the masks. The extra memory is a few
chunks and the list or the histograms, whatever the size of the tensors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneloop.errors import InvariantError

# Elements worked on at a time: small enough for a CPU's cache; a GPU wants long kernels.
CPU_CHUNK = 1 << 17
GPU_CHUNK = 1 << 22

SAMPLE = 1 << 18
"""About so many entries are sampled."""

_SIGN = 0x8000
_INFINITE = 0x7F80  # the upper half of inf's bits; a NaN's is at least that
_DEVIATIONS = 3.5  # of the sample, to either side of the place that is looked for


def chunk_size(tensor: Tensor) -> int:
    """Return how many elements of a tensor to work on at a time."""
    return CPU_CHUNK if tensor.device.type == "cpu" else GPU_CHUNK


def count(found: Tensor) -> int:
    """Return how many of a bool tensor are True; on a CPU in half of count_nonzero's time."""
    return int(found.sum(dtype=torch.int32))


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    return iter(tensor.detach().reshape(-1).contiguous().split(chunk_size(tensor)))


def _upper(chunk: Tensor) -> Tensor:
    """Return the upper 16 bits of |x| as int16 (the high halves, little-endian)."""
    return chunk.float().view(torch.int16)[1::2] & (_SIGN - 1)


def _lower(chunk: Tensor) -> Tensor:
    """Return the lower 16 bits of |x| as int32."""
    return chunk.float().view(torch.int32) & 0xFFFF


def _magnitude(chunk: Tensor, out: Tensor | None = None) -> Tensor:
    """Return all 31 bits of |x| as int32."""
    return torch.bitwise_and(chunk.float().view(torch.int32), 0x7FFFFFFF, out=out)


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
    total = sum(mask.numel() for mask in masks)
    pruned = total - sum(count(mask) for mask in masks)
    if not 0 <= k <= total - pruned:
        raise ValueError(f"cannot take {k} out of {total - pruned} kept entries")
    if k == 0:
        _check_finite(
            [_magnitude(chunk).amax() for s in scores for chunk in _chunks(s) if len(chunk)]
        )
        return [mask.clone() for mask in masks]
    # The pruned entries score 0 and stand below all others: count them as taken.
    found = _by_bracket(scores, pruned + k, total)
    if found is None:
        found = _by_counting(scores, masks, pruned, k)
    return [kept.view_as(mask) for kept, mask in zip(found, masks, strict=True)]


def _check_finite(largest: Sequence[Tensor]) -> None:
    """Make sure that the largest magnitudes, as bits, are those of finite numbers."""
    if largest and int(torch.stack(list(largest)).max()) >= _INFINITE << 16:
        raise InvariantError("a weight to be ranked is NaN or infinite")


# -- one pass, and a sort of the few entries next to the threshold ---------------------------


def _bracket(scores: Sequence[Tensor], place: int, total: int) -> tuple[int, int]:
    """Return magnitudes, as bits, between which a place in the order most probably lies.

    Args:
        place: from 1, the smallest, to `total`.

    Returns:
        The first magnitude that may be meant, not 0, and the first one that is not.
    """
    step = max(total // SAMPLE, 1)
    sample = torch.cat([_magnitude(s.detach().reshape(-1)[::step]) for s in scores]).sort().values
    middle = place * len(sample) // total
    far = int(_DEVIATIONS * (middle * (1 - middle / len(sample))) ** 0.5) + 2
    low = int(sample[middle - far]) if middle >= far else 1
    high = int(sample[middle + far]) if middle + far < len(sample) else _INFINITE << 16
    return max(low, 1), high


@dataclass(frozen=True)
class _Divided:
    """A tensor by a bracket: what is above, kept; what is between, by place and magnitude."""

    kept: Tensor
    above: Tensor
    largest: Tensor
    places: Tensor
    bits: Tensor


def _divide(score: Tensor, low: int, high: int) -> _Divided:
    flat, size = score.detach().reshape(-1), min(chunk_size(score), score.numel())
    kept = torch.empty(flat.numel(), dtype=torch.bool, device=flat.device)
    space = torch.empty((2, size), dtype=torch.int32, device=flat.device)
    inside = torch.empty(size, dtype=torch.bool, device=flat.device)
    zero = torch.zeros((), dtype=torch.int32, device=flat.device)
    none = torch.empty(0, dtype=torch.int64, device=flat.device)
    numbers, tops, places, found = [zero], [zero], [none], [none.int()]
    for index, (chunk, out) in enumerate(zip(_chunks(flat), kept.split(size), strict=True)):
        length = len(chunk)
        if not length:
            continue
        bits, above, between = space[0, :length], space[1, :length], inside[:length]
        _magnitude(chunk, out=bits)
        tops.append(bits.amax())
        # On a CPU comparisons into integers take a fifth of the time of those into bools.
        out.copy_(torch.ge(bits, high, out=above))
        between.copy_(torch.ge(bits, low, out=bits).sub_(above))
        numbers.append(above.sum(dtype=torch.int32))
        where = _places(between)
        places.append(where + index * size)
        found.append(_magnitude(chunk[where]))
    return _Divided(
        kept,
        torch.stack(numbers).sum(),
        torch.stack(tops).max(),
        torch.cat(places),
        torch.cat(found),
    )


def _places(found: Tensor) -> Tensor:
    """Return where a vector of few True is True; eight zeros are skipped at once."""
    if found.numel() % 8:
        return found.nonzero().squeeze(1)
    words = found.view(torch.int64)
    rows = words.nonzero().squeeze(1)
    within = words[rows].view(torch.bool).nonzero().squeeze(1)
    return rows[within >> 3] * 8 + (within & 7)


def _by_bracket(scores: Sequence[Tensor], place: int, total: int) -> list[Tensor] | None:
    """Return flat masks of what is beyond a place in the order; None where the sample misled."""
    low, high = _bracket(scores, place, total)
    parts, listed = [], 0
    for score in scores:
        parts.append(_divide(score, low, high))
        listed += len(parts[-1].places)
        if listed > max(total >> 6, SAMPLE >> 2):
            return None
    _check_finite([part.largest for part in parts])
    bits = torch.cat([part.bits for part in parts])
    above = int(torch.stack([part.above for part in parts]).sum())
    wanted = place - (total - above - len(bits))
    if not 0 < wanted <= len(bits):
        return None
    threshold = int(bits.sort().values[wanted - 1])
    ties = wanted - int((bits < threshold).count_nonzero())
    for part in parts:
        equal = part.places[part.bits == threshold]
        part.kept[part.places[part.bits > threshold]] = True
        part.kept[equal[ties:]] = True
        ties -= min(ties, len(equal))
    return [part.kept for part in parts]


# -- counting, whatever the scores are -------------------------------------------------------


def _by_counting(
    scores: Sequence[Tensor], masks: Sequence[Tensor], pruned: int, k: int
) -> list[Tensor]:
    """Return flat masks without the `k` smallest kept entries."""
    upper = torch.zeros(_SIGN, dtype=torch.int64, device=scores[0].device)
    for score in scores:
        for chunk in _chunks(score):
            upper += torch.bincount(_upper(chunk), minlength=_SIGN)
    _check_finite([upper.nonzero().max() << 16])
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
        result.append(kept)
    return result
