"""Selection: exactly k, the smallest magnitudes, ties by position, on hand-typed arrays."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor

from pruneloop.errors import InvariantError
from pruneloop.pruning import selection
from pruneloop.pruning.selection import smallest

INF, NAN = float("inf"), float("nan")


def bools(*rows: str) -> list[Tensor]:
    """Return masks from strings such as `1011`."""
    return [tensor([digit == "1" for digit in row]) for row in rows]


def ones(scores: Sequence[Tensor]) -> list[Tensor]:
    return [torch.ones_like(score, dtype=torch.bool) for score in scores]


def written(masks: Sequence[Tensor]) -> list[str]:
    return ["".join(str(int(bit)) for bit in mask.flatten()) for mask in masks]


def brute_force(scores: Sequence[Tensor], masks: Sequence[Tensor], k: int) -> list[str]:
    """Sort all kept entries by magnitude, then position, and strike out the first k."""
    entries = [
        (abs(float(value)), i, j)
        for i, (score, mask) in enumerate(zip(scores, masks, strict=True))
        for j, (value, kept) in enumerate(zip(score.flatten(), mask.flatten(), strict=True))
        if kept
    ]
    result = [list(text) for text in written(masks)]
    for _, i, j in sorted(entries)[:k]:
        result[i][j] = "0"
    return ["".join(digits) for digits in result]


@pytest.fixture
def tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "CPU_CHUNK", 7)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("scores", "before", "k", "after"),
    [
        ([4, -1, 3, -2], "1111", 1, "1011"),
        ([4, -1, 3, -2], "1111", 2, "1010"),
        ([4, -1, 3, -2], "1111", 3, "1000"),
        ([4, 0, 3, -2], "1011", 1, "1010"),  # goes on from an earlier prune
        ([0, 0, 3, -2], "0011", 2, "0000"),
        ([5, 5, 5, 5], "1111", 2, "0011"),  # a constant: the first go
        ([5, -5, 5, 1], "1111", 2, "0110"),  # the sign does not break a tie
        ([0, 0, 0, 1], "1111", 2, "0011"),
        ([-0.0, 0.0, -0.0, 1], "1111", 1, "0111"),
        ([0, 0, 0, 1], "0111", 1, "0011"),  # a kept zero ties with a pruned one
        ([0, 0, 0, 0], "1010", 1, "0010"),
        ([1e-45, 3e38, 2.8e-45, 1e-38], "1111", 2, "0101"),  # denormals keep their order
        ([1.0000001, 1.0, 1.0000002, 1.0], "1111", 3, "0010"),  # the last bit counts
        ([4, -1, 3, -2], "1111", 0, "1111"),
        ([4, -1, 3, -2], "1111", 4, "0000"),
        ([0, -1, 3, 0], "0110", 2, "0000"),
    ],
)
def test_four_elements(scores: list[float], before: str, k: int, after: str) -> None:
    assert written(smallest([tensor(scores, dtype=torch.float32)], bools(before), k)) == [after]


def test_ties_across_tensors_go_to_the_first_tensor_first() -> None:
    scores = [tensor([2.0, 1.0]), tensor([1.0, 1.0]), tensor([1.0, 0.5])]
    expected = {
        1: ["11", "11", "10"],
        2: ["10", "11", "10"],
        3: ["10", "01", "10"],
        4: ["10", "00", "10"],
        5: ["10", "00", "00"],
        6: ["00", "00", "00"],
    }
    assert {k: written(smallest(scores, ones(scores), k)) for k in expected} == expected


@pytest.mark.parametrize("k", [-1, 3, 5])
def test_k_must_be_within_what_is_kept(k: int) -> None:
    with pytest.raises(ValueError, match=f"cannot take {k} out of 2"):
        smallest([tensor([0.0, 1.0, 0.0, 2.0])], bools("0101"), k)


@pytest.mark.parametrize("value", [NAN, -NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("k", [0, 1, 4])
def test_a_score_that_is_not_finite(value: float, dtype: torch.dtype, k: int) -> None:
    scores = [tensor([1.0, 2.0], dtype=dtype), tensor([3.0, value], dtype=dtype)]
    with pytest.raises(InvariantError, match="NaN or infinite") as caught:
        smallest(scores, ones(scores), k)
    assert caught.value.exit_code == 6


def test_the_largest_finite_numbers_are_fine() -> None:
    largest = torch.finfo(torch.float32).max
    scores = [tensor([-largest, 1.0, largest, torch.finfo(torch.float32).tiny])]
    assert written(smallest(scores, ones(scores), 3)) == ["0010"]


@pytest.mark.parametrize("k", [0, 1, 100, 499, 500, 999])
def test_without_ties_it_is_topk(k: int, tiny_chunks: None) -> None:
    generator = torch.Generator().manual_seed(k)
    scores = torch.rand(1000, generator=generator) ** 8  # many magnitudes
    assert scores.unique().numel() == 1000
    signed = scores * torch.randint(0, 2, (1000,), generator=generator).mul(2).sub(1)
    expected = torch.ones(1000, dtype=torch.bool)
    expected[scores.topk(k, largest=False).indices] = False
    (found,) = smallest([signed], ones([signed]), k)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("threads", [1, 2])
def test_coarse_numbers_over_real_chunks(
    dtype: torch.dtype, threads: int, restored_threads: None
) -> None:
    """A rule `<= threshold` would prune too many: in bf16 most weights tie."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(1)
    sizes = [300_001, 1, 17, 4_099]
    assert max(sizes) > selection.CPU_CHUNK
    scores = [torch.randn(size, generator=generator).to(dtype) for size in sizes]
    k = 60_823
    order = torch.cat(scores).float().abs().argsort(stable=True)
    expected = torch.ones(sum(sizes), dtype=torch.bool)
    expected[order[:k]] = False
    found = torch.cat(smallest(scores, ones(scores), k))
    assert int((~found).sum()) == k
    assert torch.equal(found, expected)


@pytest.mark.parametrize("k", [1, 6, 7, 8, 13, 14, 15, 20])
def test_ties_cross_the_borders_of_chunks(k: int, tiny_chunks: None) -> None:
    scores = [torch.full((20,), 0.25), torch.full((5,), -0.25)]
    assert written(smallest(scores, ones(scores), k)) == ["0" * k + "1" * (20 - k), "11111"]


def test_zeros_tie_across_the_borders_of_chunks(tiny_chunks: None) -> None:
    """Every second zero is pruned already; it must not be counted again."""
    scores, masks = [torch.zeros(20)], bools("01" * 10)
    assert written(smallest(scores, masks, 4)) == ["00" * 4 + "01" * 6]


def test_tensors_that_are_not_contiguous(tiny_chunks: None) -> None:
    """Positions are counted in the tensor's own order, whatever its memory looks like."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randint(0, 4, (5, 6), generator=generator).float()
    mask = (base != 0).t()
    strided = torch.randint(1, 4, (9,), generator=generator).float()[::2]
    views = [base.t(), strided]
    copies = [view.clone(memory_format=torch.contiguous_format) for view in views]
    found = smallest(views, [mask, torch.ones(5, dtype=torch.bool)], 9)
    assert found[0].shape == (6, 5)
    masks = [mask.contiguous(), torch.ones(5, dtype=torch.bool)]
    assert written(found) == written(smallest(copies, masks, 9)) == brute_force(copies, masks, 9)


@pytest.mark.parametrize("k", [0, 2])
def test_inputs_are_left_alone(k: int) -> None:
    scores, masks = [tensor([-0.0, 2.0, 3.0])], bools("111")
    found = smallest(scores, masks, k)
    found[0].fill_(False)
    assert written(masks) == ["111"]
    assert str(scores[0].tolist()) == "[-0.0, 2.0, 3.0]"


def test_scores_may_require_gradients() -> None:
    scores = [torch.nn.Parameter(tensor([[3.0, 1.0], [2.0, 4.0]]))]
    assert smallest(scores, ones(scores), 2)[0].tolist() == [[True, False], [False, True]]


FEW = [0.0, -0.0, 1.0, -1.0, 1.0000001, 1e-45, -1e-45, 1e-38, 65504.0]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ENTRY = st.tuples(
    st.sampled_from(FEW) | st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.booleans(),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.lists(ENTRY, min_size=1, max_size=11), min_size=1, max_size=4),
    share=st.floats(0, 1),
    dtype=st.sampled_from(DTYPES),
    chunk=st.sampled_from([1, 7, 1 << 18]),
    joined=st.booleans(),
)
def test_against_brute_force(
    rows: list[list[tuple[float, bool]]],
    share: float,
    dtype: torch.dtype,
    chunk: int,
    joined: bool,
) -> None:
    """`joined`: by a GPU's way, which joins small tensors."""
    masks = [tensor([kept for _, kept in row]) for row in rows]
    values = [tensor([value for value, _ in row]).to(dtype) for row in rows]
    # Rounding to a smaller type may overflow; a pruned entry scores 0.
    scores = [v.nan_to_num() * m for v, m in zip(values, masks, strict=True)]
    k = round(share * sum(int(mask.sum()) for mask in masks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "CPU_CHUNK", chunk)
        patch.setattr(selection, "GPU_CHUNK", chunk)
        if joined:
            patch.setattr(selection, "_on_cpu", lambda tensor: False)
        before = [score.clone() for score in scores]
        found = smallest(scores, masks, k)
        assert all(map(torch.equal, scores, before))
    assert written(found) == brute_force(scores, masks, k)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("sample", [2, 64, 1 << 12])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_sample_never_decides(
    sample: int, share: float, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few entries say where to look, the result is that of a full sort."""
    monkeypatch.setattr(selection, "SAMPLE", sample)
    if joined:
        monkeypatch.setattr(selection, "_on_cpu", lambda tensor: False)
        monkeypatch.setattr(selection, "GPU_CHUNK", 50_000)
    generator = torch.Generator().manual_seed(sample)
    scores = [torch.randn(size, generator=generator) for size in (200_003, 5, 40_000)]
    scores[0][:90_000] = 0.0  # pruned before
    masks = [score != 0 for score in scores]
    k = round(share * sum(int(mask.sum()) for mask in masks))
    order = torch.cat(scores).abs().argsort(stable=True)
    expected = torch.cat(masks)
    expected[order[: 90_000 + k]] = False
    assert torch.equal(torch.cat(smallest(scores, masks, k)), expected)


def test_only_equal_scores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass over what lies near the threshold is enough, where scores differ."""
    counted: list[int] = []
    by_counting = selection._by_counting
    monkeypatch.setattr(
        selection, "_by_counting", lambda *given: counted.append(1) or by_counting(*given)
    )
    scores = [torch.randn(400_000, generator=torch.Generator().manual_seed(0))]
    smallest(scores, ones(scores), 100_000)
    assert not counted
    smallest([score.round() for score in scores], ones(scores), 100_000)
    assert counted
