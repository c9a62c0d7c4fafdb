"""A classifier as ONNX files, which onnxruntime alone serves: in fp32, and in int8.

The graph's inputs are what the tokenizer feeds, int64, of any number of rows and tokens; its
first output is `logits`.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruneloop.errors import EnvironmentFault, InputError, reason

_OPSET = 20
_MOST_BYTES = 2_000_000_000  # a protobuf message has at most 2 GiB
_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_TYPES = 2
"""A table of so few rows stays as it is: there is nothing to win."""


def check_installed(what: str, zstd: bool = False) -> None:
    """Make sure that what reads and writes ONNX is installed, and zstandard where it is used.

    Raises:
        EnvironmentFault: it is not; says how to install it.
    """
    needed = (*_NEEDED, *(["zstandard"] if zstd else []))
    if missing := [name for name in needed if find_spec(name) is None]:
        raise EnvironmentFault(
            f'{what}: {", ".join(missing)} missing; pip install "pruneloop[deploy]"'
        )


class _Logits(nn.Module):
    """A classifier as a function from its inputs, in their order, to logits."""

    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def write_fp32(model: PreTrainedModel, inputs: Mapping[str, Tensor], target: Path) -> None:
    """Write a classifier in float32.

    Args:
        inputs: a batch of two rows or more, with every input that the graph is to have.

    Raises:
        InputError: the family does not go through torch's exporter, or is too large.
    """
    _check_size(model)
    import onnx

    eager = copy.deepcopy(model).cpu().eval()
    eager.set_attn_implementation("eager")  # the fused one only adds nodes here
    sizes = tuple({0: "batch", 1: "sequence"} for _ in inputs)
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(
                _Logits(eager, list(inputs)).eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=_OPSET,
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes=(sizes,),
                verbose=False,
            )
            assert program is not None
            proto = program.model_proto
    # Whatever the code of a hundred families makes the exporter say.
    except Exception as error:
        raise InputError(
            f"model type {model.config.model_type}: cannot be exported to ONNX ({reason(error)})"
        ) from error
    _write_residuals_as_sums(proto)
    _drop_traces(proto)
    onnx.save(proto, target)


def _check_size(model: PreTrainedModel) -> None:
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    if size > _MOST_BYTES:
        raise InputError(
            f"model type {model.config.model_type}: {size / 1e9:.1f} GB of weights are more than "
            "the 2 GB of an ONNX file"
        )


def write_int8(source: Path, target: Path, full_range: bool = False) -> None:
    """Write an ONNX file in int8: matrices a scale a column, embeddings a scale a row.

    What a matrix is multiplied with is rounded when it is known, over all rows of a batch.

    Args:
        full_range: use all 8 bits of a matrix instead of 7, which processors without
            VNNI can overflow on.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=not full_range,
            weight_type=QuantType.QInt8,  # unsigned ones take twice the time
        )
    proto = onnx.load(target)
    _round_embeddings(proto.graph)
    onnx.save(proto, target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what the exporters warn of: their own future, and torchvision."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_residuals_as_sums(proto: Any) -> None:
    """Keep onnxruntime from joining a residual with its norm, which takes longer than both."""
    normed = {node.input[0] for node in proto.graph.node if node.op_type == "LayerNormalization"}
    for node in proto.graph.node:
        if node.op_type == "Add" and node.output[0] in normed:
            node.op_type = "Sum"


def _drop_traces(proto: Any) -> None:
    """Drop what the exporter says of every node: this machine's paths, more than a small model."""
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, proto.graph, proto):
        del part.metadata_props[:]
    del proto.graph.value_info[:]


def _round_embeddings(graph: Any) -> None:
    """Store the tables that rows are taken from as int8, with a scale for each row."""
    from onnx import TensorProto, helper, numpy_helper

    tables = {table.name: table for table in graph.initializer}
    nodes, done = [], set()
    for node in graph.node:
        nodes.append(node)
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or not _is_table(table, node):
            continue
        name, ids, found = node.input[0], node.input[1], node.output[0]
        if name not in done:
            values = numpy_helper.to_array(table)
            scales = numpy.abs(values).max(1, keepdims=True) / 127
            scales[scales == 0] = 1
            rounded = numpy.rint(values / scales).astype(numpy.int8)
            graph.initializer.append(numpy_helper.from_array(rounded, f"{name}_int8"))
            graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
            done.add(name)
        nodes[-1:] = [
            helper.make_node("Gather", [f"{name}_int8", ids], [f"{found}_int8"], axis=0),
            helper.make_node("Cast", [f"{found}_int8"], [f"{found}_cast"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}_scale", ids], [f"{found}_scale"], axis=0),
            helper.make_node("Mul", [f"{found}_cast", f"{found}_scale"], [found]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    for name in done - used:
        graph.initializer.remove(tables[name])


def _is_table(table: Any, gather: Any) -> bool:
    """Whether whole rows of a float32 matrix are taken from it."""
    axis = next((a.i for a in gather.attribute if a.name == "axis"), 0)
    return table.data_type == 1 and len(table.dims) == 2 and axis == 0 and table.dims[0] > _TYPES
