"""A classifier as ONNX: the same logits in fp32, about the same in int8, and what is in it."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from support import small_classifier
from torch import Tensor
from transformers import PreTrainedModel

from pruneloop.errors import EnvironmentFault, InputError
from pruneloop.exports import onnx_files
from pruneloop.exports.onnx_files import check_installed, write_fp32, write_int8
from pruneloop.shrinking import shrink

FAMILIES = [
    *("Bert", "Roberta", "XLMRoberta", "Electra", "DistilBert", "Albert", "DebertaV2"),
    "ModernBert",
]


def batch(rows: int, tokens: int, types: bool = False) -> dict[str, Tensor]:
    ids = torch.arange(rows * tokens).view(rows, tokens) * 7 % 40 + 5
    mask = torch.ones_like(ids)
    mask[0, tokens // 2 + 1 :] = 0
    found = {"input_ids": ids, "attention_mask": mask}
    return found | ({"token_type_ids": ids % 2} if types else {})


def asked(path: Path, inputs: dict[str, Tensor]) -> Tensor:
    from onnxruntime import InferenceSession

    feeds = {name: value.numpy() for name, value in inputs.items()}
    session = InferenceSession(path)
    assert {x.name for x in session.get_inputs()} == set(inputs)
    return torch.tensor(session.run(["logits"], feeds)[0])


def expected(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        return model(**inputs).logits


def half_dead(family: str) -> PreTrainedModel:
    """Return a model that loses half its neurons and a head a layer, other ones in each."""
    window = {"local_attention": 8} if family == "ModernBert" else {}
    model = small_classifier(family, num_hidden_layers=2, **window).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("attention.output.dense.weight", "out_lin.weight", "attn.Wo.weight")):
                parameter[:, 8:] = 0
            if parameter.shape == (16, 32):
                parameter[:, 0 if ".0." in name else 8 :: 2] = 0
    return model


@pytest.mark.more
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_the_same_logits_for_any_batch(family: str, tmp_path: Path) -> None:
    model = half_dead(family)
    attention = model.config._attn_implementation
    smaller = shrink(model, uniform=False, heads=True)
    assert smaller.neurons > 0
    types = family == "Bert"
    write_fp32(smaller.model, batch(2, 5, types), tmp_path / "model.onnx")
    write_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    for rows, tokens in ((2, 5), (1, 1), (1, 13), (5, 40)):
        inputs = batch(rows, tokens, types)
        logits = expected(model, inputs)
        assert torch.allclose(asked(tmp_path / "model.onnx", inputs), logits, rtol=1e-5, atol=1e-5)
        off = (asked(tmp_path / "int8.onnx", inputs) - logits).abs().max()
        assert 0 < off < 0.05 * logits.abs().max().clamp(min=1)
    assert model.config._attn_implementation == attention  # the model itself is left alone


@pytest.mark.more
def test_the_graph_is_what_onnxruntime_is_fast_with(tmp_path: Path) -> None:
    import onnx

    model = small_classifier("Bert", num_hidden_layers=2).eval()
    write_fp32(model, batch(2, 5), tmp_path / "model.onnx")
    for full_range, largest in ((False, 64), (True, 127)):
        write_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", full_range)
        graph = onnx.load(tmp_path / "int8.onnx").graph
        tables = {table.name: onnx.numpy_helper.to_array(table) for table in graph.initializer}
        matrices = [t for name, t in tables.items() if name.endswith("_quantized")]
        assert len(matrices) == 14 and {str(t.dtype) for t in matrices} == {"int8"}
        assert max(abs(t.astype(int)).max() for t in matrices) == largest
        words = next(t for n, t in tables.items() if n.endswith("word_embeddings.weight_int8"))
        assert words.shape == (50, 16) and words.dtype == "int8"
        assert not [t for t in tables.values() if t.dtype == "float32" and t.shape == (50, 16)]
    ops = Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    assert ops["Sum"] == ops["LayerNormalization"] == 5
    proto = onnx.load(tmp_path / "model.onnx")
    assert [imported.version for imported in proto.opset_import if not imported.domain] == [20]
    assert [path.name for path in tmp_path.glob("*.data")] == []  # no external data


@pytest.mark.more
def test_what_cannot_be_exported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_classifier("Bert")

    def forward(**inputs: Tensor) -> None:
        raise ValueError("no\nsuch thing")

    monkeypatch.setattr(type(model), "forward", lambda self, **inputs: forward())
    with pytest.raises(InputError, match="model type bert: cannot be exported to ONNX"):
        write_fp32(model, batch(2, 5), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_that_no_onnx_file_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "_MOST_BYTES", 1000)
    with pytest.raises(InputError, match="GB of weights are more than the 2 GB"):
        write_fp32(small_classifier("Bert"), batch(2, 5), tmp_path / "model.onnx")


def test_a_missing_extra_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(EnvironmentFault, match=r'onnx missing; pip install "pruneloop\[deploy\]"'):
        check_installed("pruneloop deploy")
