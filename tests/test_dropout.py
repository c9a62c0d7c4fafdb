"""Dropout from 16 bits a number: torch's in distribution, gradient and where it is not meant."""

from pathlib import Path

import pytest
import torch
from support import composed, experiment, read_rounds, small_classifier
from torch import Tensor, nn

from pruneloop.training import dropout
from pruneloop.training.dropout import QuickDropout


def dropped(layer: nn.Module, given: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    with QuickDropout(layer):
        return layer(given)


@pytest.mark.parametrize("share", [0.1, 0.5, 1 / 65536, 0.9])
def test_it_drops_the_share_and_scales_the_rest(share: float) -> None:
    numbers = 1_000_003  # no multiple of the four that one draw makes
    found = dropped(nn.Dropout(share).train(), torch.ones(numbers))
    exact = round(share * 65536) / 65536
    values = found.unique().tolist()
    assert values == [0.0, pytest.approx(1 / (1 - exact), rel=1e-6)]
    expected, spread = exact * numbers, (exact * (1 - exact) * numbers) ** 0.5
    assert abs(int((found == 0).sum()) - expected) < 5 * spread
    # Neighbours come from one draw, and must not go together.
    gone = found[: numbers // 4 * 4].view(-1, 4) == 0
    both = int((gone[:, 0] & gone[:, 1]).sum())
    pairs, together = len(gone), exact * exact
    assert abs(both - pairs * together) < 5 * (pairs * together * (1 - together)) ** 0.5 + 1


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_gradient_is_zero_where_it_dropped_and_scaled_elsewhere(kind: torch.dtype) -> None:
    given = torch.ones(64, 7, dtype=kind, requires_grad=True)
    found = dropped(nn.Dropout(0.25).train(), given)
    found.sum().backward()
    assert given.grad is not None
    assert found.dtype == kind
    assert torch.equal(given.grad, found.detach())


def test_the_seed_alone_says_what_goes() -> None:
    layer, given = nn.Dropout(0.3).train(), torch.ones(999)
    assert torch.equal(dropped(layer, given, 1), dropped(layer, given, 1))
    assert not torch.equal(dropped(layer, given, 1), dropped(layer, given, 2))


@pytest.mark.parametrize("share", [0.0, 1.0, 1e-9])
def test_none_or_all_is_torchs(share: float) -> None:
    layer, given = nn.Dropout(share).train(), torch.randn(50)
    with QuickDropout(layer):
        assert "forward" not in vars(layer)
        assert torch.equal(layer(given), given * (share < 1))


def test_measuring_drops_nothing_and_nothing_stays_behind() -> None:
    model = small_classifier("Bert", hidden_dropout_prob=0.5)
    ids, plain = torch.arange(12).view(1, 12) + 5, set(vars(model.dropout))
    torch.manual_seed(0)
    by_torch = model.train()(ids).logits
    with pytest.raises(ZeroDivisionError), QuickDropout(model):
        torch.manual_seed(0)
        assert not torch.equal(model(ids).logits, by_torch)
        model.eval()
        assert torch.equal(model(ids).logits, model(ids).logits)
        raise ZeroDivisionError
    assert set(vars(model.dropout)) == plain
    torch.manual_seed(0)
    assert torch.equal(model.train()(ids).logits, by_torch)


def test_every_step_of_a_run_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = 0
    real = dropout._drop

    def counted(layer: nn.Dropout, given: Tensor) -> Tensor:
        nonlocal drawn
        drawn += layer.training
        return real(layer, given)

    monkeypatch.setattr(dropout, "_drop", counted)
    words = ("data.train_rows=120", "data.test_rows=40", "model.hidden=16", "rounds=1")
    words += ("model.intermediate=32", "model.dropout=0.1", "device=cpu")
    experiment(composed(*words), tmp_path, [])
    steps = sum(line["steps"] for line in read_rounds(tmp_path))
    assert steps > 0 and drawn == steps * 6  # embeddings, two in each of two layers, classifier
