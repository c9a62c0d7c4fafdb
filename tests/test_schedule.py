"""Schedules: integers only, monotone, and ending exactly where they should."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pruneloop.pruning import drops_by_amount, drops_to_target

SCHEDULES = ["geometric", "cubic", "linear", "oneshot"]


@pytest.mark.parametrize(
    ("kept", "rounds", "amount", "drops"),
    [
        ([100], 3, 0.2, [[20], [16], [13]]),
        ([10], 3, 0.5, [[5], [2], [2]]),  # Python rounds a half to the even number
        ([100, 10], 2, 0.3, [[30, 3], [21, 2]]),
        ([3], 4, 0.1, [[0], [0], [0], [0]]),
        ([100], 0, 0.2, []),
    ],
)
def test_by_amount(kept: list[int], rounds: int, amount: float, drops: list[list[int]]) -> None:
    assert drops_by_amount(kept, rounds, amount) == drops


def test_by_amount_keeps_the_share_of_the_kept() -> None:
    """After k rounds 1-(1-amount)^k is pruned, up to half a weight a round."""
    drops = drops_by_amount([1_000_000], 10, 0.2)
    for k in range(1, 11):
        pruned = sum(drop for (drop,) in drops[:k])
        assert abs(pruned - 1_000_000 * (1 - 0.8**k)) <= k / 2


@pytest.mark.parametrize(
    ("schedule", "total", "kept", "rounds", "target", "drops"),
    [
        ("geometric", 64, 64, 3, 0.875, [32, 16, 8]),
        ("geometric", 64, 32, 2, 0.875, [16, 8]),
        ("linear", 80, 80, 4, 0.5, [10, 10, 10, 10]),
        ("linear", 80, 60, 2, 0.5, [10, 10]),
        # Zhu and Gupta: s_t = s_f + (s_0 - s_f)(1 - t/n)^3, so 185, 280, 315 and 320 of 640.
        ("cubic", 640, 640, 4, 0.5, [185, 95, 35, 5]),
        ("cubic", 640, 320, 2, 0.75, [140, 20]),
        ("oneshot", 100, 100, 3, 0.9, [90, 0, 0]),
        ("oneshot", 100, 40, 2, 0.9, [30, 0]),
        ("geometric", 64, 8, 2, 0.875, [0, 0]),  # there already
    ],
)
def test_to_target(
    schedule: str, total: int, kept: int, rounds: int, target: float, drops: list[int]
) -> None:
    assert drops_to_target([total], [kept], rounds, target, schedule) == [[d] for d in drops]


def test_groups_have_their_own_way_to_the_target() -> None:
    assert drops_to_target([64, 80], [64, 40], 2, 0.75, "geometric") == [[32, 12], [16, 8]]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    total=st.integers(1, 10**8),
    start=st.floats(0, 1),
    target=st.floats(0, 0.999),
    rounds=st.integers(1, 12),
    schedule=st.sampled_from(SCHEDULES),
)
@example(total=30, start=0.0, target=0.45, rounds=3, schedule="geometric")  # 1 - 0.55 < 0.45
@example(total=1, start=1.0, target=0.75, rounds=1, schedule="geometric")  # all pruned already
def test_every_schedule_ends_exactly_on_the_target(
    total: int, start: float, target: float, rounds: int, schedule: str
) -> None:
    goal = round(target * total)
    pruned = int(start * goal)
    drops = [
        drop for (drop,) in drops_to_target([total], [total - pruned], rounds, target, schedule)
    ]
    assert len(drops) == rounds
    assert min(drops) >= 0
    assert pruned + sum(drops) == goal
    if schedule == "oneshot":
        assert drops[0] == goal - pruned


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_start_that_is_sparser_than_the_target(schedule: str) -> None:
    with pytest.raises(ValueError, match="51 of 100 are pruned already, more than 50"):
        drops_to_target([100, 100], [100, 49], 3, 0.5, schedule)


def test_an_unknown_schedule() -> None:
    with pytest.raises(ValueError, match="unknown schedule exponential"):
        drops_to_target([100], [100], 2, 0.5, "exponential")
