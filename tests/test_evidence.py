"""What criteria are told of the training rows: against autograd and hooks by hand."""

from collections.abc import Iterator

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from support import small_bert
from torch import Tensor, nn

from pruneloop.evidence import input_norms, moved, saliency
from pruneloop.pruning import prunable_weights
from pruneloop.training import Batch, CrossEntropy


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


LOSS = CrossEntropy()


class TwoLayers(nn.Module):
    """Two linear layers and a cross-entropy, whose gradients a hand can write down."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.dropout = nn.Dropout(0.5)

    def forward(
        self, inputs: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> object:
        hidden = self.first(inputs)
        output = self.second(self.dropout(hidden).mean(dim=1))
        loss = None if labels is None else nn.functional.cross_entropy(output, labels)
        return type("Output", (), {"loss": loss, "logits": output})


def batch(rows: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "inputs": torch.randn(rows, 5, 3, generator=generator),
        "attention_mask": torch.ones(rows, 5, dtype=torch.int64),
        "labels": torch.randint(0, 2, (rows,), generator=generator),
    }


@pytest.fixture
def model() -> TwoLayers:
    torch.manual_seed(0)
    return TwoLayers().train()


def gradients(model: TwoLayers, one: Batch) -> dict[str, Tensor]:
    """Write the gradient of the mean loss down: softmax minus one-hot, and the chain rule."""
    hidden = one["inputs"].mean(dim=1) @ model.first.weight.T  # the mean commutes
    chance = (hidden @ model.second.weight.T).softmax(dim=1)
    error = (chance - nn.functional.one_hot(one["labels"], 2)) / len(chance)
    first = (error @ model.second.weight).T @ one["inputs"].mean(dim=1)
    return {"first.weight": first, "second.weight": error.T @ hidden}


def test_saliency_is_the_sum_over_global_batches_by_hand(model: TwoLayers) -> None:
    weights = dict(model.named_parameters())
    batches = [batch(4, 1), batch(6, 2)]
    found = saliency(model, weights, [[one] for one in batches], Accelerator(cpu=True), int, LOSS)
    for name, weight in weights.items():
        wanted = sum((weight * gradients(model, one)[name]).abs() for one in batches)
        assert torch.allclose(found[name], wanted, rtol=1e-5, atol=1e-8)
    assert all(weight.grad is None for weight in weights.values())


def test_an_accumulated_batch_is_one_gradient_of_all_its_rows(model: TwoLayers) -> None:
    weights = dict(model.named_parameters())
    parts = [batch(4, 1), batch(2, 2)]
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    accelerator = Accelerator(cpu=True)
    found = saliency(model, weights, [parts], accelerator, int, LOSS)
    wanted = saliency(model, weights, [[whole]], accelerator, int, LOSS)
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-5) for name in weights)


def test_movement_is_minus_the_sum_of_w_times_its_gradient(model: TwoLayers) -> None:
    weights = dict(model.named_parameters())
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    wanted = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    model.eval()
    for seed in (1, 2, 3):
        one = batch(4, seed)
        model.zero_grad()
        model(**one).loss.backward()
        moved(weights, sums)
        for name, gradient in gradients(model, one).items():
            wanted[name] -= (weights[name] * gradient).detach()
        with torch.no_grad():
            for weight in weights.values():
                weight -= 0.5 * weight.grad
    for name in weights:
        assert torch.allclose(sums[name], wanted[name], rtol=1e-4, atol=1e-7)
        assert not torch.equal(sums[name], torch.zeros_like(sums[name]))


def test_input_norms_leave_padding_out(model: TwoLayers) -> None:
    """The paper's ||X_j|| over all tokens that are there."""
    one = batch(2, 1)
    one["attention_mask"][0, 3:] = 0
    weights = {"first.weight": model.first.weight}
    found = input_norms(model, weights, [[one], [batch(3, 2)]], Accelerator(cpu=True), int)
    there = [*one["inputs"][one["attention_mask"].bool()], *batch(3, 2)["inputs"].flatten(0, 1)]
    assert found.keys() == {"first.weight"}
    assert torch.allclose(found["first.weight"], torch.stack(there).norm(dim=0)[None], rtol=1e-6)


def test_input_norms_know_every_matrix_of_a_bert() -> None:
    model = small_bert().train()
    weights = prunable_weights(model, ["all_linear", "embeddings"])
    ids = torch.tensor([[2, 5, 5, 7, 3], [2, 9, 3, 0, 0]])
    one = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor([0, 1])}
    found = input_norms(model, weights, [[one]], Accelerator(cpu=True), int)
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        assert (weight * found[name]).shape == weight.shape
    words = found["bert.embeddings.word_embeddings.weight"][:, 0]
    assert {index: round(float(n) ** 2) for index, n in enumerate(words) if n > 0} == {
        2: 2,
        3: 2,
        5: 2,
        7: 1,
        9: 1,
    }
    places = found["bert.embeddings.position_embeddings.weight"][:6, 0]
    assert [round(float(n) ** 2) for n in places] == [2, 2, 2, 1, 1, 0]
    pooled = found["bert.pooler.dense.weight"]
    hidden = model.bert(ids, attention_mask=one["attention_mask"]).last_hidden_state[:, 0]
    assert torch.allclose(pooled, hidden.norm(dim=0)[None], rtol=1e-5)
