"""How many weights of a checkpoint are zero: `pruneloop inspect CHECKPOINT`.

Reads any transformers checkpoint, a folder or one file, permanent or with the masks of
`torch.nn.utils.prune` still in it. No model is built and no code of the checkpoint runs.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pruneloop.errors import InputError, reason
from pruneloop.pruning import kind_of
from pruneloop.sparse.load_sparse import load_sparse
from pruneloop.sparse.writing import SPARSE_FILE, is_sparse

_NAMES = ("model.safetensors", "pytorch_model.bin", SPARSE_FILE)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for name in _NAMES:
        index = path / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
        if (path / name).is_file():
            return [path / name]
    raise InputError(f"{path}: holds neither {' nor '.join(_NAMES[:2])}")


def _shards(index: Path) -> list[Path]:
    try:
        names = {*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        outside = [name for name in names if Path(name).name != name or "\\" in name]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{index}: is no index of a checkpoint ({reason(error)})") from error
    if outside:
        raise InputError(f"{index}: names a file outside the folder")
    return [index.parent / name for name in sorted(names)]


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        if is_sparse(path):
            yield from load_sparse(str(path)).items()
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (it is no mapping)
                    yield name, file.get_tensor(name)
        else:
            yield from _flattened(torch.load(path, map_location="cpu", weights_only=True), path)
    except UnpicklingError as error:
        raise InputError(
            f"{path}: damaged, or a pickle of more than weights, which is not read"
        ) from error
    # torch says anything from RuntimeError to KeyError of a damaged file.
    except (OSError, RuntimeError, EOFError, SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error


def _flattened(loaded: object, path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state dict, also of one inside a training checkpoint, by name."""
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path}: holds a {type(loaded).__name__}, and no weights by name")
    for name, value in loaded.items():
        if isinstance(value, Tensor):
            yield str(name), value
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", each) for inner, each in _flattened(value, path))


def zeros_of(path: Path) -> dict[str, tuple[int, int]]:
    """Return (zeros, size) of every matrix of a checkpoint, by parameter name.

    Raises:
        InputError: the path holds no checkpoint, or one that cannot be read.
    """
    found: dict[str, tuple[int, int]] = {}
    masks: dict[str, int] = {}
    for file in _files(path):
        for name, tensor in _tensors(file):
            tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
            zeros = tensor.numel() - int(tensor.count_nonzero())
            if name.endswith("_mask"):
                masks[name.removesuffix("_mask")] = zeros
            elif tensor.dim() == 2 and tensor.numel():
                found[name.removesuffix("_orig")] = (zeros, tensor.numel())
    if not found:
        raise InputError(f"{path}: the checkpoint holds no matrix")
    # Under a mask the original weights are not zero: the mask tells.
    return {name: (masks.get(name, zeros), size) for name, (zeros, size) in found.items()}


def _line(name: str, zeros: int, size: int) -> str:
    return f"{zeros / size:>8.2%}  {zeros:>12,} / {size:<12,}  {name}"


def table(zeros: dict[str, tuple[int, int]]) -> str:
    """Return the zeros per matrix, per kind and over all, as lines."""
    lines = [_line(name, *counts) for name, counts in zeros.items()]
    kinds: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for name, counts in zeros.items():
        kinds[kind_of(name)].append(counts)
    lines.append("")
    for kind, all_counts in kinds.items():
        sums = [sum(column) for column in zip(*all_counts, strict=True)]
        lines.append(_line(f"{kind} ({len(all_counts)})", *sums))
    total = [sum(column) for column in zip(*zeros.values(), strict=True)]
    lines += ["", _line(f"all matrices ({len(zeros)})", *total)]
    return "\n".join(lines)
