"""Fine-tuning: pruned weights stay zero, as under torch's own pruning, and losses add up."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from support import small_bert
from torch import Tensor, nn
from torch.nn.utils import prune
from transformers import get_linear_schedule_with_warmup

from pruneloop.errors import InvariantError
from pruneloop.pruning import GlobalL1, Masks, prunable_weights
from pruneloop.training import (
    LOOK_EVERY,
    Batch,
    CrossEntropy,
    Distillation,
    FineTuning,
    Progress,
    Recipe,
)
from pruneloop.training.fine_tuning import seed_epoch

NO_CLIP = 1e9


class FixedBatches:
    """The same batches in every epoch; `rows` gives the size of each."""

    def __init__(self, *rows: int) -> None:
        generator = torch.Generator().manual_seed(5)
        self.batches = [
            {
                "input_ids": torch.randint(1, 30, (size, 6), generator=generator),
                "attention_mask": torch.ones(size, 6, dtype=torch.int64),
                "labels": torch.randint(0, 2, (size,), generator=generator),
            }
            for size in rows
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, round_number: int, epoch: int, skip: int = 0) -> Iterator[Batch]:
        return iter(self.batches[skip:])


def recipe(**changes: float) -> Recipe:
    values = {
        "epochs": 1,
        "learning_rate": 1e-3,
        "accumulation": 1,
        "warmup": 0.1,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
    }
    return Recipe(**(values | changes))


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def tiny(dropout: float = 0.1) -> nn.Module:
    shape = {"vocab_size": 30, "num_hidden_layers": 2, "max_position_embeddings": 8}
    dropouts = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
    return small_bert(**shape, **dropouts)


def pruned(model: nn.Module) -> tuple[Masks, dict[str, nn.Parameter]]:
    """Prune half of the encoder's weights."""
    weights = prunable_weights(model)
    dense = Masks.dense(weights)
    masks = GlobalL1().prune(weights, dense, [dense.prunable // 2])
    masks.zero_weights(weights)
    return masks, weights


def training(
    model: nn.Module,
    batches: FixedBatches,
    how: Recipe,
    masks: Masks | None = None,
    accelerator: Accelerator | None = None,
    seed: int = 0,
) -> FineTuning:
    weights = prunable_weights(model)
    accelerator = accelerator or Accelerator(cpu=True)
    masks = masks if masks is not None else Masks.dense(weights)

    def hold() -> None:
        masks.zero_gradients(weights)

    return FineTuning(model, batches, accelerator, hold, how, seed, 1)


def train(*arguments, **options) -> list[Progress]:
    return list(training(*arguments, **options))


def assert_pruned_are_zero(masks: Masks, before: dict[str, Tensor], after: nn.Module) -> None:
    weights = dict(after.named_parameters())
    for name, mask in masks.items():
        assert not weights[name].detach()[~mask].view(torch.int32).any()
        assert not torch.equal(weights[name], before[name]), "nothing was trained"


@pytest.mark.parametrize(
    ("decay", "accumulation", "precision", "clip"),
    [
        (0.0, 1, "no", NO_CLIP),
        (0.1, 1, "no", 0.01),
        (0.1, 4, "no", NO_CLIP),
        (0.1, 1, "bf16", NO_CLIP),
        (0.0, 4, "bf16", 0.01),
    ],
)
def test_pruned_weights_stay_zero(
    decay: float, accumulation: int, precision: str, clip: float
) -> None:
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    model = tiny()
    masks, weights = pruned(model)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    batches = FixedBatches(*[4] * 50 * accumulation)
    how = recipe(
        learning_rate=1e-2, accumulation=accumulation, weight_decay=decay, max_grad_norm=clip
    )
    steps = train(accelerator.prepare(model), batches, how, masks, accelerator)
    assert len(steps) == 50
    assert_pruned_are_zero(masks, before, model)


def test_pruned_weights_stay_zero_under_sgd_with_momentum() -> None:
    model = tiny()
    masks, weights = pruned(model)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for batch in FixedBatches(*[4] * 50).batches:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        masks.zero_gradients(weights)
        optimizer.step()
    assert_pruned_are_zero(masks, before, model)


def test_without_masks_the_zeros_grow_back() -> None:
    """What the masks are for: otherwise the tests above could not fail."""
    model = tiny()
    masks, weights = pruned(model)
    train(model, FixedBatches(4), recipe(warmup=0.0))
    assert Masks.from_zeros(weights).zeros < masks.zeros / 10


def torch_training(
    model: nn.Module, masks: Masks, batches: FixedBatches, how: Recipe, seed: int
) -> None:
    """Train the ordinary way under torch's own pruning, one epoch."""
    names = [name for name, _ in model.named_parameters()]
    for name, mask in masks.items():
        prune.custom_from_mask(model.get_submodule(name.removesuffix(".weight")), "weight", mask)
    owned = dict(model.named_parameters())
    # Torch moves weight_orig behind the bias; a norm's last bit depends on the order.
    ordered = [owned[f"{name}_orig" if name in masks else name] for name in names]
    groups = [
        {"params": [p for p in ordered if p.dim() > 1], "weight_decay": how.weight_decay},
        {"params": [p for p in ordered if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=how.learning_rate, fused=True)
    total = len(batches) // how.accumulation
    schedule = get_linear_schedule_with_warmup(optimizer, int(how.warmup * total), total)
    model.train()
    seed_epoch(seed, 1, 0, 0)
    for start in range(0, len(batches), how.accumulation):
        for batch in batches.batches[start : start + how.accumulation]:
            (model(**batch).loss / how.accumulation).backward()
        if how.max_grad_norm < NO_CLIP:
            nn.utils.clip_grad_norm_(ordered, how.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("clip", [NO_CLIP, 0.05])
def test_training_is_torchs_bit_for_bit(clip: float) -> None:
    """Dropout, decay and accumulation, 20 steps, every parameter."""
    model = tiny()
    masks, _ = pruned(model)
    oracle = deepcopy(model)
    initial = deepcopy(model.state_dict())
    batches = FixedBatches(*[4] * 40)
    how = recipe(accumulation=2, max_grad_norm=clip, learning_rate=1e-2)
    assert len(train(model, batches, how, masks, seed=3)) == 20
    torch_training(oracle, masks, batches, how, seed=3)
    state = oracle.state_dict()
    for name, parameter in model.named_parameters():
        expected = state[name] if name in state else state[f"{name}_orig"] * state[f"{name}_mask"]
        assert torch.equal(parameter, expected), name
        assert not torch.equal(parameter, initial[name]), name


def gradient_of(model: nn.Module, batches: FixedBatches, how: Recipe) -> tuple[Tensor, float]:
    """Train one step; return the classifier's gradient and the loss of the step."""
    seen = []
    model.classifier.weight.register_post_accumulate_grad_hook(
        lambda p: seen.append(p.grad.clone())
    )
    (progress,) = train(model, batches, how)
    return seen[-1], progress.loss


def test_accumulated_batches_weigh_by_rows() -> None:
    uneven = FixedBatches(6, 2)
    whole = FixedBatches(0)
    whole.batches = [
        {key: torch.cat([b[key] for b in uneven.batches]) for key in uneven.batches[0]}
    ]
    model = tiny(dropout=0.0)
    with torch.no_grad():
        each = [float(model(**batch).loss) for batch in uneven.batches]
    gradient, loss = gradient_of(deepcopy(model), uneven, recipe(accumulation=2))
    expected, at_once = gradient_of(deepcopy(model), whole, recipe())
    assert loss == pytest.approx((6 * each[0] + 2 * each[1]) / 8, rel=1e-5)
    assert loss == pytest.approx(at_once, rel=1e-5)
    assert loss != pytest.approx(sum(each) / 2, rel=1e-3)
    torch.testing.assert_close(gradient, expected)


def test_the_reported_loss_is_the_mean_of_the_last_steps() -> None:
    batches, model = FixedBatches(*[4] * (LOOK_EVERY + 2)), tiny(dropout=0.0)
    with torch.no_grad():
        each = [float(model(**batch).loss) for batch in batches.batches]
    still = recipe(learning_rate=0.0)  # nothing moves
    means = [progress.loss for progress in train(model, batches, still)]
    assert means[:2] == pytest.approx([each[0], sum(each[:2]) / 2], rel=1e-5)
    assert means[-1] == pytest.approx(sum(each[2:]) / LOOK_EVERY, rel=1e-5)


def test_a_nan_loss_names_the_step_and_its_learning_rate() -> None:
    model = tiny()
    how = recipe(learning_rate=2e-4, warmup=0.0)
    steps = iter(training(model, FixedBatches(*[4] * 8), how))
    next(steps), next(steps)
    model.classifier.weight.data[0, 0] = float("nan")
    says = r"not finite at step 3 of round 1, learning rate 0\.00015;"  # 6/8 of the peak
    with pytest.raises(InvariantError, match=says) as caught:
        next(steps)
    assert caught.value.exit_code == 6


def test_an_infinite_gradient_is_an_error_though_the_loss_is_finite() -> None:
    model = tiny()
    model.classifier.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(InvariantError, match="not finite at step 1 "):
        train(model, FixedBatches(4), recipe())


def test_a_weight_that_no_batch_reads_is_looked_at_too() -> None:
    model = tiny()
    model.bert.embeddings.word_embeddings.weight.data[-1, 0] = float("inf")
    with pytest.raises(InvariantError, match="not finite at step 1 "):
        train(model, FixedBatches(4), recipe())


def test_weights_are_looked_at_every_so_many_steps_and_before_a_save() -> None:
    """What a save asks must never be left to a later look."""

    def spoilt() -> FineTuning:
        model = tiny()
        model.bert.embeddings.position_embeddings.weight.data[-1, 0] = float("inf")
        return training(model, FixedBatches(*[4] * 60), recipe())

    with pytest.raises(InvariantError, match=f"not finite at step {LOOK_EVERY} "):
        list(spoilt())
    tuning = spoilt()
    next(iter(tuning))
    with pytest.raises(InvariantError, match="not finite at step 1 "):
        tuning.check()


def test_runs_depend_on_their_seed_alone() -> None:
    def run(seed: int) -> tuple[dict[str, Tensor], list[Progress]]:
        model = tiny()
        masks, _ = pruned(model)
        torch.manual_seed(torch.seed())  # whatever was drawn before
        progress = train(model, FixedBatches(*[4] * 6), recipe(epochs=2), masks, seed=seed)
        return model.state_dict(), progress

    (first, seen), (again, seen_again), (other, _) = run(1), run(1), run(2)
    assert seen == seen_again
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_seeds_differ_by_seed_round_epoch_and_process() -> None:
    drawn = set()
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    for key in keys:
        seed_epoch(*key)
        drawn.add(float(torch.rand(())))
    assert len(drawn) == len(keys)
    seed_epoch(*keys[0])
    assert float(torch.rand(())) in drawn


@pytest.mark.parametrize(
    ("batches", "epochs", "accumulation", "steps"),
    [(8, 1, 1, 8), (8, 3, 1, 24), (8, 1, 4, 2), (9, 1, 4, 3), (9, 2, 4, 6), (3, 2, 8, 2)],
)
def test_the_number_of_steps(batches: int, epochs: int, accumulation: int, steps: int) -> None:
    """Accumulation starts anew in every epoch; its last step may be a short one."""
    how = recipe(epochs=epochs, accumulation=accumulation)
    round_one = training(tiny(), FixedBatches(*[1] * batches), how)
    assert (round_one.step, round_one.steps) == (0, steps)
    progress = list(round_one)
    assert [p.step for p in progress] == list(range(1, steps + 1))
    assert {p.steps for p in progress} == {steps}
    assert round_one.step == steps


@pytest.mark.parametrize("stop", [1, 3, 4, 5])
def test_a_saved_state_goes_on_bit_for_bit(stop: int) -> None:
    """Stopped within an epoch, at its end and in the next one; 3 steps an epoch."""
    batches, how = FixedBatches(4, 4, 4, 4, 2), recipe(epochs=2, accumulation=2)
    model = tiny()
    masks, _ = pruned(model)
    first = training(model, batches, how, masks)
    seen = []
    for progress in first:
        seen.append(progress)
        if progress.step == stop:
            copy, state, drawn = deepcopy(model), deepcopy(first.state()), torch.get_rng_state()
    assert len(seen) == 6
    second = training(copy, batches, how, masks)
    second.load_state(state)
    torch.set_rng_state(drawn)
    assert list(second) == seen[stop:]
    assert second.recent_loss == first.recent_loss
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in copy.state_dict().items())


def test_the_schedule_warms_up_and_falls_to_nearly_zero() -> None:
    rates = [p.learning_rate for p in train(tiny(), FixedBatches(*[2] * 10), recipe(warmup=0.2))]
    expected = [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    assert rates == pytest.approx([1e-3 * share for share in expected])


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 7), (0.1, 100), (0.3, 7), (1.0, 5)])
def test_the_schedule_is_that_of_transformers(warmup: float, steps: int) -> None:
    how = recipe(warmup=warmup, learning_rate=5e-5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=5e-5)
    schedule = get_linear_schedule_with_warmup(optimizer, int(warmup * steps), steps)
    for step in range(steps):
        assert how.rate(step, steps) == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        schedule.step()


def test_every_round_starts_a_fresh_schedule() -> None:
    model, batches, how = tiny(), FixedBatches(*[2] * 5), recipe(warmup=0.0)
    first = [p.learning_rate for p in train(model, batches, how)]
    second = [p.learning_rate for p in train(model, batches, how)]
    assert first[0] == second[0] == 1e-3
    assert first[-1] < 1e-3 / 2


def test_every_round_starts_a_fresh_optimiser() -> None:
    """A weight that is pruned after a round carries no momentum into the next one."""
    model, batches = tiny(), FixedBatches(*[4] * 5)
    train(model, batches, recipe())
    masks, weights = pruned(model)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    train(model, batches, recipe(), masks)
    assert_pruned_are_zero(masks, before, model)


def test_biases_and_layer_norms_do_not_decay() -> None:
    """With gradients of zero only the decay moves a weight."""
    model = tiny()
    for parameter in model.parameters():
        parameter.register_hook(torch.zeros_like)
        parameter.data.fill_(1.0)
    train(model, FixedBatches(2), recipe(warmup=0.0, learning_rate=0.1, weight_decay=0.5))
    for name, parameter in model.named_parameters():
        moved = not torch.equal(parameter, torch.ones_like(parameter))
        assert moved == (not name.endswith("bias") and "LayerNorm" not in name), name


# -- what labels weigh --------------------------------------------------------------------


def test_a_rows_loss_counts_as_much_as_its_label_weighs() -> None:
    model, batch = tiny(dropout=0.0), FixedBatches(4).batches[0]
    losses = -model(**batch).logits.log_softmax(1)[range(4), batch["labels"]]
    weights = torch.tensor([0.5, 3.0])[batch["labels"]]
    found = CrossEntropy((0.5, 3.0))(model, batch)
    assert torch.allclose(found, (weights * losses).mean(), atol=1e-6)
    assert torch.allclose(CrossEntropy((1.0, 1.0))(model, batch), model(**batch).loss, atol=1e-6)


def test_a_distilled_rounds_own_part_is_weighed_too() -> None:
    model = tiny(dropout=0.0)
    batch = taught(model, FixedBatches(4).batches[0])
    own, plain = CrossEntropy((0.5, 3.0)), {k: v for k, v in batch.items() if k != "teacher"}
    assert torch.equal(Distillation(0.0, 2.0, own)(model, batch), own(model, plain))


# -- distillation -------------------------------------------------------------------------


def taught(model: nn.Module, batch: Batch, seed: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return batch | {"teacher": torch.randn(len(batch["labels"]), 2, generator=generator)}


@pytest.mark.parametrize(("alpha", "temperature"), [(0.9, 2.0), (1.0, 5.5), (0.3, 1.0)])
def test_distillation_is_the_formula(alpha: float, temperature: float) -> None:
    model = tiny(dropout=0.0)
    batch = taught(model, FixedBatches(4).batches[0])
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    hard = -logits.log_softmax(1)[range(4), batch["labels"]].mean()
    teacher, student = (x.div(temperature).softmax(1) for x in (batch["teacher"], logits))
    soft = (teacher * (teacher.log() - student.log())).sum(1).mean()
    loss = Distillation(alpha, temperature)(model, batch)
    assert torch.allclose(loss, (1 - alpha) * hard + alpha * temperature**2 * soft, atol=1e-6)


def test_distillation_with_alpha_0_is_none_bit_for_bit() -> None:
    found = []
    for objective in (CrossEntropy(), Distillation(0.0, 2.0)):
        model, batches = tiny(dropout=0.0), FixedBatches(4, 6)
        if isinstance(objective, Distillation):
            batches.batches = [taught(model, batch) for batch in batches.batches]
        weights = prunable_weights(model)
        list(
            FineTuning(
                model, batches, Accelerator(cpu=True), lambda: None, recipe(), 0, 1, objective
            )
        )
        found.append({name: weight.detach() for name, weight in weights.items()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_hot_distillation_follows_the_difference_of_the_logits() -> None:
    """For T -> infinity T^2 * KL has the gradient (student - teacher) / labels, both centred."""
    student = torch.randn(5, 3, requires_grad=True)
    teacher = torch.randn(5, 3)
    student.data -= student.data.mean(1, keepdim=True)
    teacher -= teacher.mean(1, keepdim=True)

    def model(**_: Tensor) -> object:
        return type("Output", (), {"logits": student, "loss": student.sum() * 0})

    Distillation(1.0, 1e3)(model, {"teacher": teacher, "labels": None}).backward()
    assert torch.allclose(student.grad * 5 * 3, student.detach() - teacher, atol=2e-3)
