"""What the built-in sample shows, as the mean and the spread over seeds 0 to 4.

    python scripts/sample_figures.py outputs/sample_figures

Every run is `train.py` in a folder of its own below the given one, each seed with rows and
weights of its own and a round 0 that its three runs share; a finished run is read and not made
again. About 15 minutes.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from pruneloop.data.sample import generate  # noqa: E402

RUNS = {
    "default": (),
    "global": ("rounds=8", "prune.amount=0.4"),
    "random": ("rounds=8", "prune.amount=0.4", "prune=random"),
}


def rounds_of(folder: Path, seed: int, overrides: tuple[str, ...]) -> list[dict[str, float]]:
    """Run, or read what was run, and return the records of its rounds in points."""
    line = [sys.executable, str(ROOT / "train.py"), f"hydra.run.dir={folder}", *overrides]
    subprocess.run(
        [*line, f"seed={seed}", f"data.split_seed={seed}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    keys = ("accuracy", "shock_accuracy", "test_accuracy")
    return [{key: 100 * (json.loads(line)[key] or 0) for key in keys} for line in lines]


def ngrams(facts: Path, seed: int) -> float:
    """Return the test accuracy of character n-grams on a run's training rows."""
    config = json.loads(facts.read_text())["config"]
    train = generate(config["data.train_rows"], seed)
    test = generate(config["data.test_rows"], seed + 1, [text for text, _ in train])
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True)
    features = vectorizer.fit_transform(text for text, _ in train)
    model = LogisticRegression(max_iter=300).fit(features, [label for _, label in train])
    texts, labels = zip(*test, strict=True)
    return 100 * float(model.score(vectorizer.transform(texts), labels))


def show(name: str, values: list[float]) -> None:
    """Print a figure: mean, standard deviation, and every seed's."""
    each = " ".join(f"{value:6.2f}" for value in values)
    print(f"{name:<34} {mean(values):6.2f} ± {stdev(values):4.2f}   {each}", flush=True)


def main() -> None:
    """Make the runs, then print the figures."""
    folder = Path(sys.argv[1]).resolve()
    found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in RUNS}
    for seed in range(5):
        first = folder / f"default-{seed}"
        for name, changed in RUNS.items():
            start = () if name == "default" else (f"start_from={first}",)
            found[name].append(rounds_of(folder / f"{name}-{seed}", seed, (*changed, *start)))
    by_ngrams = [ngrams(folder / f"default-{seed}/run.json", seed) for seed in range(5)]
    dense = [run[0]["test_accuracy"] for run in found["default"]]
    print("accuracy and points, in %; mean ± standard deviation, then seeds 0 to 4")
    show("dense, test", dense)
    show("n-grams, test", by_ngrams)
    show("dense over n-grams", [a - b for a, b in zip(dense, by_ngrams, strict=True)])
    ends = [run[-1]["test_accuracy"] for run in found["default"]]
    show("lost at 67 %, test", [a - b for a, b in zip(dense, ends, strict=True)])
    for number in range(1, 9):
        pairs = [(run[number - 1], run[number]) for run in found["global"]]
        show(f"round {number}: shock", [a["accuracy"] - b["shock_accuracy"] for a, b in pairs])
        show(f"round {number}: won back", [b["accuracy"] - b["shock_accuracy"] for _, b in pairs])
    for number, sparsity in ((4, 87), (8, 98)):
        pairs = list(zip(found["global"], found["random"], strict=True))
        gaps = [a[number]["test_accuracy"] - b[number]["test_accuracy"] for a, b in pairs]
        show(f"global L1 at {sparsity} %, test", [a[number]["test_accuracy"] for a, _ in pairs])
        show(f"random below it at {sparsity} %", gaps)


if __name__ == "__main__":
    main()
