"""A bit for each weight, and the values of those that are not 0.

What goes in comes out bit for bit. The file is a safetensors file; the loader that is written
beside it reads it without pruneloop.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SPARSE_FILE = "model.sparse.safetensors"
LOADER = "load_sparse.py"

_FORMAT = "pruneloop.sparse"
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def write_sparse(tensors: Mapping[str, Tensor], folder: Path) -> Path:
    """Write tensors into a folder, with the loader beside them; return the file.

    What a bit for each weight would not make smaller is stored as it is.
    """
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().view(-1)
        kept = flat.view(_BITS[flat.element_size()]) != 0  # minus zero is a value, too
        size = (flat.numel() + 7) // 8 + int(kept.count_nonzero()) * flat.element_size()
        if size < flat.nbytes:
            shapes[name] = list(tensor.shape)
            stored[f"{name}:bits"] = torch.from_numpy(numpy.packbits(kept.numpy()))
            stored[f"{name}:values"] = flat[kept]
        else:
            stored[name] = flat.view(tensor.shape)
    path = folder / SPARSE_FILE
    save_file(stored, path, {"format": _FORMAT, "shapes": json.dumps(shapes)})
    (folder / LOADER).write_bytes(Path(__file__).with_name(LOADER).read_bytes())
    return path


def is_sparse(path: Path) -> bool:
    """Whether a file is one that `write_sparse` has written."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == _FORMAT
    except (OSError, SafetensorError):
        return False
