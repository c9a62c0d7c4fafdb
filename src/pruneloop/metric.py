"""Accuracy and macro-F1, as an `evaluate` metric."""

from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy

from pruneloop.scores import Confusion


class ClassificationScores(evaluate.Metric):
    """Accuracy and macro-F1, as an `evaluate` metric that needs no download."""

    def __init__(self, cache_dir: Path) -> None:
        super().__init__(keep_in_memory=True, cache_dir=str(cache_dir))

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="accuracy and macro-F1",
            citation="",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, *, predictions: Any, references: Any) -> dict[str, float]:
        size = int(max(numpy.max(predictions), numpy.max(references))) + 1
        counted = Confusion.of([str(n) for n in range(size)], references, predictions)
        return {"accuracy": counted.accuracy, "macro_f1": counted.macro_f1}
