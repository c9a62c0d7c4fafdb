"""What criteria, distillation, rewinding and whole units are worth: runs, tables, pictures.

    python scripts/evidence.py /corpora outputs/evidence nsmc_tiny ynat_tiny ladder_nsmc

Every run is `train.py` in a folder of its own below the second one; a finished run is read and
not made again, and one that was cut off goes on. docs/results.md and its pictures are written
from the folders alone, of all experiments that are finished there. Methods share round 0
where they can. Validation rows choose nothing here, and test rows are measured only.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from pruneloop.deployment.trial import ROWS as MEASURED  # noqa: E402
from pruneloop.records import RoundRecord, RunFolder  # noqa: E402
from pruneloop.report.figures import new_axes, save_png, styled  # noqa: E402
from pruneloop.scores import wilson_interval  # noqa: E402

PAGE = ROOT / "docs" / "results.md"
READ_AT = (2, 3, 5, 7, 9)
AMOUNT, ROUNDS = 0.3, 9


@dataclass(frozen=True)
class Method:
    """A way to prune: its name in the tables, what it changes, and whose round 0 it may take."""

    name: str
    overrides: tuple[str, ...] = ()
    own_round_0: bool = False


METHODS = {
    "l1": Method("global L1"),
    "layer": Method("layer L1", ("prune=layer_l1",)),
    "random": Method("random", ("prune=random",)),
    "taylor": Method("Taylor", ("prune=taylor",)),
    "wanda": Method("Wanda", ("prune=wanda",)),
    "movement": Method("movement", ("prune=movement",), own_round_0=True),
    "l1_distill": Method("L1, distillation", ("distill=logits",)),
    "l1_rewind": Method("L1, weight rewinding", ("rewind=weights",), own_round_0=True),
    "taylor_distill": Method("Taylor, distillation", ("prune=taylor", "distill=logits")),
    "l1_slow": Method("L1, a tenth of the rate", ("finetune.learning_rate={slow}",)),
}


@dataclass(frozen=True)
class Experiment:
    """Data and model; `rate` is the peak of round 0 and of the rounds (Renda et al. 2020)."""

    title: str
    overrides: tuple[str, ...]
    rate: float
    seeds: int


_NSMC = ("data=nsmc", "data.path={data}/nsmc_small", "data.test=ratings_test_5k.txt.gz")
_YNAT = ("data=ynat", "data.path={data}/ynat", "data.train=ynat_train.tsv.gz")
EXPERIMENTS = {
    "nsmc_tiny": Experiment(
        "tiny model, 18,000 NSMC reviews",
        (*_NSMC, "data.train=ratings_train_20k.txt.gz"),
        rate=1.5e-3,
        seeds=3,
    ),
    "ynat_tiny": Experiment(
        "tiny model, 18,000 YNAT headlines",
        (*_YNAT, "data.test=ynat_dev.tsv.gz", "data.max_train_rows=20000"),
        rate=1.5e-3,
        seeds=3,
    ),
    "nsmc_e5": Experiment(
        "pretrained multilingual-e5-small (Korean vocabulary), 1,800 NSMC reviews",
        (
            *(*_NSMC, "data.train=ratings_train_2k.txt.gz", "data.max_test_rows=2000"),
            *("model=pretrained", "model.name={data}/e5_small_ko", "model.max_length=64"),
            *("finetune.dense_epochs=2", "finetune.epochs=1", "finetune.precision=bf16"),
        ),
        rate=1e-4,
        seeds=1,
    ),
}


_CLIMB = ("experiment=smallest", "budget.max_drop=0.01")
LADDERS = {
    "ladder_nsmc": Experiment(
        "4 layers of 128, 18,000 NSMC reviews",
        (
            *(*_CLIMB, *_NSMC, "data.train=ratings_train_20k.txt.gz"),
            *("model.layers=4", "model.hidden=128", "model.intermediate=512"),
        ),
        rate=7e-4,
        seeds=3,
    ),
    "ladder_e5": Experiment(
        "pretrained multilingual-e5-small (Korean vocabulary), 1,800 NSMC reviews",
        (*_CLIMB, *EXPERIMENTS["nsmc_e5"].overrides),
        rate=1e-4,
        seeds=1,
    ),
}


def run(folder: Path, overrides: list[str]) -> None:
    """Run, or go on with, `train.py` in a folder."""
    line = [sys.executable, str(ROOT / "train.py"), f"hydra.run.dir={folder}", *overrides]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)


def make_runs(name: str, data: Path, out: Path) -> None:
    """Make all runs of an experiment that are not finished."""
    experiment = (EXPERIMENTS | LADDERS)[name]
    rates = [f"finetune.{key}learning_rate={experiment.rate:g}" for key in ("", "dense_")]
    base = [*(word.format(data=data) for word in experiment.overrides), *rates]
    if name in LADDERS:
        for seed in range(experiment.seeds):
            run(out / name / str(seed), [*base, f"seed={seed}", f"data.split_seed={seed}"])
            print(f"{name} {seed}: done", flush=True)
        return
    rounds = [f"rounds={ROUNDS}", f"prune.amount={AMOUNT}"]
    for seed in range(experiment.seeds):
        for key, method in METHODS.items():
            changed = [word.format(slow=experiment.rate / 10) for word in method.overrides]
            seeds = [f"seed={seed}", f"data.split_seed={seed}"]
            first = out / name / f"l1-{seed}"
            shared = key != "l1" and not method.own_round_0
            start = [f"start_from={first}"] if shared else []
            run(out / name / f"{key}-{seed}", [*base, *rounds, *changed, *seeds, *start])
            print(f"{name} {key} {seed}: done", flush=True)


def rounds_of(name: str, key: str, out: Path) -> list[list[RoundRecord]]:
    """Return the records of every seed's finished run."""
    folders = sorted((out / name).glob(f"{key}-[0-9]*"))
    return [RunFolder(path).read_rounds() for path in folders if RunFolder(path).is_done()]


def lost(runs: list[list[RoundRecord]], number: int) -> list[float]:
    """Return the points of test accuracy that each run had lost after a round, if it had it.

    A run ends before the round that would take a matrix's last weight.
    """
    return [
        100 * (records[0].test_accuracy - records[number].test_accuracy)
        for records in runs
        if len(records) > number
    ]


def spread(values: list[float]) -> str:
    """Write a mean, with its standard deviation where there are several values."""
    if not values:
        return "-"
    more = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{more}"


def table(name: str, out: Path) -> list[str]:
    """Return an experiment's table: the points lost by each method at each sparsity."""
    plain = rounds_of(name, "l1", out)
    heads = [f"{plain[0][number].sparsity:.0%}" for number in READ_AT]
    lines = [f"| | {' | '.join(heads)} | runs |", "|---|" + "---:|" * (len(READ_AT) + 1)]
    for key, method in METHODS.items():
        runs = rounds_of(name, key, out)
        cells = [of_runs(lost(runs, number), len(runs)) for number in READ_AT]
        lines.append(f"| {method.name} | {' | '.join(cells)} | {len(runs)} |")
    return lines


def of_runs(values: list[float], runs: int) -> str:
    """Write a mean, and how many of the runs it is of where it is not of all."""
    few = f" ({len(values)} of {runs})" if 0 < len(values) < runs else ""
    return spread(values) + few


def both(name: str, keys: tuple[str, str], number: int, out: Path) -> tuple[float, float] | None:
    """Return what two methods lost after a round, over the seeds that both of them have."""
    pairs = zip(*(rounds_of(name, key, out) for key in keys), strict=True)
    reached = [pair for pair in pairs if all(len(records) > number for records in pair)]
    if not reached:
        return None
    one, other = (mean(lost([pair[i] for pair in reached], number)) for i in (0, 1))
    return one, other


def verdicts(name: str, out: Path) -> list[str]:
    """Return what the means say to what was expected of the methods."""

    def said(claim: str, keys: tuple[str, str], numbers: tuple[int, ...], more: float) -> str:
        """Judge whether the first method's loss times `more` is at most the second's."""
        found = [pair for number in numbers if (pair := both(name, keys, number, out))]
        holds = all(one * more <= other for one, other in found)
        figures = ", ".join(f"{one:.1f} against {other:.1f}" for one, other in found)
        missing = len(numbers) - len(found)
        short = f"; not reached at {missing} of {len(numbers)}" if missing else ""
        return f"- {claim}: {'confirmed' if holds else 'refuted'} ({figures} points{short})."

    gap = both(name, ("random", "l1"), 5, out)
    assert gap is not None
    claim = "Random loses at least 3 points to L1 at 83 %"
    return [
        said(
            "Taylor with distillation loses at most half of what L1 alone loses at 92 and 96 %",
            ("taylor_distill", "l1"),
            (7, 9),
            more=2,
        ),
        said("Movement beats L1 from 92 % on", ("movement", "l1"), (7, 9), more=1),
        f"- {claim}: {'confirmed' if gap[0] - gap[1] >= 3 else 'refuted'} "
        f"({gap[0]:.1f} against {gap[1]:.1f} points).",
        "",
        "Each over the seeds that both methods reach.",
    ]


@styled
def draw(name: str, out: Path) -> Path:
    """Draw test accuracy over the kept weights, a line a method, and return the picture."""
    figure, axes = new_axes(8, 4.5, "prunable weights kept (%)", "test accuracy (%)")
    colors = {"l1": "#1f5fa8", "random": "#888888", "taylor_distill": "#d9730d"}
    for key, method in METHODS.items():
        runs = rounds_of(name, key, out)
        count = min(len(records) for records in runs)
        kept = [100 * (1 - runs[0][number].sparsity) for number in range(count)]
        heights = [
            100 * mean(records[number].test_accuracy for records in runs) for number in range(count)
        ]
        strong = key in colors
        axes.plot(
            kept,
            heights,
            label=method.name,
            color=colors.get(key),
            linewidth=2.2 if strong else 1.2,
            marker="o" if strong else None,
            markersize=4,
        )
    axes.set_xscale("log")
    axes.invert_xaxis()
    ticks = [100, 50, 30, 20, 10, 5]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    path = PAGE.with_name(f"results_{name}.png")
    save_png(figure, path)
    return path


def alone(name: str, out: Path) -> str:
    """Say of single runs how well the test rows know an accuracy."""
    if EXPERIMENTS[name].seeds > 1:
        return ""
    facts = RunFolder(out / name / "l1-0").read_facts()
    assert facts is not None
    rows = facts.data.rows["test"]
    low, high = wilson_interval(round(rounds_of(name, "l1", out)[0][0].test_accuracy * rows), rows)
    return f" Its {rows:,} rows know an accuracy to ± {50 * (high - low):.1f} points (95 %)."


def section(name: str, out: Path) -> list[str]:
    """Return an experiment's part of the page."""
    experiment = EXPERIMENTS[name]
    dense = [100 * records[0].test_accuracy for records in rounds_of(name, "l1", out)]
    seeds = f"{len(dense)} seed{'s' if len(dense) > 1 else ''}"
    return [
        f"## {experiment.title[0].upper()}{experiment.title[1:]}",
        "",
        f"Dense {spread(dense)} % on test, {seeds}.{alone(name, out)} Points lost against it:",
        "",
        *table(name, out),
        "",
        *verdicts(name, out),
        "",
        f"![Test accuracy over the kept weights]({draw(name, out).name})",
        "",
    ]


def climbed(name: str, out: Path) -> list[dict[str, Any]]:
    """Return what every seed's finished ladder has found."""
    folders = [RunFolder(path) for path in sorted((out / name).glob("[0-9]*"))]
    return [json.loads((f.path / "ladder.json").read_text()) for f in folders if f.is_done()]


def ladder(name: str, out: Path) -> list[str]:
    """Return a ladder's part of the page: every rung that was tried, those that failed too."""
    found, experiment = climbed(name, out), LADDERS[name]
    tried: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        for attempt in each["tries"]:
            tried.setdefault(attempt["model"], []).append(attempt)
    heads = ("rung", "parameters", "int8 MB", "lost on validation", "within", "kept", "test", "")
    lines = [
        f"## The smallest model within 1 point: {experiment.title}",
        "",
        f"`{' '.join(_CLIMB)}`: each rung fine-tuned with distillation from round 0, and judged as",
        "its int8 ONNX on validation; accuracies in %, losses in points.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" + "|---:" * (len(heads) - 2) + "|---|",
    ]
    for model, tries in tried.items():
        parameters = mean(one["parameters"] for one in tries)
        cells = [
            model,
            f"{parameters:,.0f}",
            f"{mean(one['int8_bytes'] for one in tries) / 1e6:.2f}",
            spread([100 * one["lost"] for one in tries]),
            f"{sum(one['within'] for one in tries)} of {len(tries)}",
            str(sum(one["kept"] for one in tries)),
            with_interval([one["test"] for one in tries], out / name / "0"),
            f"tried by {len(tries)} of {len(found)} seeds" if len(tries) < len(found) else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def with_interval(accuracies: list[float], folder: Path) -> str:
    """Write accuracies of test in %: with their spread, or of a single run with its interval."""
    if len(accuracies) > 1:
        return spread([100 * one for one in accuracies])
    facts = RunFolder(folder / "rungs" / "ffn2").read_facts()
    assert facts is not None
    rows = min(facts.data.rows["test"], MEASURED)
    low, high = wilson_interval(round(accuracies[0] * rows), rows)
    return f"{100 * accuracies[0]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def page(out: Path) -> str:
    """Return docs/results.md, from the experiments whose runs are all there."""
    finished = [
        name
        for name, experiment in EXPERIMENTS.items()
        if all(len(rounds_of(name, key, out)) == experiment.seeds for key in METHODS)
    ]
    head = [
        "# What criteria, distillation and rewinding are worth",
        "",
        "Written by `scripts/evidence.py` from the folders of the runs; nothing is typed by hand.",
        f"Each run prunes {AMOUNT:.0%} of the kept weights of the encoder in {ROUNDS} rounds, with",
        "rounds at the rate of the dense training (Renda et al. 2020) except where said. Read at",
        f"rounds {', '.join(map(str, READ_AT))}; nothing is interpolated. Mean ± standard",
        "deviation over seeds, each with rows and weights of its own; test was measured and chose",
        "nothing. A negative loss is a gain: more rounds are more training, too. A run ends before",
        "the round that would take a matrix's last weight, and has no figure from there on.",
        "",
    ]
    climbs = [n for n, each in LADDERS.items() if len(climbed(n, out)) == each.seeds]
    parts = [*(section(name, out) for name in finished), *(ladder(name, out) for name in climbs)]
    return "\n".join([*head, *(line for part in parts for line in part)])


def main() -> None:
    """Make the runs of the named experiments, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of the corpora")
    parser.add_argument("out", type=Path, help="the folder of the runs")
    parser.add_argument(
        "names", nargs="*", choices=[*EXPERIMENTS, *LADDERS, []], help="what to run"
    )
    given = parser.parse_args()
    for name in given.names:
        make_runs(name, given.data.resolve(), given.out.resolve())
    PAGE.write_text(page(given.out.resolve()), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
