"""A sweep's points as its folder has them, side by side: means over seeds, the Pareto front."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from pruneloop.errors import CheckpointError, ConfigError, InputError, Preempted
from pruneloop.records import RoundRecord, RunFacts, RunFolder, is_of_last_command

LEVELS = (0.2, 0.5, 0.67, 0.8, 0.9, 0.95, 0.98)
"""Where settings are compared: at the first round that is at least so sparse."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep; `settings` are the overrides that not all points share."""

    folder: Path
    settings: dict[str, str]
    seed: str | None
    state: str
    exit_code: int
    message: str
    rounds: list[RoundRecord]
    facts: RunFacts | None = None

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.folder.name

    @property
    def data(self) -> str:
        """What tells rows apart: only points with the same test rows can be compared."""
        return self.facts.data.fingerprints.get("test", "") if self.facts else ""

    @property
    def of_last_command(self) -> bool:
        """Whether the last command in the sweep's folder had this point."""
        return is_of_last_command(self.folder)

    @property
    def label(self) -> str:
        """The settings in one line."""
        return ", ".join(f"{key}={value}" for key, value in self.settings.items()) or "all seeds"


@dataclass(frozen=True)
class Mean:
    """Points that differ in their seed only, after one round; `members` are all of them.

    Deviations are those of the sample; None for a single point. `lost` is what is lost of
    round 0's validation accuracy. `pareto` says that no other mean on the same data is both at
    least as sparse and at least as accurate; means that lack some seeds are not compared.
    """

    label: str
    records: Sequence[RoundRecord]
    members: int
    data: str
    dense: float
    pareto: bool = False

    def _mean(self, name: str) -> float:
        return statistics.fmean(getattr(record, name) for record in self.records)

    def _deviation(self, name: str) -> float | None:
        values = [getattr(record, name) for record in self.records]
        return statistics.stdev(values) if len(values) > 1 else None

    round = property(lambda self: self.records[0].round)
    seeds = property(lambda self: len(self.records))
    sparsity = property(lambda self: self._mean("sparsity"))
    model_sparsity = property(lambda self: self._mean("model_sparsity"))
    accuracy = property(lambda self: self._mean("accuracy"))
    accuracy_deviation = property(lambda self: self._deviation("accuracy"))
    test_accuracy = property(lambda self: self._mean("test_accuracy"))
    test_deviation = property(lambda self: self._deviation("test_accuracy"))

    @property
    def lost(self) -> float:
        """The validation accuracy that is lost against round 0, as a fraction."""
        return self.dense - float(self.accuracy)

    @property
    def complete(self) -> bool:
        """Whether every seed got that far."""
        return self.seeds == self.members

    @property
    def counted(self) -> str:
        """How many seeds got that far, and of how many if not all did."""
        return str(self.seeds) if self.complete else f"{self.seeds} of {self.members}"


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder has it."""

    path: Path
    shared: list[str]
    points: list[Point]
    means: dict[str, list[Mean]]

    @property
    def exit_code(self) -> int:
        """The largest exit code of a point of the last command: 0 if all are done."""
        return max((point.exit_code for point in self.points if point.of_last_command), default=0)

    @property
    def unfinished(self) -> list[Point]:
        """The points that failed, were refused, stopped or killed."""
        return [point for point in self.points if point.exit_code]

    @property
    def by_model(self) -> bool:
        """Whether the points prune different matrices: then only the whole model compares."""
        return len({point.rounds[0].prunable for point in self.points if point.rounds}) > 1

    @property
    def last(self) -> list[Mean]:
        """The means after the last rounds that all their seeds have."""
        return [
            max(means, key=lambda mean: (mean.seeds, mean.round)) for means in self.means.values()
        ]

    def sparse(self, mean: Mean) -> float:
        """Return the sparsity that compares: of the whole model where the matrices differ."""
        return float(mean.model_sparsity if self.by_model else mean.sparsity)

    def best(self, drop: float) -> list[Mean]:
        """Return every setting's sparsest round that loses no more; the sparsest setting first."""
        found = []
        for means in self.means.values():
            within = [mean for mean in means if mean.complete and mean.lost <= drop + 1e-9]
            if within:
                found.append(max(within, key=lambda mean: (self.sparse(mean), mean.round)))
        return sorted(found, key=lambda mean: (-self.sparse(mean), mean.lost))

    def at(self, level: float) -> dict[str, Mean | None]:
        """Return each setting's first round that is at least so sparse: nothing flatters it."""
        return {
            label: next((m for m in means if m.complete and self.sparse(m) >= level), None)
            for label, means in self.means.items()
        }

    @property
    def levels(self) -> list[float]:
        """The sparsities of `LEVELS` that some setting reaches."""
        return [level for level in LEVELS if any(self.at(level).values())]

    @property
    def front(self) -> list[Mean]:
        """The Pareto front, sparsest last."""
        found = [mean for means in self.means.values() for mean in means if mean.pareto]
        return sorted(found, key=lambda mean: mean.model_sparsity)


def read_sweep(path: Path) -> Sweep:
    """Read the records of all points in a sweep's folder.

    Raises:
        InputError: there is no point in it.
    """
    folders = [hydra.parent for hydra in sorted(path.glob("*/.hydra"))]
    if not folders:
        ladder = RunFolder(path).rungs.is_dir()
        which = "; it is a ladder: name one of its rungs/, or read ladder.csv" if ladder else ""
        raise InputError(f"{path}: holds no run and no sweep{which}")
    return _sweep(path, folders)


def read_runs(folders: Sequence[Path], path: Path) -> Sweep:
    """Read the records of any runs, as a sweep that is shown in the folder `path`.

    Raises:
        ConfigError: they are one and the same.
        InputError: one of them is no run's folder.
    """
    folders = list({folder.resolve(): folder for folder in folders}.values())
    for folder in folders:
        if not RunFolder(folder).rounds_jsonl.exists():
            raise InputError(f"{folder}: holds no round of a run")
    if len(folders) < 2:
        raise ConfigError(f"{folders[0]}: one run is compared with nothing; name two or more")
    found = _sweep(path, folders)
    said = [(point.label, point.seed) for point in found.points]
    if len(set(said)) == len(said):
        return found
    # Their commands do not tell them apart: their names do, or else their places.
    names = {point.name for point in found.points}
    told = [p.name if len(names) == len(folders) else str(p.folder) for p in found.points]
    named = [replace(p, settings={"run": t}) for p, t in zip(found.points, told, strict=True)]
    return replace(found, points=named, means=_means(named))


def _sweep(path: Path, folders: list[Path]) -> Sweep:
    overrides = [_overrides(RunFolder(folder)) for folder in folders]
    keys = dict.fromkeys(key for each in overrides for key in each if key != "seed")
    overrides = [dict.fromkeys(keys, "(default)") | each for each in overrides]
    shared = set(overrides[0].items()).intersection(*(each.items() for each in overrides))
    points = [
        _read_point(RunFolder(folder), {k: v for k, v in mine.items() if (k, v) not in shared})
        for folder, mine in zip(folders, overrides, strict=True)
    ]
    points.sort(key=_in_order)
    return Sweep(path, sorted(f"{k}={v}" for k, v in shared), points, _means(points))


def _overrides(folder: RunFolder) -> dict[str, str]:
    """Return a point's overrides: those it ran with, or those that Hydra wrote for it."""
    written = folder.path / ".hydra" / "overrides.yaml"
    facts = _facts(folder)
    try:
        lines = facts.overrides if facts else yaml.safe_load(written.read_text("utf-8")) or []
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    pairs = (str(line).lstrip("+").partition("=") for line in lines)
    # Whose round 0 it took changes nothing of a run.
    return {key: value for key, _, value in pairs if key != "start_from"}


def _read_point(folder: RunFolder, settings: dict[str, str]) -> Point:
    seed = settings.pop("seed", None)
    try:
        status, rounds = folder.read_status(), folder.read_rounds()
        if folder.status.exists() and not status:
            raise ValueError(f"{folder.status.name} is not what a run writes")
    except (OSError, ValueError, TypeError) as error:
        code = CheckpointError.exit_code
        return Point(folder.path, settings, seed, "unreadable", code, repr(error), [])
    state = status.get("state", "not started")
    # What is neither done nor says why it ended was killed: the same command goes on.
    code = status.get("exit_code", 0 if state == "done" else Preempted.exit_code)
    message = status.get("message", "")
    if "refused" in status:
        code, message = status["refused"]["exit_code"], status["refused"]["message"]
        state = "refused"
    kept = [record for record in rounds if record.kept]  # what was undone is no result
    return Point(folder.path, settings, seed, state, code, message, kept, _facts(folder))


def _facts(folder: RunFolder) -> RunFacts | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        return folder.read_facts()
    return None


def _in_order(point: Point) -> list[tuple[float, str]]:
    """Return what sorts points by their values, numbers as numbers."""

    def key(value: str) -> tuple[float, str]:
        try:
            return float(value), ""
        except ValueError:
            return float("inf"), value

    return [key(value) for value in (*point.settings.values(), point.seed or "")]


def _means(points: Sequence[Point]) -> dict[str, list[Mean]]:
    groups: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        if point.rounds:
            groups[point.label].append(point)
    means = {label: _means_of(label, members) for label, members in groups.items()}
    compared = [mean for of_one in means.values() for mean in of_one if mean.complete]
    return {
        label: [
            replace(mean, pareto=mean.complete and _undominated(mean, compared)) for mean in of_one
        ]
        for label, of_one in means.items()
    }


def _means_of(label: str, members: Sequence[Point]) -> list[Mean]:
    rounds: dict[int, list[tuple[RoundRecord, RoundRecord]]] = defaultdict(list)
    for point in members:
        for record in point.rounds:
            rounds[record.round].append((record, point.rounds[0]))
    return [
        Mean(
            label=label,
            records=[record for record, _ in pairs],
            members=len(members),
            data=members[0].data,
            dense=statistics.fmean(dense.accuracy for _, dense in pairs),
        )
        for _, pairs in sorted(rounds.items())
    ]


def _undominated(mean: Mean, others: Sequence[Mean]) -> bool:
    here = (mean.model_sparsity, mean.accuracy)
    theirs = [(other.model_sparsity, other.accuracy) for other in others if other.data == mean.data]
    return not any(
        there != here and there[0] >= here[0] and there[1] >= here[1] for there in theirs
    )
