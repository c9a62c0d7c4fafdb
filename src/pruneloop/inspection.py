"""How many weights of a checkpoint are zero: `pruneloop inspect CHECKPOINT`.

Reads any transformers checkpoint, a folder or one file, permanent or with the masks of
`torch.nn.utils.prune` still in it. No model is built and no code of the checkpoint runs.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pruneloop.errors import InputError, reason
from pruneloop.pruning import kind_of

_NAMES = ("model.safetensors", "pytorch_model.bin")


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for name in _NAMES:
        index = path / f"{name}.index.json"
        if index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return [path / shard for shard in sorted(set(shards))]
        if (path / name).is_file():
            return [path / name]
    raise InputError(f"{path}: holds neither {' nor '.join(_NAMES)}")


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (it is no mapping)
                    yield name, file.get_tensor(name)
        else:
            yield from torch.load(path, map_location="cpu", weights_only=True).items()
    except UnpicklingError as error:
        raise InputError(
            f"{path}: damaged, or a pickle of more than weights, which is not read"
        ) from error
    # torch says RuntimeError or EOFError of a damaged file.
    except (OSError, RuntimeError, EOFError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error


def zeros_of(path: Path) -> dict[str, tuple[int, int]]:
    """Return (zeros, size) of every matrix of a checkpoint, by parameter name.

    Raises:
        InputError: the path holds no checkpoint, or one that cannot be read.
    """
    found: dict[str, tuple[int, int]] = {}
    masks: dict[str, int] = {}
    for file in _files(path):
        for name, tensor in _tensors(file):
            zeros = tensor.numel() - int(tensor.count_nonzero())
            if name.endswith("_mask"):
                masks[name.removesuffix("_mask")] = zeros
            elif tensor.dim() == 2:
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
