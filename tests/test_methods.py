"""Pruning methods against torch.nn.utils.prune, bit for bit, and the laws of pruning."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import SHARED, needs_shared
from torch import Tensor, nn, tensor
from torch.nn.utils import prune

from pruneloop.errors import InvariantError
from pruneloop.pruning import (
    Blocks,
    Evidence,
    GlobalL1,
    Groups,
    LayerL1,
    Lines,
    Magnitude,
    Masks,
    Method,
    Movement,
    Random,
    RandomGlobal,
    StructuredLn,
    Taylor,
    Wanda,
    drops_by_amount,
)

Shapes = list[tuple[int, int]]
SHAPES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4)
AMOUNTS = st.floats(0.01, 0.6)
SEEDS = st.integers(0, 2**32)


def distinct(shapes: Shapes, generator: torch.Generator) -> list[Tensor]:
    """Return random tensors without two equal magnitudes, and without a zero.

    Odd powers, so that no two rows or columns have equal norms: of those, torch's `topk` takes
    whichever it meets, and ours the first.
    """
    sizes = [rows * columns for rows, columns in shapes]
    magnitudes = torch.randperm(sum(sizes), generator=generator).add(1).pow(0.7) / sum(sizes)
    signs = torch.randint(0, 2, (sum(sizes),), generator=generator) * 2 - 1
    return [
        part.view(shape)
        for part, shape in zip((magnitudes * signs).split(sizes), shapes, strict=True)
    ]


class Torch:
    """The oracle: modules that torch.nn.utils.prune prunes, and trains in between."""

    def __init__(self, shapes: Shapes) -> None:
        self.modules = [nn.Linear(columns, rows, bias=False) for rows, columns in shapes]
        self.parameters = [(module, "weight") for module in self.modules]

    def train_to(self, values: list[Tensor]) -> None:
        for module, value in zip(self.modules, values, strict=True):
            pruned = prune.is_pruned(module)
            (module.weight_orig if pruned else module.weight).data.copy_(value)
            for hook in module._forward_pre_hooks.values():
                hook(module, None)  # torch's weight is stale before a forward

    def masks(self) -> list[Tensor]:
        return [module.weight_mask.bool() for module in self.modules]


def named(values: list[Tensor]) -> dict[str, Tensor]:
    return {str(index): value for index, value in enumerate(values)}


def by_amount(method: Method, weights: dict[str, Tensor], masks: Masks, amount: float) -> Masks:
    """Prune one round, from weights that training has moved."""
    masks.zero_weights(weights)
    return method.prune(weights, masks, drops_by_amount(method.units(masks), 1, amount)[0])


def assert_rounds_equal(method, oracle_prune, shapes, seed, amount, rounds) -> None:
    """Prune round after round with fresh weights, until torch empties a matrix."""
    generator = torch.Generator().manual_seed(seed)
    oracle = Torch(shapes)
    masks = Masks.dense(named([module.weight for module in oracle.modules]))
    for _ in range(rounds):
        values = distinct(shapes, generator)
        oracle.train_to(values)
        oracle_prune(oracle)
        expected = oracle.masks()
        weights = named([value.clone() for value in values])
        if not all(mask.any() for mask in expected):
            with pytest.raises(InvariantError, match="would lose its last weight"):
                by_amount(method, weights, masks, amount)
            return
        masks = by_amount(method, weights, masks, amount)
        for found, mask in zip(masks.values(), expected, strict=True):
            assert torch.equal(found, mask)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(shapes=SHAPES, seed=SEEDS, amount=AMOUNTS)
def test_global_l1_is_torchs(shapes: Shapes, seed: int, amount: float) -> None:
    def oracle_prune(oracle: Torch) -> None:
        prune.global_unstructured(oracle.parameters, prune.L1Unstructured, amount=amount)

    assert_rounds_equal(GlobalL1(), oracle_prune, shapes, seed, amount, rounds=6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shapes=SHAPES, seed=SEEDS, amount=AMOUNTS)
def test_layer_l1_is_torchs(shapes: Shapes, seed: int, amount: float) -> None:
    def oracle_prune(oracle: Torch) -> None:
        for module in oracle.modules:
            prune.l1_unstructured(module, "weight", amount=amount)

    assert_rounds_equal(LayerL1(), oracle_prune, shapes, seed, amount, rounds=6)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("n", [1, 2, math.inf])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(shapes=SHAPES, seed=SEEDS, amount=AMOUNTS)
def test_structured_ln_is_torchs(
    n: float, dim: int, shapes: Shapes, seed: int, amount: float
) -> None:
    def oracle_prune(oracle: Torch) -> None:
        for module in oracle.modules:
            prune.ln_structured(module, "weight", amount=amount, n=n, dim=dim)

    assert_rounds_equal(StructuredLn(n, dim), oracle_prune, shapes, seed, amount, rounds=3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shapes=SHAPES, seed=SEEDS, amount=AMOUNTS)
def test_random_global_is_torchs(shapes: Shapes, seed: int, amount: float) -> None:
    """Given the same random state, over three rounds with a seed each."""
    oracle = Torch(shapes)
    weights = named([module.weight.detach().clone() for module in oracle.modules])
    masks = Masks.dense(weights)
    for round_number in range(3):
        torch.manual_seed(seed + round_number)
        prune.global_unstructured(oracle.parameters, prune.RandomUnstructured, amount=amount)
        if not all(mask.any() for mask in oracle.masks()):
            return
        masks = by_amount(RandomGlobal(seed + round_number), weights, masks, amount)
        for found, mask in zip(masks.values(), oracle.masks(), strict=True):
            assert torch.equal(found, mask)


def test_random_global_depends_on_its_seed_alone() -> None:
    weights = {"a": torch.randn(20, 20)}
    masks = Masks.dense(weights)
    first = RandomGlobal(1).prune(weights, masks, [100])
    torch.manual_seed(7)
    assert RandomGlobal(1).prune({"a": torch.randn(20, 20)}, masks, [100]).digest() == (
        first.digest()
    )
    assert RandomGlobal(2).prune(weights, masks, [100]).digest() != first.digest()


def test_random_global_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    RandomGlobal(1).prune({"a": torch.ones(4)}, Masks.dense({"a": torch.ones(4)}), [2])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_sequence_of_the_blog() -> None:
    """Random 0.3, then 0.3 of the columns by L2 on top, on a matrix of KoBERT's size."""
    weights = {"w": torch.randn(768, 768, generator=torch.Generator().manual_seed(0))}
    random = by_amount(RandomGlobal(0), weights, Masks.dense(weights), 0.3)
    assert random.zeros == 176_947
    both = by_amount(StructuredLn(2, 1), weights, random, 0.3)
    columns = ~both["w"].any(dim=0)
    assert int(columns.sum()) == 230
    assert torch.equal(both["w"], random["w"] & ~columns)
    norms = weights["w"].norm(dim=0)
    assert norms[columns].max() <= norms[~columns].min()


@needs_shared
def test_the_printed_mask_of_the_blog() -> None:
    golden = json.loads((SHARED / "golden" / "seed.json").read_text(encoding="utf-8"))
    printed = golden["l1_unstructured_50_on_layer0_key_bias"]
    bias = {"bias": tensor(printed["bias"])}
    expected = tensor(printed["mask"]).bool()
    assert int((~expected).sum()) == 50
    for method in (GlobalL1(), LayerL1()):
        assert torch.equal(method.prune(bias, Masks.dense(bias), [50])["bias"], expected)


@pytest.mark.parametrize(
    ("total", "zeros"),
    [
        (21_233_664, [4_246_733, 7_644_119, 10_362_028, 12_536_355, 14_275_817]),
        (84_934_656, [16_986_931, 30_576_476, 41_448_112, 50_145_421, 57_103_268]),
    ],
    ids=["qkv", "encoder"],
)
def test_zero_counts_of_kobert(total: int, zeros: list[int]) -> None:
    drops = [drop for (drop,) in drops_by_amount([total], 5, 0.2)]
    assert [sum(drops[: k + 1]) for k in range(5)] == zeros


@needs_shared
def test_zero_counts_are_the_golden_ones() -> None:
    golden = json.loads((SHARED / "golden" / "seed.json").read_text(encoding="utf-8"))
    totals = {"qkv": 21_233_664, "encoder": 84_934_656}
    assert golden["amount_0.2_rounds_5_zeros"].keys() == totals.keys()
    for scope, zeros in golden["amount_0.2_rounds_5_zeros"].items():
        drops = [drop for (drop,) in drops_by_amount([totals[scope]], 5, 0.2)]
        assert [sum(drops[: k + 1]) for k in range(5)] == zeros


SMALL = {"a": tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, 6.0]]), "b": tensor([[10.0, -0.5], [9.0, 8.0]])}


@pytest.mark.parametrize(
    ("method", "units", "drops", "a", "b"),
    [
        (GlobalL1(), [10], [4], [[0, 0, 0], [1, 1, 1]], [[1, 0], [1, 1]]),
        (LayerL1(), [6, 4], [2, 1], [[0, 0, 1], [1, 1, 1]], [[1, 0], [1, 1]]),
        (StructuredLn(1, 0), [2, 2], [1, 1], [[0] * 3, [1] * 3], [[0, 0], [1, 1]]),
        (StructuredLn(2, 1), [3, 2], [1, 0], [[0, 1, 1]] * 2, [[1, 1], [1, 1]]),
        (StructuredLn(math.inf, 1), [3, 2], [2, 1], [[0, 0, 1]] * 2, [[1, 0], [1, 0]]),
    ],
    ids=["global", "layer", "rows by L1", "columns by L2", "columns by the largest"],
)
def test_by_hand(method: Method, units: list, drops: list, a: list, b: list) -> None:
    dense = Masks.dense(SMALL)
    assert method.units(dense) == units
    masks = method.prune(SMALL, dense, drops)
    assert method.zeros(dense, drops) == (masks.zeros, masks.zeros)
    assert {name: mask.int().tolist() for name, mask in masks.items()} == {"a": a, "b": b}
    assert list(masks) == ["a", "b"]
    assert method.units(masks) == [u - d for u, d in zip(units, drops, strict=True)]


METHODS = [GlobalL1(), GlobalL1(0.9), LayerL1(), RandomGlobal(3), StructuredLn(2, 0)]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_laws(method: Method) -> None:
    """Exact counts, masks only shrink, and nothing given is written to."""
    generator = torch.Generator().manual_seed(0)
    weights = {"a": torch.randn(30, 17, generator=generator), "b": torch.randn(9, 40)}
    masks = Masks.dense(weights)
    for _ in range(4):
        masks.zero_weights(weights)
        given_weights = {name: weight.clone() for name, weight in weights.items()}
        given_digest = masks.digest()
        units = method.units(masks)
        (drops,) = drops_by_amount(units, 1, 0.3)
        after = method.prune(weights, masks, drops)
        assert method.units(after) == [u - d for u, d in zip(units, drops, strict=True)]
        assert not any((after[name] & ~masks[name]).any() for name in masks)
        assert masks.digest() == given_digest
        assert all(torch.equal(weights[name], given_weights[name]) for name in weights)
        masks = after


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_no_drop_changes_nothing_and_shares_nothing(method: Method) -> None:
    masks = Masks.dense(SMALL)
    after = method.prune(SMALL, masks, [0] * len(method.units(masks)))
    assert after.digest() == masks.digest()
    after["a"].fill_(False)
    assert masks.zeros == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_largest_pruned_is_at_most_the_smallest_kept(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(50, 30, generator=generator).to(dtype) for name in "ab"}
    masks = GlobalL1().prune(weights, Masks.dense(weights), [1234])
    pruned = torch.cat([weights[name][~mask] for name, mask in masks.items()]).abs()
    kept = torch.cat([weights[name][mask] for name, mask in masks.items()]).abs()
    assert pruned.numel() == 1234
    assert pruned.max() <= kept.min()


def test_the_cap_is_kept_exactly_and_the_count_too() -> None:
    """The small weights are all in `a`; what its cap holds back comes out of `b`."""
    weights = {"a": torch.arange(1.0, 12.0), "b": torch.arange(100.0, 111.0)}
    dense = Masks.dense(weights)
    masks = GlobalL1(max_layer_sparsity=0.5).prune(weights, dense, [9])
    assert masks.zeros_by_name() == {"a": int(0.5 * 11), "b": 4}
    assert masks["a"].int().tolist() == [0] * 5 + [1] * 6
    assert masks["b"].int().tolist() == [0] * 4 + [1] * 7


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(2, 12), min_size=1, max_size=4),
    seed=SEEDS,
    cap=st.floats(0.1, 0.95),
    share=st.floats(0, 1),
)
def test_the_cap_against_brute_force(sizes: list[int], seed: int, cap: float, share: float) -> None:
    """Go up by magnitude, and take a weight where its matrix has room."""
    values = distinct([(1, size) for size in sizes], torch.Generator().manual_seed(seed))
    weights = named([value * 2.0**index for index, value in enumerate(values)])
    room = {name: int(cap * weight.numel()) for name, weight in weights.items()}
    k = round(share * sum(room.values()))
    expected = {name: torch.ones_like(weight).bool() for name, weight in weights.items()}
    for _, name, place in sorted(
        (abs(value), name, place)
        for name, weight in weights.items()
        for place, value in enumerate(weight[0].tolist())
    ):
        if room[name] and sum(int((~mask).sum()) for mask in expected.values()) < k:
            expected[name][0, place] = False
            room[name] -= 1
    masks = GlobalL1(max_layer_sparsity=cap).prune(weights, Masks.dense(weights), [k])
    assert masks.zeros == k
    assert all(torch.equal(masks[name], expected[name]) for name in expected)


def test_a_cap_that_nothing_reaches_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(40, 25, generator=generator) for name in "abc"}
    dense = Masks.dense(weights)
    free, capped = (method.prune(weights, dense, [900]) for method in (GlobalL1(), GlobalL1(0.5)))
    assert max(free.zeros_by_name().values()) < 500
    assert capped.digest() == free.digest()


def test_the_cap_holds_over_rounds() -> None:
    weights = {"a": torch.arange(1.0, 11.0), "b": torch.arange(100.0, 110.0)}
    method, masks = GlobalL1(max_layer_sparsity=0.6), Masks.dense(weights)
    counts = []
    for k in (5, 3, 4):
        masks.zero_weights(weights)
        masks = method.prune(weights, masks, [k])
        counts.append(masks.zeros_by_name())
    assert counts == [{"a": 5, "b": 0}, {"a": 6, "b": 2}, {"a": 6, "b": 6}]


def test_a_matrix_over_its_cap_from_the_start_gives_nothing_more() -> None:
    weights = {"a": tensor([0.0, 0.0, 0.0, 1.0]), "b": tensor([5.0, 6.0, 7.0, 8.0])}
    masks = GlobalL1(max_layer_sparsity=0.5).prune(weights, Masks.from_zeros(weights), [2])
    assert masks.zeros_by_name() == {"a": 3, "b": 2}


def test_an_impossible_cap() -> None:
    with pytest.raises(InvariantError, match=r"prune\.max_layer_sparsity=0\.5 leaves too little"):
        GlobalL1(max_layer_sparsity=0.5).prune(SMALL, Masks.dense(SMALL), [6])


@pytest.mark.parametrize(
    ("method", "drops", "name"),
    [
        (GlobalL1(), [6], "tiny.weight"),
        (LayerL1(), [0, 4], "large.weight"),
        (StructuredLn(2, 0), [2, 0], "tiny.weight"),
        (RandomGlobal(0), [8], "tiny.weight"),
    ],
    ids=str,
)
def test_no_matrix_loses_its_last_weight(method: Method, drops: list[int], name: str) -> None:
    weights = {"tiny.weight": tensor([[0.1, 0.2], [0.3, 0.4]]), "large.weight": torch.ones(2, 2)}
    with pytest.raises(InvariantError, match=rf"{name} would lose its last weight") as caught:
        method.prune(weights, Masks.dense(weights), drops)
    assert caught.value.exit_code == 6


def test_permanent_zeros_between_rounds_are_not_pruned_twice() -> None:
    """Trap 1: masks read back from the zeros go on to 1-(1-p)^k; dense ones stay at p."""
    weights = {"w": torch.randn(40, 25, generator=torch.Generator().manual_seed(0))}
    forgetful = {"w": weights["w"].clone()}
    for k in range(1, 6):
        masks = by_amount(GlobalL1(), weights, Masks.from_zeros(weights), 0.2)
        masks.zero_weights(weights)
        assert abs(masks.zeros - 1000 * (1 - 0.8**k)) <= k / 2
        by_amount(GlobalL1(), forgetful, Masks.dense(forgetful), 0.2).zero_weights(forgetful)
    assert Masks.from_zeros(weights).zeros == 672
    assert Masks.from_zeros(forgetful).zeros == 200


def test_a_criterion_and_groups_are_apart() -> None:
    """Taylor's scores by matrix: the same groups as layer_l1, another ranking."""
    method = Method(Taylor(), Groups(together=False))
    saliency = {
        "a": tensor([[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]),
        "b": tensor([[1.0, 4.0], [2.0, 3.0]]),
    }
    assert method.needs == Evidence.saliency
    masks = method.prune(SMALL, Masks.dense(SMALL), [2, 1], saliency)
    found = {name: mask.int().tolist() for name, mask in masks.items()}
    assert found == {"a": [[1, 1, 1], [1, 0, 0]], "b": [[0, 1], [1, 1]]}


def test_wanda_is_its_papers_formula() -> None:
    """|w_ij| * ||x_j||: a small weight with a loud input stays."""
    method = Method(Wanda(), Groups(together=False))
    norms = {"a": tensor([[9.0, 1.0, 1.0]]), "b": tensor([[1.0, 100.0]])}
    assert method.needs == Evidence.inputs
    masks = method.prune(SMALL, Masks.dense(SMALL), [2, 2], norms)
    found = {name: mask.int().tolist() for name, mask in masks.items()}
    # a: 9 2 3 / 36 5 6, b: 10 50 / 9 800
    assert found == {"a": [[1, 0, 0], [1, 1, 1]], "b": [[0, 1], [0, 1]]}


def test_movement_takes_what_moved_towards_zero_first() -> None:
    method = Method(Movement())
    sums = {
        "a": tensor([[3.0, -1.0, 0.0], [-7.0, 2.0, -1.0]]),
        "b": tensor([[1e-30, -0.0], [5, 6]]),
    }
    assert method.needs == Evidence.movement
    dense = Masks.dense(SMALL)
    orders = [{"a": 1}, {"a": 2}, {"a": 3}]  # -7, then -1 twice by position
    for k, lost in enumerate(orders, 1):
        found = method.prune(SMALL, dense, [k], sums).zeros_by_name()
        assert found == {"b": 0} | lost
    assert not method.prune(SMALL, dense, [2], sums)["a"][0, 1]
    six = method.prune(SMALL, dense, [6], sums)
    assert {name: mask.int().tolist() for name, mask in six.items()} == {
        "a": [[1, 0, 0], [0, 1, 0]],
        "b": [[0, 0], [1, 1]],
    }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=SEEDS, share=st.floats(0, 1), levels=st.integers(1, 40))
def test_movement_against_brute_force(seed: int, share: float, levels: int) -> None:
    """A stable sort of signed sums, most negative first, with many ties."""
    generator = torch.Generator().manual_seed(seed)
    sums = {"a": torch.randint(-levels, levels + 1, (9, 7), generator=generator) / 8}
    masks = Masks({"a": torch.rand(9, 7, generator=generator) < 0.7})
    weights = {"a": torch.ones(9, 7)}
    masks.zero_weights(weights)
    k = round(share * (int(masks["a"].sum()) - 1))
    kept = masks["a"].flatten().nonzero().flatten().tolist()
    order = sorted(kept, key=lambda index: float(sums["a"].flatten()[index]))
    wanted = masks["a"].flatten().clone()
    wanted[order[:k]] = False
    found = Method(Movement()).prune(weights, masks, [k], sums)
    assert torch.equal(found["a"].flatten(), wanted)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_movement_that_is_not_finite_is_an_error(bad: float) -> None:
    ones = {"a": torch.ones(2)}
    with pytest.raises(InvariantError, match="NaN or infinite"):
        Method(Movement()).prune(ones, Masks.dense(ones), [1], {"a": tensor([bad, 1.0])})


def test_two_of_four_by_hand() -> None:
    """Out of every block its two smallest, ties by position; a third prune finds no room."""
    method = Method(Magnitude(), Blocks(2, 4))
    weights = {"a": tensor([[1.0, -2, 3, 4, 5, 5, 5, 5], [9, 8, 7, 6, -1, 2, -3, 4]])}
    dense = Masks.dense(weights)
    assert (method.units(dense), method.room(dense)) == ([16], [8])
    one = method.prune(weights, dense, [4])
    assert one["a"].int().tolist() == [[0, 1, 1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 0, 1, 1, 1]]
    one.zero_weights(weights)
    two = method.prune(weights, one, [4])
    assert two["a"].int().tolist() == [[0, 0, 1, 1, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0, 1, 1]]
    assert method.room(two) == [0]
    assert method.zeros(dense, [8]) == (8, 8)
    with pytest.raises(InvariantError, match="evenly"):
        method.prune(weights, one, [3])
    with pytest.raises(InvariantError, match="evenly"):
        method.prune(weights, one, [16])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=SEEDS, m=st.integers(2, 8), rows=st.integers(1, 5), blocks=st.integers(1, 4))
def test_blocks_against_brute_force(seed: int, m: int, rows: int, blocks: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = {"a": torch.randint(-4, 5, (rows, blocks * m), generator=generator).float()}
    masks = Masks.dense(weights)
    for _ in range(m - 1):
        wanted = masks["a"].clone()
        for row in range(rows):
            for start in range(0, blocks * m, m):
                places = [i for i in range(start, start + m) if wanted[row, i]]
                wanted[
                    row, min(places, key=lambda i, row=row: abs(float(weights["a"][row, i])))
                ] = 0
        masks = Method(Magnitude(), Blocks(1, m)).prune(weights, masks, [rows * blocks])
        assert torch.equal(masks["a"], wanted)


@pytest.mark.parametrize("together", [True, False])
def test_equal_rows_go_by_position(together: bool) -> None:
    """Of so many equal scores torch.topk takes some from the end."""
    weights = {name: torch.ones(300, 2) for name in ("a", "b")}
    masks = Masks.dense(weights)
    method = Method(Magnitude(), Groups(Lines(2, 0), together=together))
    pruned = method.prune(weights, masks, [150] if together else [150, 150])
    for name, gone in (("a", 150), ("b", 0 if together else 150)):
        assert not pruned[name][:gone].any() and bool(pruned[name][gone:].all())


CAPPED = [
    Method(Magnitude(), Groups(cap=0.5)),
    Method(Magnitude(), Groups(together=False, cap=0.5)),
    Method(Random(3), Groups(cap=0.5)),
    Method(Magnitude(), Groups(Lines(2, 0), together=False, cap=0.5)),
    Method(Magnitude(), Groups(Lines(1, 1), together=True, cap=0.5)),
]


@pytest.mark.parametrize("method", CAPPED, ids=str)
def test_the_cap_works_for_every_criterion_and_group(method: Method) -> None:
    """All that there is room for can be taken, no matrix passes the cap, and no more goes."""
    generator = torch.Generator().manual_seed(0)
    weights = {"a": torch.randn(7, 5, generator=generator), "b": torch.randn(4, 5) * 9}
    masks = Masks.dense(weights)
    room = method.room(masks)
    full = method.prune(weights, masks, room)
    assert [u - r for u, r in zip(method.units(masks), room, strict=True)] == method.units(full)
    assert all(zeros <= 0.5 * full[name].numel() for name, zeros in full.zeros_by_name().items())
    assert method.room(full) == [0] * len(room)
    with pytest.raises(InvariantError, match="leaves too little"):
        method.prune(weights, masks, [r + 1 for r in room])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=SEEDS, density=st.floats(0.2, 0.9), share=st.floats(0, 1), dim=st.integers(0, 1))
def test_zeros_of_uneven_lines_lie_between_what_is_said(
    seed: int, density: float, share: float, dim: int
) -> None:
    """Over unstructured zeros the count depends on the lines that go: both ends are said."""
    generator = torch.Generator().manual_seed(seed)
    weights = {"a": torch.randn(9, 7, generator=generator)}
    masks = Masks({"a": torch.rand(9, 7, generator=generator) < density})
    masks.zero_weights(weights)
    method = StructuredLn(2, dim)
    drops = [round(share * room) for room in method.room(masks)]
    fewest, most = method.zeros(masks, drops)
    zeros = method.prune(weights, masks, drops).zeros
    assert fewest <= zeros <= most
