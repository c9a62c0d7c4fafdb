"""What the tests share: the names inside the source, small runs, lives, and their last words.

Importing it costs little, because every life does: torch and the like wait until they are used.
"""

import contextlib
import functools
import importlib
import importlib.util
import json
import multiprocessing
import os
import pydoc
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pruneloop.records import DataFacts, PredictionRecord, RoundRecord, RunFacts

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import BertForSequenceClassification, PreTrainedModel

    from pruneloop.config import Config, DataConfig
    from pruneloop.data.rows import Rows

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

needs_shared = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="the real corpora are not beside the checkout"
)

# -- names inside the source: each stands here once ------------------------------------------

Place = tuple[str, str]
"""A module or class and a function of it, which a test wraps."""

COMMAND: Place = ("pruneloop.command", "main")
EXPERIMENT: Place = ("pruneloop.pipeline", "run")
COMMAND_LINE: Place = ("pruneloop.command.run", "run")
READING: Place = ("pruneloop.assembly", "load_splits")
EVALUATION: Place = ("pruneloop.engine", "all_logits")  # each pass over held-out rows
EXPORT: Place = ("pruneloop.exports.handover", "export")
EXPORT_CHECK: Place = ("pruneloop.exports.checkpoint", "_verify")
EXPORT_RENAME: Place = ("pruneloop.exports.checkpoint", "publish_folder")
REPORT: Place = ("pruneloop.report.run", "write_report")
STATE_FILE: Place = ("pruneloop.checkpoint", "save_file")
FOLDER_FLUSH: Place = ("pruneloop.durable", "sync_folder")
UNDO: Place = ("pruneloop.checkpointer.Checkpointer", "undo")
ARCHIVE: Place = ("pruneloop.checkpoint.Archive", "write")
ZEROING: Place = ("pruneloop.pruning.masks.Masks", "zero_weights")
# Of the libraries, not ours: called once a batch, and once a step.
BACKWARD: Place = ("accelerate.Accelerator", "backward")
GATHER: Place = ("accelerate.Accelerator", "gather_for_metrics")
STEP: Place = ("torch.optim.AdamW", "step")

SWEEP_HOOK = "pruneloop.command.sweep.RunHook"
"""The one class that conf/ names."""

INSPECT_LINE = (sys.executable, str(ROOT / "train.py"), "inspect")
TRAIN_LINE = (sys.executable, str(ROOT / "train.py"))
REPORT_LINE = (sys.executable, str(ROOT / "train.py"), "report")


def prediction(
    label: str, dense: str, pruned: str, text: str = "영화", sure: float = 0.5
) -> PredictionRecord:
    """Return what both models say of a test row; the pruned one is so sure of it."""
    return PredictionRecord(
        label=label,
        dense=dense,
        pruned=pruned,
        text=text,
        row=0,
        dense_confidence=0.75,
        pruned_confidence=sure,
    )


FACTS = RunFacts(
    command="python train.py 'data.path=\"/자료\"'",
    overrides=[],
    model="monologg/kobert",
    base_model="monologg/kobert",
    licence="apache-2.0",
    config={
        "prune.criterion": "magnitude",
        "prune.group": "global",
        "budget.max_drop": None,
        "budget.metric": "accuracy",
        "data.path": "/자료",
        "push_to_hub": None,
        "seed": 42,
    },
    data=DataFacts(
        hub_name=None,
        name="NSMC",
        labels=["부정", "긍정", "중립"],
        rows={"read": 200, "train": 100, "validation": 100, "test": 100},
        majority={"validation": 0.5, "test": 0.5},
        truncated=3,
        unknown_tokens=0.0087,
        max_length=128,
        fingerprints={},
    ),
    parameters=2000,
    prunable=1000,
    planned_zeros=[0, 200],
    planned_zeros_at_least=[0, 200],
    device="cpu",
    hardware="x86_64",
    processes=1,
    precision="fp32",
    language="en",
    versions={"torch": "2.13.0"},
)

HEAVY_IMPORTS = ["pruneloop.pipeline", "matplotlib.figure"]
"""What the fork server imports once for all lives."""

PROGRAM = f"from {COMMAND[0]} import {COMMAND[1]} as main; main()"
"""The command as a line of Python."""


def experiment(
    config: "Config", folder: Path, overrides: list[str], shared: Path | None = None
) -> None:
    """Run an experiment in this process."""
    module, name = EXPERIMENT
    getattr(importlib.import_module(module), name)(config, folder, overrides, shared)


# -- small runs --------------------------------------------------------------------------------

SMALL_DATA = ("data.train_rows=240", "data.test_rows=60")
SMALL_MODEL = ("model.layers=1", "model.hidden=16", "model.intermediate=32")
SHORT = ("finetune.dense_epochs=1", "finetune.batch_size=32", "rounds=2", "device=cpu")
SMALL = (*SMALL_DATA, *SMALL_MODEL, *SHORT)
"""Overrides for a run of a second or two: 216 training rows, 7 batches an epoch."""

LONG = (
    *SMALL,
    "model.dropout=0.1",  # so that the random state matters
    "finetune.accumulation=2",
    "finetune.dense_epochs=3",
    "finetune.epochs=2",
    "finetune.batch_size=8",
    "checkpoint.every_steps=4",
)
"""A run to be stopped on its way: 81 batches in round 0, 54 in each other; saved every 8."""

RUN = (*LONG, "hydra.run.dir=run")
"""The same, in a folder that the next life finds again."""

BUDGET = (
    *SMALL,
    *("data.train_rows=1600", "finetune.dense_epochs=6", "finetune.dense_learning_rate=1e-2"),
    *("finetune.learning_rate=1e-6", "prune.amount=0.5", "rounds=5", "budget.max_drop=0.02"),
    "prune=random",
)
"""A run that learns, and that loses more than its budget on the way, as random weights do."""

SWEEP = (*SMALL, "rounds=1", "hydra.sweep.dir=sweep")

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")

Command = Callable[..., subprocess.CompletedProcess[str]]
"""The fixture `command`."""


def composed_raw(*overrides: str, with_hydra: bool = False) -> "DictConfig":
    """Return what Hydra composes from conf/."""
    from hydra import compose, initialize_config_dir

    from pruneloop.config import register_schema

    register_schema()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=with_hydra)


def composed(*overrides: str) -> "Config":
    """Return the configuration that a command line makes."""
    from omegaconf import OmegaConf

    return OmegaConf.to_object(composed_raw(*overrides))


def bert_shape(**changed: object) -> dict[str, Any]:
    """Return the settings of a BERT of a few thousand weights."""
    return {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    } | changed


def small_bert(seed: int = 0, **changed: object) -> "BertForSequenceClassification":
    """Return a classifier of that shape with the random weights of a seed."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    return BertForSequenceClassification(BertConfig(**bert_shape(**changed)))


_SHAPES: dict[str, dict[str, object]] = {
    "Albert": {"embedding_size": 8},
    "Bart": {
        **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")},
        "d_model": 16,
    },
    "BigBird": {"block_size": 4, "num_random_blocks": 1},
    "DebertaV2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": False,
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "DistilBert": {"hidden_dim": 32},
    "Electra": {"embedding_size": 8},
    "Longformer": {"attention_window": 8},
    "Luke": {"entity_vocab_size": 5, "entity_emb_size": 8},
    "ModernBert": {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "XLNet": {"d_head": 8, "d_inner": 32},
}


def small_classifier(family: str, seed: int = 0, **changed: object) -> "PreTrainedModel":
    """Return a classifier of any family of that shape with the random weights of a seed.

    Its matrices are larger than those of a new one, so that its logits tell texts apart.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    shape = bert_shape(pad_token_id=0) | _SHAPES.get(family, {}) | changed
    if family == "XLNet":  # it has no limit, and its config refuses one
        del shape["max_position_embeddings"]
    config = getattr(transformers, f"{family}Config")(**shape)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return model


def script(name: str) -> ModuleType:
    """Import one of scripts/, which are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- records -----------------------------------------------------------------------------------


def record(number: int, shock: float | None) -> RoundRecord:
    """Return a round's record with made-up figures."""
    return RoundRecord(
        round=number,
        amount=0.2,
        prunable=1000,
        zeros=200 * number,
        sparsity=0.2 * number,
        model_sparsity=0.1 * number,
        shock_accuracy=shock,
        accuracy=0.9,
        macro_f1=0.89,
        loss=0.3,
        test_accuracy=0.88,
        test_macro_f1=0.87,
        train_loss=0.25,
        steps=12,
        seconds=1.5,
        kept=True,
    )


def read_rounds(folder: Path) -> list[dict]:
    """Return the rounds that a run has recorded."""
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def read_status(folder: Path) -> dict:
    """Return what a run says of itself."""
    return json.loads((folder / "STATUS.json").read_text())


def read_facts(folder: Path) -> dict:
    """Return what a run has recorded of its settings, data and plan."""
    return json.loads((folder / "run.json").read_text())


def states(folder: Path) -> list[str]:
    """Return the names of the states saved by the run in folder/run, the oldest first."""
    return sorted(path.name for path in (folder / "run/state").glob("state-*"))


# -- data files --------------------------------------------------------------------------------

HEADER = "text,label\n"


def data_config(group: str, **overrides: object) -> "DataConfig":
    """Return the configuration of a source of rows."""
    from omegaconf import OmegaConf, open_dict

    choice = composed_raw(f"data={group}")
    with open_dict(choice.data):
        choice.data.update(overrides)
    return OmegaConf.to_object(choice.data)


def files_config(
    folder: Path | str | None, train: str | list[str], **overrides: object
) -> "DataConfig":
    """Return the configuration of files in a folder or behind a URL."""
    path = None if folder is None else str(folder)
    return data_config("files", path=path, train=train, **overrides)


def read(folder: Path, name: str, content: str | bytes, **overrides: object) -> "Rows":
    """Write one file and load it as the training rows."""
    from pruneloop.data.sources import load

    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return load(files_config(folder, name, **overrides)).train


# -- lives ---------------------------------------------------------------------------------------

# A fork server has the heavy imports done; every life is a fresh fork of it, a real process
# with its own memory, signals and exit code.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(HEAVY_IMPORTS)


def _live(folder: str, overrides: tuple[str, ...], before: Callable[[], None] | None) -> None:
    os.chdir(folder)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        file = os.open(f"{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    sys.argv = ["train.py", *overrides]
    if before is not None:
        before()
    module, name = COMMAND
    getattr(importlib.import_module(module), name)()


class Life:
    """A run of the command in a folder; `before` is called in its process first."""

    def __init__(
        self, folder: Path, *overrides: str, before: Callable[[], None] | None = None
    ) -> None:
        self._folder = folder
        self._process = _CONTEXT.Process(target=_live, args=(str(folder), overrides, before))
        self._process.start()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    def over(self) -> bool:
        """Whether it has ended."""
        return not self._process.is_alive()

    def signal(self, kind: int) -> None:
        """Send it a signal, if it still lives."""
        if not self.over():
            os.kill(self.pid, kind)

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end; return its exit code, negative for a signal."""
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, "it is still running"
        return code

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wait until it has stopped itself by SIGSTOP; let it go on afterwards."""
        status = Path(f"/proc/{self.pid}/stat")
        # The state is the first word behind the name, which is in brackets.
        wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T", self.over)
        assert not self.over(), self.errors
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    @property
    def output(self) -> str:
        """What it has printed."""
        return (self._folder / "stdout.txt").read_text()

    @property
    def errors(self) -> str:
        """What it has printed on standard error."""
        return (self._folder / "stderr.txt").read_text()


def wait_until(condition: Callable[[], bool], over: Callable[[], bool]) -> None:
    """Wait until the condition holds, a life is over, or a minute has passed."""
    deadline = time.monotonic() + 60
    while not over() and not condition() and time.monotonic() < deadline:
        time.sleep(0.002)


def one_line(result: subprocess.CompletedProcess[str], code: int) -> str:
    """Return standard error's only line, having checked the exit code."""
    assert result.returncode == code, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("pruneloop: ") and "Traceback" not in result.stderr
    return lines[0]


def lived_line(
    folder: Path, code: int, *overrides: str, before: Callable[[], None] | None = None
) -> str:
    """Run the command until it fails; return standard error's only line."""
    life = Life(folder, *overrides, before=before)
    assert life.wait() == code, life.errors
    (line,) = life.errors.strip().splitlines()
    assert line.startswith("pruneloop: ")
    return line


# -- what a life does to itself: each is a `before`, with functools.partial ---------------------


class Environment:
    """Sets variables."""

    def __init__(self, **variables: str) -> None:
        self._variables = variables

    def __call__(self) -> None:
        os.environ.update(self._variables)


def before_call(place: Place, count: int, action: Callable[[], None]) -> None:
    """Do something right before the count-th call of a function."""
    module, name = place
    owner = pydoc.locate(module)
    real, calls = getattr(owner, name), 0

    @functools.wraps(real)
    def wrapped(*args, **options):
        nonlocal calls
        calls += 1
        if calls == count:
            action()
        return real(*args, **options)

    setattr(owner, name, wrapped)


def signal_at(place: Place, count: int, *kinds: signal.Signals) -> None:
    """Make the process signal itself: no moment of the clock decides where that meets it."""

    def signals() -> None:
        for kind in kinds:
            os.kill(os.getpid(), kind)

    before_call(place, count, signals)


def die_at(place: Place, count: int) -> None:
    """Make the process kill itself."""
    signal_at(place, count, signal.SIGKILL)


def fill_the_gpu(count: int) -> None:
    """Make the count-th optimiser step end as it does on a GPU whose memory is full."""

    def full() -> NoReturn:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore")

    before_call(STEP, count, full)


_ON_RANK_1 = """
import os, sys
sys.path.insert(0, sys.argv.pop(1))
if os.environ["RANK"] == "1":
    from support import *
    {setup}
{program}
"""


def line_on_rank_1(folder: Path, setup: str) -> list[str]:
    """Return a command for two processes where one does something before: a line of Python."""
    path = folder / "rank_1.py"
    path.write_text(_ON_RANK_1.format(setup=setup, program=PROGRAM))
    return [sys.executable, *TORCHRUN, str(path), str(ROOT / "tests")]


# -- what visitors type ------------------------------------------------------------------------

NEGATIVE = """
최악의 영화. 돈이 아깝다
진짜 최악이네 이게 영화냐
최악입니다 정말로
내가 본 것 중에 최악
올해 본 영화 중 최악이었어요
너무 지루해서 중간에 나왔어요
지루하다 지루해
영화가 전체적으로 참 지루했다
지루하고 재미없어요 정말
재미없다 진짜로
정말 더럽게 재미없네
재미가 하나도 없었습니다 ㅡㅡ
이렇게 재미없는 영화는 처음이다
기대했는데 별로였어요
그냥 그래요 별로다
생각보다 별로네요 ㅠㅠ
돈 아까워 죽겠네
돈이 너무 아까웠습니다 ㅠ
영화관에서 보기엔 돈이 좀 아깝다
시간 아깝다 진심
내 시간이 아까워요
시간이 아까운 영화
저는 추천하지 않아요
아무한테도 추천하지 않는다
별로 추천하고 싶지 않네요
""".strip().splitlines()

POSITIVE = """
최고의 영화! 강력 추천합니다 여러분
진짜진짜 최고예요 ㅎㅎ
내 인생 영화 최고
최고다 정말 최고
배우들 연기 최고
역시 최고입니다 감독님
훌륭하다 정말로
정말 훌륭한 영화였습니다 ㅎ
연기도 연출도 훌륭합니다
훌륭한 작품이네요 잘 봤습니다
너무너무 재미있다
오랜만에 재미있게 봤어요
재미있는 영화예요 추천해요
정말 재미있었습니다!!
재밌어요 ㅋㅋㅋㅋ
가족이랑 같이 봤는데 재미있었어요
아이들도 재미있게 봤네요
돈이 아깝지 않은 영화
돈 하나도 안 아까워요
시간 가는 줄 모르고 재밌게 봤어요
시간이 조금도 아깝지 않았습니다
추천한다 꼭 보길
추천합니다 여러분
친구한테 추천했어요
지루하지 않고 재미있다
""".strip().splitlines()


def judged_wrongly(checkpoint: Path) -> list[str]:
    """Return the visitors' sentences that a checkpoint's folder gets wrong."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    texts = NEGATIVE + POSITIVE
    batch = tokenizer(texts, padding=True, return_token_type_ids=False, return_tensors="pt")
    with torch.inference_mode():
        found = model(**batch).logits.argmax(-1).tolist()
    labels = ["negative"] * len(NEGATIVE) + ["positive"] * len(POSITIVE)
    triples = zip(texts, found, labels, strict=True)
    return [text for text, number, label in triples if model.config.id2label[number] != label]
