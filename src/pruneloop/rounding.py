"""What of a plan comes to nothing: rounds that take no weight, groups that lose no more.

Counts are whole numbers: a small amount of what is kept rounds to 0, and does so ever after.
"""

from collections.abc import Iterator
from itertools import accumulate

from pruneloop.errors import ConfigError, listed
from pruneloop.plan import Plan
from pruneloop.pruning import Masks
from pruneloop.pruning.blocks import Blocks


def check_takes(plan: Plan, masks: Masks) -> str | None:
    """Make sure that every round takes something.

    Returns:
        A warning that names the groups which lose no more from some round on; None without any.

    Raises:
        ConfigError: a round takes nothing; later ones may where a pattern, or a single round,
            says what is taken.
    """
    method, taken = plan.method(1), [sum(drops) for drops in plan.planned]
    if isinstance(method.groups, Blocks):
        return None
    kept = sum(method.units(masks))
    at_once = plan.amount is None and taken[0] > 0 and sum(taken) == taken[0]
    if 0 in taken and not at_once:
        number = taken.index(0) + 1
        left = kept - list(accumulate(taken, initial=0))[number - 1]
        what = "prune.target_sparsity" if plan.amount is None else f"prune.amount={plan.amount}"
        raise ConfigError(
            f"{what}: round {number} would take none of the {left:,} that are left; try "
            + ("fewer rounds" if plan.amount is None else "a larger amount, or fewer rounds")
        )
    stuck = [] if plan.amount is None else list(_stuck(plan, method.groups.names(masks)))
    if not stuck:
        return None
    return (
        f"prune.amount={plan.amount}: rounds to 0 of what {len(stuck)} groups of weights keep, "
        f"which then lose no more: {listed(stuck)}"
    )


def _stuck(plan: Plan, groups: list[list[str]]) -> Iterator[str]:
    """Yield the groups that lose nothing in some round, with the first one."""
    for names, drops in zip(groups, zip(*plan.planned, strict=True), strict=True):
        if 0 in drops:
            yield f"{names[0]} (from round {drops.index(0) + 1})"
