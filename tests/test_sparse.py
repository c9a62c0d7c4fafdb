"""The small file: bit for bit what went in, and smaller where there are zeros."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import small_bert

from pruneloop.errors import InputError
from pruneloop.inspection import zeros_of
from pruneloop.sparse.load_sparse import load_sparse
from pruneloop.sparse.writing import is_sparse, write_sparse

TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool)


@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(TYPES),
    shape=st.sampled_from([(), (1,), (7,), (5, 13), (3, 0), (2, 3, 9)]),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_every_bit_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    kind: torch.dtype,
    shape: tuple[int, ...],
    density: float,
) -> None:
    folder = tmp_path_factory.mktemp("sparse")
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=draw) * 3
    tensor = (values * (torch.rand(shape, generator=draw) < density)).to(kind)
    if tensor.dim() == 2 and tensor.numel() and kind.is_floating_point:
        tensor[0, :4] = torch.tensor([-0.0, torch.nan, torch.inf, -torch.inf])
        tensor = tensor.t()  # not contiguous
    found = load_sparse(str(write_sparse({"a.weight": tensor, "b": tensor.clone()}, folder)))
    assert set(found) == {"a.weight", "b"}
    for name, expected in (("a.weight", tensor), ("b", tensor)):
        assert found[name].dtype == kind and found[name].shape == tensor.shape
        known = expected.contiguous().view(-1).view(torch.uint8)
        assert torch.equal(found[name].view(-1).view(torch.uint8), known)


@pytest.mark.parametrize(("share", "most"), [(0.67, 0.42), (0.9, 0.21)])
def test_it_is_small(share: float, most: float, tmp_path: Path) -> None:
    weight = torch.randn(300, 300)
    weight[torch.rand(300, 300) < share] = 0
    assert write_sparse({"weight": weight}, tmp_path).stat().st_size < most * weight.nbytes
    assert write_sparse({"bias": torch.randn(9)}, tmp_path).stat().st_size < 300


def test_the_loader_beside_it_needs_no_pruneloop(tmp_path: Path) -> None:
    model = small_bert()
    with torch.no_grad():
        model.bert.pooler.dense.weight[:8] = 0
    write_sparse(model.state_dict(), tmp_path)
    torch.save(model.state_dict(), tmp_path / "known.pt")
    program = (
        "import sys, torch; sys.modules['pruneloop'] = None\n"
        "from load_sparse import load_sparse\n"
        "found, known = load_sparse('model.sparse.safetensors'), torch.load('known.pt')\n"
        "assert found.keys() == known.keys()\n"
        "assert all(torch.equal(found[name], known[name]) for name in known)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert len((tmp_path / "load_sparse.py").read_text().splitlines()) <= 25


def test_inspect_reads_it(tmp_path: Path) -> None:
    write_sparse({"a.weight": torch.tensor([[0.0] * 60 + [1.0] * 4])}, tmp_path)
    assert zeros_of(tmp_path) == zeros_of(tmp_path / "model.sparse.safetensors")
    assert zeros_of(tmp_path) == {"a.weight": (60, 64)}


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_truncated_file_is_one_line(cut: int, tmp_path: Path) -> None:
    path = write_sparse({"a.weight": torch.eye(32)}, tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert not is_sparse(path)
    with pytest.raises(InputError, match=r"sparse\.safetensors: cannot be read") as error:
        zeros_of(path)
    assert "\n" not in str(error.value)
