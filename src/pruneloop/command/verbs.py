"""Commands besides training: `pruneloop VERB ...`, each a function of its arguments."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pruneloop import __version__
from pruneloop.command.loading import loading
from pruneloop.command.output import say
from pruneloop.durable import saving
from pruneloop.errors import ConfigError, EnvironmentFault
from pruneloop.launcher import program
from pruneloop.locating import find_checkpoint
from pruneloop.records import RunFolder, Text


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, as everywhere."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def report(arguments: Sequence[str]) -> None:
    """Make the page of a run, or of a sweep, again, and say where it is."""
    parser = _Parser("pruneloop report", description=report.__doc__)
    parser.add_argument("folder", type=Path, help="the folder of a run, or of a sweep")
    parser.add_argument("--language", choices=("en", "ko"), help="[that of the run]")
    given = parser.parse_args(arguments)
    folder = RunFolder(given.folder)
    from pruneloop.report.points import read_sweep
    from pruneloop.report.run import write_report
    from pruneloop.report.summary import summary
    from pruneloop.report.sweep import write_sweep

    if folder.rounds_jsonl.exists():
        write_report(folder, given.language)
        say(summary(folder, program()))
    else:
        say([write_sweep(read_sweep(folder.path), language=given.language)])


def compare(arguments: Sequence[str]) -> None:
    """Draw runs together: which of them is the sparsest for how much accuracy."""
    parser = _parser("compare", compare.__doc__, _COMPARE)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the folders of runs")
    parser.add_argument(
        "--out", type=Path, default=Path("compare"), help="the folder to write into [compare]"
    )
    given = parser.parse_args(arguments)
    from pruneloop.report.points import read_runs
    from pruneloop.report.sweep import write_sweep

    found = read_runs(given.runs, given.out)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"--out {given.out}: cannot be made ({error.strerror})") from error
    with saving(given.out, 0):
        say([write_sweep(found, "compare")])


def inspect(arguments: Sequence[str]) -> None:
    """Count the zeros of any transformers checkpoint, permanent or with torch's masks."""
    parser = _Parser("pruneloop inspect", description=inspect.__doc__)
    parser.add_argument("checkpoint", type=Path, help="a folder, or a .safetensors or .bin file")
    checkpoint = parser.parse_args(arguments).checkpoint
    from pruneloop.inspection import table, zeros_of

    say([table(zeros_of(checkpoint))])


_PREDICT = """
  pruneloop predict outputs/DATE/TIME "재미있다" "돈이 아깝다"
  pruneloop predict outputs/DATE/TIME --file reviews.csv --text review --out predictions.csv
  pruneloop predict outputs/DATE/TIME --pair "비가 온다" "날이 맑다"
  cat lines.txt | pruneloop predict outputs/DATE/TIME --json
"""

_EVALUATE = """
  pruneloop evaluate outputs/DATE/TIME
  pruneloop evaluate outputs/DATE/TIME --split validation --json
  pruneloop evaluate outputs/DATE/TIME data.test=other.csv
  pruneloop evaluate CHECKPOINT data=files data.test=test.csv data.text=review
  pruneloop evaluate CHECKPOINT data=nsmc data.path=/corpora/nsmc
"""

_COMPARE = """
  pruneloop compare outputs/DATE/TIME outputs/DATE/TIME
  pruneloop compare outputs/2026-11-25/* --out compare
"""

_DEPLOY = """
  pruneloop deploy outputs/DATE/TIME
  pruneloop deploy outputs/DATE/TIME --max-drop 0.005 --sparse-file --zstd
"""


def predict(arguments: Sequence[str]) -> None:
    """Say the label of every text, with its probability."""
    parser = _predict_parser()
    given = parser.parse_intermixed_args(arguments)
    if given.text is not None and given.file is None:
        parser.error("--text: names a column of --file, which is not given")
    if given.pair and given.file is not None:
        parser.error("--pair: is for sentences; of a file, name two columns as --text A,B")
    if given.json and given.out is not None:
        parser.error("--json: is about lines, and --out writes a csv; give one of the two")
    checkpoint = find_checkpoint(given.folder)
    from pruneloop.command import predict as work

    if given.out is not None:
        work.check_writable(given.out, given.file)
    if given.file is not None:
        texts: Sequence[Text] = work.read_file(given.file, given.text, given.sentence)
    else:
        sentences: Sequence[str] = given.sentence or work.read_lines()
        texts = work.in_pairs(sentences) if given.pair else sentences
    source = given.file or ("the command line" if given.sentence else "standard input")
    found = work.predict(checkpoint, texts, source)
    if given.out is not None:
        say([work.write_csv(found, given.out)])
    else:
        say(found.json_lines() if given.json else found.lines(), given.json)


def _predict_parser() -> _Parser:
    parser = _parser("predict", predict.__doc__, _PREDICT)
    _add_folder(parser)
    parser.add_argument(
        "sentence",
        nargs="*",
        default=[],
        help="a text in quotes; without any and without --file, the lines of standard input. "
        "With --file: how to read it, such as data.quoting=none. Write -- before a text that "
        "begins with a dash",
    )
    parser.add_argument("--file", help="read texts from a csv, tsv, json or parquet file")
    parser.add_argument(
        "--text", metavar="COLUMN", help="the column of the texts [text]; A,B for those of pairs"
    )
    parser.add_argument(
        "--pair", action="store_true", help="the sentences are pairs: two by two, in order"
    )
    parser.add_argument("--out", type=Path, metavar="CSV", help="write a csv, and print no lines")
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object a text, with all probabilities"
    )
    return parser


def evaluate(arguments: Sequence[str]) -> None:
    """Measure a checkpoint on labelled rows: accuracy, macro-F1, and what it takes for what."""
    parser = _parser("evaluate", evaluate.__doc__, _EVALUATE)
    _add_folder(parser)
    parser.add_argument(
        "words",
        nargs="*",
        default=[],
        metavar="data.KEY=VALUE",
        help="the data, in the words of training; without data=..., that of the run",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation", "train"),
        default="test",
        help="which rows, divided as in training [test]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_intermixed_args(arguments)
    find_checkpoint(given.folder)  # which takes no time, before what does
    with loading():
        from pruneloop.command.evaluate import evaluate as measured

    found = measured(given.folder, given.words, given.split)
    text = json.dumps(found.facts(), ensure_ascii=False) if given.json else found.table()
    say([text], given.json)


def deploy(arguments: Sequence[str]) -> None:
    """Write a run's checkpoint for serving without torch, and measure what it gains and costs."""
    parser = _parser("deploy", deploy.__doc__, _DEPLOY)
    parser.add_argument("folder", type=Path, help="the folder of a run")
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="the validation accuracy that int8 may lose; else float32 is served [0.01]",
    )
    parser.add_argument(
        "--full-range",
        action="store_true",
        help="use 8 bits of a weight instead of 7: for processors with VNNI only",
    )
    parser.add_argument(
        "--sparse-file", action="store_true", help="write the weights without their zeros, too"
    )
    parser.add_argument("--zstd", action="store_true", help="write the int8 file compressed, too")
    given = parser.parse_args(arguments)
    if not 0 <= given.max_drop < 1:
        parser.error(f"--max-drop {given.max_drop}: must be from 0 to below 1, such as 0.01")
    find_checkpoint(given.folder)
    from pruneloop.exports.onnx_files import check_installed

    check_installed("pruneloop deploy", given.zstd)
    from pruneloop.command.deploy import deploy_run
    from pruneloop.deployment.making import Wish

    wish = Wish(given.max_drop, given.full_range, given.sparse_file, given.zstd)
    say(deploy_run(given.folder, wish))


def _parser(verb: str, description: str | None, examples: str) -> _Parser:
    return _Parser(
        f"pruneloop {verb}",
        description=description,
        epilog=f"examples:{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_folder(parser: _Parser) -> None:
    parser.add_argument(
        "folder",
        type=Path,
        help="the folder of a run, its deploy/, or any transformers checkpoint of a classifier",
    )


def show_help(arguments: Sequence[str] = ()) -> None:
    """Print every key with its meaning, or those of one group: `pruneloop help data`."""
    from pruneloop.command.help import group_help, whole_help

    if len(arguments) > 1:
        raise ConfigError(f"help {' '.join(arguments)}: names more than one group")
    say([group_help(arguments[0]) if arguments else whole_help()])


def show_version(_: Sequence[str] = ()) -> None:
    """Print this package's version."""
    say([f"pruneloop {__version__}"])


VERBS: dict[str, Callable[[Sequence[str]], None]] = {
    "predict": predict,
    "evaluate": evaluate,
    "deploy": deploy,
    "report": report,
    "compare": compare,
    "inspect": inspect,
    "help": show_help,
}
"""What may stand in the place of the first KEY=VALUE."""
