"""From the prune config to a method and to the number of weights of every round."""

from pruneloop.config import Method, PruneConfig, StructuredPruneConfig
from pruneloop.errors import ConfigError
from pruneloop.pruning import (
    GlobalL1,
    LayerL1,
    Masks,
    RandomGlobal,
    StructuredLn,
    drops_by_amount,
    drops_to_target,
)
from pruneloop.pruning import Method as PruningMethod

Drops = list[list[int]]


def method_for(config: PruneConfig, seed: int, number: int) -> PruningMethod:
    """Return the pruning method of a round; only `random` depends on seed and round."""
    match config.method:
        case Method.global_l1:
            return GlobalL1(config.max_layer_sparsity)
        case Method.layer_l1:
            return LayerL1()
        case Method.random:
            return RandomGlobal(seed * 1_000_003 + number)
        case Method.structured_ln:
            assert isinstance(config, StructuredPruneConfig)
            return StructuredLn(config.n, config.dim)


def plan_drops(config: PruneConfig, rounds: int, masks: Masks) -> Drops:
    """Return how many units each group loses in rounds 1 to `rounds`.

    Raises:
        ConfigError: the target is behind the masks already, or nothing would be left.
    """
    method = method_for(config, 0, 1)
    kept = method.units(masks)
    if config.target_sparsity is None:
        assert config.amount is not None
        drops = drops_by_amount(kept, rounds, config.amount)
    else:
        total = method.units(Masks.dense(masks))
        try:
            drops = drops_to_target(
                total, kept, rounds, config.target_sparsity, config.schedule.name
            )
        except ValueError as error:
            raise ConfigError(f"prune.target_sparsity={config.target_sparsity}: {error}") from None
    for group, units in enumerate(kept):
        if units <= sum(drop[group] for drop in drops):
            raise ConfigError(
                "prune: the plan leaves nothing of a group of weights; prune less or fewer rounds"
            )
    return drops


def planned_zeros(config: PruneConfig, masks: Masks, drops: Drops) -> list[int]:
    """Return the zeros expected after every round, round 0 first."""
    sizes = method_for(config, 0, 1).unit_sizes(masks)
    zeros = [masks.zeros]
    for drop in drops:
        zeros.append(zeros[-1] + sum(n * size for n, size in zip(drop, sizes, strict=True)))
    return zeros
