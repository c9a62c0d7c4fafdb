"""Read model.sparse.safetensors: load_sparse(PATH) returns its tensors by name, bit for bit."""

import json

import numpy
import torch
from safetensors import safe_open


def load_sparse(path: str) -> dict[str, torch.Tensor]:
    """Return the tensors; model.load_state_dict takes them."""
    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        shapes = json.loads(file.metadata()["shapes"])
    for name, shape in shapes.items():
        values = stored.pop(f"{name}:values")
        bits = numpy.unpackbits(stored.pop(f"{name}:bits").numpy(), count=int(numpy.prod(shape)))
        stored[name] = torch.zeros(shape, dtype=values.dtype)
        stored[name].view(-1)[torch.from_numpy(bits).bool()] = values
    return stored
