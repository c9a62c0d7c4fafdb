"""What a run sets out to do: how much each round prunes, how it trains, when it is enough."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pruneloop.config import (
    BudgetConfig,
    Config,
    Criterion,
    FinetuneConfig,
    Group,
    PatternPruneConfig,
    PruneConfig,
    RewindConfig,
    StructuredPruneConfig,
    UnitPruneConfig,
    ValidateEvery,
)
from pruneloop.errors import ConfigError
from pruneloop.pruning import (
    Blocks,
    Evidence,
    Groups,
    LayerGroups,
    Lines,
    Masks,
    Method,
    Single,
    UnitGroups,
    UnitMethod,
    criteria,
    drops_by_amount,
    drops_to_target,
)
from pruneloop.pruning.schedule import Drops
from pruneloop.records import RoundRecord
from pruneloop.training import Recipe


@dataclass(frozen=True)
class Plan:
    """All that is decided before anything trains.

    `planned` are the units that each group loses in every round from 1 on, and `zeros` the
    prunable weights that are zero after every round, at least and at most; a budget can
    make both fewer. `method` and `recipe` give a round's own.
    """

    method: Callable[[int], Method | UnitMethod]
    recipe: Callable[[int], Recipe]
    amount: float | None
    planned: Drops
    zeros: Sequence[tuple[int, int]]
    rewind: RewindConfig
    budget: BudgetConfig
    finetune: FinetuneConfig

    @property
    def every_epoch(self) -> bool:
        """Whether validation is measured after every epoch."""
        return self.finetune.validate_every == ValidateEvery.epoch

    def drops(self, number: int, factor: float, masks: Masks) -> list[int]:
        """Return what a round takes out of each group; `factor` is what failed tries left.

        An amount is one of what is still kept; what a schedule has planned is multiplied.
        """
        if self.amount is None:
            return [round(factor * units) for units in self.planned[number - 1]]
        kept = self.method(number).units(masks)
        return drops_by_amount(kept, 1, factor * self.amount)[0]

    def enough(self, number: int, factor: float, masks: Masks) -> bool:
        """Whether a run that stands before a round is done."""
        if number > len(self.planned):
            return True
        if factor == 1:
            return False
        kept = sum(self.method(number).units(masks))
        return sum(self.drops(number, factor, masks)) < self.budget.min_amount * kept

    def is_early(self, number: int, step: int, steps: int) -> bool:
        """Whether rewinding goes back to the weights after this step of a round."""
        if number > 0 or not self.rewind.weights:
            return False
        return step == round(self.rewind.epoch * steps / max(self.recipe(0).epochs, 1))

    @property
    def watches_movement(self) -> bool:
        """Whether the criterion wants to know how training moves the weights."""
        return self.method(1).needs is Evidence.movement

    def accepts(self, dense: RoundRecord, record: RoundRecord) -> bool:
        """Whether a round has lost no more of round 0's validation score than may be lost."""
        if self.budget.max_drop is None:
            return True
        metric = self.budget.metric.name
        lost = float(getattr(dense, metric) - getattr(record, metric))
        return lost <= self.budget.max_drop + 1e-9  # 0.90 - 0.89 is 0.010000000000000009


def make_plan(
    config: Config,
    masks: Masks,
    label_weights: Sequence[float] = (),
    heads: int = 1,
    first_stays: bool = False,
) -> Plan:
    """Plan a run from the masks that it starts with.

    Args:
        label_weights: what each label's rows weigh in the loss; none weigh alike.
        heads: how many attention heads a layer has.
        first_stays: whether layer 0 never goes.

    Raises:
        ConfigError: the target is behind the masks already, the cap or the matrices leave
            too little, or the amount is below the budget's smallest.
    """
    method = method_for(config.prune, config.seed, 1, heads, first_stays)
    planned = _planned(config.prune, config.rounds, method, masks)
    _check_room(config.prune, method, masks, planned)
    _check_amount(config.prune.amount, config.budget)
    so_far = [0] * len(method.units(masks))
    zeros = [method.zeros(masks, so_far)]
    for drops in planned:
        so_far = [a + b for a, b in zip(so_far, drops, strict=True)]
        zeros.append(method.zeros(masks, so_far))
    return Plan(
        method=lambda number: method_for(config.prune, config.seed, number, heads, first_stays),
        recipe=lambda number: recipe_for(config.finetune, number, label_weights),
        amount=config.prune.amount,
        planned=planned,
        zeros=zeros,
        rewind=config.rewind,
        budget=config.budget,
        finetune=config.finetune,
    )


def _check_amount(amount: float | None, budget: BudgetConfig) -> None:
    if budget.max_drop is not None and amount is not None and amount < budget.min_amount:
        raise ConfigError(
            f"prune.amount={amount}: is below budget.min_amount={budget.min_amount}, where a "
            "run with a budget ends; lower that"
        )


_CRITERIA: Mapping[Criterion, criteria.Criterion] = {
    Criterion.magnitude: criteria.Magnitude(),
    Criterion.taylor: criteria.Taylor(),
    Criterion.wanda: criteria.Wanda(),
    Criterion.movement: criteria.Movement(),
}


def method_for(
    config: PruneConfig, seed: int, number: int, heads: int = 1, first_stays: bool = False
) -> Method | UnitMethod:
    """Return the pruning method of a round; only `random` depends on seed and round."""
    by_chance = config.criterion == Criterion.random
    drawn = criteria.Random(seed * 1_000_003 + number)
    criterion = drawn if by_chance else _CRITERIA[config.criterion]
    if isinstance(config, PatternPruneConfig):
        n, m = config.pattern
        return Method(criterion, Blocks(n, m))
    together = config.group == Group["global"]
    if isinstance(config, UnitPruneConfig) and config.prunes_layers:
        ranked = criterion if by_chance else criteria.Absence()
        return UnitMethod(ranked, LayerGroups(first_stays), 2)
    if isinstance(config, UnitPruneConfig):
        # Norms of weights add up as squares, first-order changes of the loss as they are.
        n = 1 if config.criterion == Criterion.taylor else 2
        return UnitMethod(criterion, UnitGroups(tuple(config.units), together, heads), n)
    units: Lines | Single = Single()
    if isinstance(config, StructuredPruneConfig):
        units = Lines(config.n, config.dim)
    return Method(criterion, Groups(units, together, config.max_layer_sparsity))


def recipe_for(config: FinetuneConfig, number: int, label_weights: Sequence[float] = ()) -> Recipe:
    """Return how a round trains: round 0 has an epoch count and a rate of its own."""
    dense = number == 0
    return Recipe(
        epochs=config.dense_epochs if dense else config.epochs,
        learning_rate=config.dense_learning_rate if dense else config.learning_rate,
        accumulation=config.accumulation,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        label_weights=tuple(label_weights),
    )


def _planned(config: PruneConfig, rounds: int, method: Method | UnitMethod, masks: Masks) -> Drops:
    kept, target = method.units(masks), config.target_sparsity
    if isinstance(method.groups, Blocks):
        return method.groups.drops(rounds, masks)
    if target is None:
        assert config.amount is not None
        return drops_by_amount(kept, rounds, config.amount)
    total = method.units(Masks.dense(masks))
    try:
        return drops_to_target(total, kept, rounds, target, config.schedule.name)
    except ValueError as error:
        raise ConfigError(f"prune.target_sparsity={target}: {error}") from None


def _check_room(
    config: PruneConfig, method: Method | UnitMethod, masks: Masks, planned: Drops
) -> None:
    """Refuse a plan that a cap, or the last weights of the matrices, will not allow."""
    for group, room in enumerate(method.room(masks)):
        wanted = sum(drops[group] for drops in planned)
        if wanted <= room:
            continue
        if config.max_layer_sparsity < 1:
            raise ConfigError(
                f"prune.max_layer_sparsity={config.max_layer_sparsity}: leaves room for {room:,} "
                f"of the {wanted:,} that the plan takes; raise it, prune less or fewer rounds"
            )
        raise ConfigError(
            f"prune: the plan leaves nothing of a group of weights ({wanted:,} to go, {room:,} "
            "can); prune less or fewer rounds"
        )
