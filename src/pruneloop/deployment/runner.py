"""Say the label of texts: python runner.py "TEXT" ... or python runner.py --pair A B.

Needs onnxruntime and tokenizers only, and the files beside it.
"""

import json
import sys
from pathlib import Path

import numpy
from onnxruntime import InferenceSession, SessionOptions
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
MODEL = json.loads((HERE / "deploy.json").read_text(encoding="utf-8"))["model"]
LABELS = json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
TOKENIZER = Tokenizer.from_file(str(HERE / "tokenizer.json"))
OPTIONS = SessionOptions()
OPTIONS.intra_op_num_threads = 1  # as it was measured; a server runs texts side by side
SESSION = InferenceSession(HERE / MODEL, OPTIONS, providers=["CPUExecutionProvider"])


def classify(text: str, pair: str | None = None) -> tuple[str, float]:
    """Return the most probable label of a text, or of a pair of texts, and its probability."""
    read = TOKENIZER.encode(text, pair)
    columns = {
        "input_ids": read.ids,
        "attention_mask": read.attention_mask,
        "token_type_ids": read.type_ids,
    }
    names = [value.name for value in SESSION.get_inputs()]
    logits = SESSION.run(
        ["logits"], {name: numpy.array([columns[name]], numpy.int64) for name in names}
    )[0][0]
    shares = numpy.exp(logits - logits.max())
    best = int(shares.argmax())
    return LABELS[best], float(shares[best] / shares.sum())


if __name__ == "__main__":
    paired = sys.argv[1:2] == ["--pair"]
    texts = sys.argv[2:] if paired else sys.argv[1:]
    for asked in zip(texts[::2], texts[1::2], strict=True) if paired else zip(texts):
        label, share = classify(*asked)
        print(label, f"{share:.4f}", *asked, sep="\t")
