"""The k smallest scores over many tensors, exactly, without gathering them.

The bits of a non-negative float, read as an integer, order as the float does. A sample says
between which two values the k-th smallest score most probably lies. One pass over all entries
then keeps those above, counts, and lists the few between; sorting these finds the threshold.
Where the sample says too little, as of many equal scores, two counting passes over the upper
and then the lower 16 bits find it, and a third one writes the masks. The extra memory is a few
chunks and the list or the histograms, whatever the size of the tensors.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pruneloop.errors import InvariantError

# Elements worked on at a time: small enough for a CPU's cache; a GPU wants few and long kernels,
# for which small tensors are joined.
CPU_CHUNK = 1 << 17
GPU_CHUNK = 3 << 20

SAMPLE = 1 << 18
"""About so many entries are sampled."""

_SIGN = 0x8000
_INFINITE = 0x7F80  # the upper half of inf's bits; a NaN's is at least that
_DEVIATIONS = 3.5  # of the sample, to either side of the place that is looked for


def count(found: Tensor) -> int:
    """Return how many of a bool tensor are True; on a CPU in half of count_nonzero's time."""
    return int(found.sum(dtype=torch.int32))


def counts(found: Sequence[Tensor]) -> list[int]:
    """Return `count` of every tensor, and wait for a GPU but once."""
    sums = [tensor.sum(dtype=torch.int32) for tensor in found]
    return torch.stack(sums).tolist() if sums else []


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _chunks(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield all elements in order, as vectors: views on a CPU, joined copies on a GPU."""
    flat = (tensor.detach().reshape(-1).contiguous() for tensor in tensors)
    if _on_cpu(tensors[0]):
        for vector in flat:
            yield from vector.split(CPU_CHUNK)
        return
    gathered: list[Tensor] = []
    for vector in flat:
        while len(vector):
            room = GPU_CHUNK - sum(map(len, gathered))
            gathered.append(vector[:room])
            vector = vector[room:]
            if sum(map(len, gathered)) == GPU_CHUNK:
                yield torch.cat(gathered)
                gathered = []
    if gathered:
        yield torch.cat(gathered)


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
    sizes = [mask.numel() for mask in masks]
    total = sum(sizes)
    pruned = total - sum(counts(masks))
    if not 0 <= k <= total - pruned:
        raise ValueError(f"cannot take {k} out of {total - pruned} kept entries")
    if k == 0:
        _check_finite([_magnitude(chunk).amax() for chunk in _chunks(scores) if len(chunk)])
        return [mask.clone() for mask in masks]
    # The pruned entries score 0 and stand below all others: count them as taken.
    found = _by_bracket(scores, pruned + k, total)
    if found is None:
        found = _by_counting(scores, masks, pruned, k)
    parts = found.split(sizes)
    return [part.view(mask.shape) for part, mask in zip(parts, masks, strict=True)]


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
    taken = torch.cat([score.detach().reshape(-1)[::step] for score in scores])
    sample = _magnitude(taken).sort().values
    middle = place * len(sample) // total
    far = int(_DEVIATIONS * (middle * (1 - middle / len(sample))) ** 0.5) + 2
    low = int(sample[middle - far]) if middle >= far else 1
    high = int(sample[middle + far]) if middle + far < len(sample) else _INFINITE << 16
    return max(low, 1), high


class _Space:
    """What a CPU works in, chunk by chunk: taking new memory for each would cost as much again."""

    def __init__(self, size: int) -> None:
        self._numbers = torch.empty((2, size), dtype=torch.int32)
        self._flags = torch.empty(size, dtype=torch.bool)

    def of(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return room for so many magnitudes, counts and flags."""
        return self._numbers[0, :size], self._numbers[1, :size], self._flags[:size]


def _divide(
    chunk: Tensor, low: int, high: int, above: Tensor, space: _Space
) -> tuple[Tensor, Tensor, Tensor]:
    """Find of a chunk what is at or above a bracket, and what is inside.

    Args:
        above: gets True where it is above.

    Returns:
        How many are above; the places of those inside; the largest magnitude.
    """
    if not _on_cpu(chunk):
        chunk = chunk.float()
        bits = _magnitude(chunk, out=chunk.view(torch.int32))  # a copy, so that it may change
        torch.ge(bits, high, out=above)
        inside = torch.ge(bits, low).logical_xor_(above)
        return above.sum(dtype=torch.int32), inside.nonzero().squeeze(1), bits.amax()
    bits, beyond, flags = space.of(len(chunk))
    top = _magnitude(chunk, out=bits).amax()
    # Comparisons into integers take a fifth of the time of those into bools there.
    above.copy_(torch.ge(bits, high, out=beyond))
    flags.copy_(torch.ge(bits, low, out=bits).sub_(beyond))
    return beyond.sum(dtype=torch.int32), _places(flags), top


def _places(found: Tensor) -> Tensor:
    """Return where a vector of few True is True; eight zeros are skipped at once."""
    if found.numel() % 8:
        return found.nonzero().squeeze(1)
    words = found.view(torch.int64)
    rows = words.nonzero().squeeze(1)
    within = words[rows].view(torch.bool).nonzero().squeeze(1)
    return rows[within >> 3] * 8 + (within & 7)


def _by_bracket(scores: Sequence[Tensor], place: int, total: int) -> Tensor | None:
    """Return a flat mask of what is beyond a place in the order; None where the sample misled."""
    low, high = _bracket(scores, place, total)
    kept = torch.empty(total, dtype=torch.bool, device=scores[0].device)
    beyond, tops, places, found = [], [], [], []
    space, start, listed = _Space(min(CPU_CHUNK, total)), 0, 0
    for chunk in _chunks(scores):
        if not len(chunk):
            continue
        number, where, top = _divide(chunk, low, high, kept[start : start + len(chunk)], space)
        beyond.append(number)
        tops.append(top)
        places.append(where + start)
        found.append(_magnitude(chunk[where]))
        start += len(chunk)
        listed += len(where)
        if listed > max(total >> 6, SAMPLE >> 2):
            return None
    _check_finite(tops)
    bits = torch.cat(found)
    found.clear()
    inside = torch.cat(places)
    places.clear()
    above = int(torch.stack(beyond).sum())
    wanted = place - (total - above - len(bits))
    if not 0 < wanted <= len(bits):
        return None
    threshold = int(bits.sort().values[wanted - 1])
    ties = wanted - int((bits < threshold).count_nonzero())
    kept[inside[bits > threshold]] = True
    kept[inside[bits == threshold][ties:]] = True
    return kept


# -- counting, whatever the scores are -------------------------------------------------------


def _by_counting(scores: Sequence[Tensor], masks: Sequence[Tensor], pruned: int, k: int) -> Tensor:
    """Return a flat mask without the `k` smallest kept entries."""
    upper = torch.zeros(_SIGN, dtype=torch.int64, device=scores[0].device)
    for chunk in _chunks(scores):
        upper += torch.bincount(_upper(chunk), minlength=_SIGN)
    _check_finite([upper.nonzero().max() << 16])
    high, below = _find(upper, pruned + k)

    lower = torch.zeros(1 << 16, dtype=torch.int64, device=upper.device)
    for chunk in _chunks(scores):
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
) -> Tensor:
    """Drop all entries below the threshold, and the first `ties` that are equal to it."""
    kept = torch.empty(
        sum(mask.numel() for mask in masks), dtype=torch.bool, device=scores[0].device
    )
    start = 0
    for chunk, before in zip(_chunks(scores), _chunks(masks), strict=True):
        after = kept[start : start + len(chunk)]
        start += len(chunk)
        magnitude = _magnitude(chunk)
        torch.ge(magnitude, threshold, out=after)
        if threshold == 0:
            after &= before  # here a pruned entry's 0 is a tie like a kept one's
        if ties:
            equal = (magnitude == threshold) & before
            after &= ~(equal & (equal.cumsum(0) <= ties))
            ties -= min(ties, int(equal.count_nonzero()))
    return kept
