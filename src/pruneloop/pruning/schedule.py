"""How many units to prune in every round: integers, known before any training."""

from collections.abc import Sequence

Drops = list[list[int]]
"""For every round, how many units each group loses."""


def drops_by_amount(kept: Sequence[int], rounds: int, amount: float) -> Drops:
    """Return the drops when each round removes `round(amount * kept)` of each group."""
    left = list(kept)
    drops = []
    for _ in range(rounds):
        drop = [round(amount * units) for units in left]
        left = [units - lost for units, lost in zip(left, drop, strict=True)]
        drops.append(drop)
    return drops


def _share(schedule: str, start: float, target: float, progress: float) -> float:
    """Return the sparsity at `progress` (0 to 1) on the way from `start` to `target`."""
    match schedule:
        case "geometric":  # every round removes the same share of what is left
            return 1 - (1 - start) * ((1 - target) / (1 - start)) ** progress
        case "cubic":  # Zhu and Gupta 2017, "To prune, or not to prune"
            return target + (start - target) * (1 - progress) ** 3
        case "linear":
            return start + (target - start) * progress
        case "oneshot":
            return target
    raise ValueError(f"unknown schedule {schedule}")


def drops_to_target(
    total: Sequence[int], kept: Sequence[int], rounds: int, target: float, schedule: str
) -> Drops:
    """Return the drops that end with exactly `round(target * total)` of each group pruned.

    Args:
        total: units of each group, pruned or not.
        kept: units still kept at the start.
        schedule: `geometric`, `cubic`, `linear` or `oneshot` (all in the first round).

    Raises:
        ValueError: a group is sparser than the target already.
    """
    drops: Drops = [[] for _ in range(rounds)]
    for units, left in zip(total, kept, strict=True):
        pruned, goal = units - left, round(target * units)
        if pruned > goal:
            raise ValueError(f"{pruned} of {units} are pruned already, more than {goal}")
        start = pruned / units
        for index in range(rounds):
            reached = goal
            if pruned < goal and index < rounds - 1:
                share = _share(schedule, start, target, (index + 1) / rounds)
                reached = min(max(round(share * units), pruned), goal)
            drops[index].append(reached - pruned)
            pruned = reached
    return drops
