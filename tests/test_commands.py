"""Command lines of every kind: refused in one line with exit 2, or a configuration that holds."""

import copy
import re
from collections.abc import Sequence
from enum import EnumMeta

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict
from support import composed_raw

from pruneloop import __version__
from pruneloop.command.choices import GROUPS
from pruneloop.command.completion import complete
from pruneloop.command.composition import explain_composition, to_config
from pruneloop.command.explain import Errors
from pruneloop.command.help import group_help, whole_help
from pruneloop.command.run import run
from pruneloop.command.words import checked
from pruneloop.config import known_fields, known_keys
from pruneloop.errors import ConfigError, PruneloopError

VALUES = (
    *("nan", "-1", "0", "1e9", "1" + "0" * 19, '""', "null", "[]", "{}", "true", "text"),
    *("${oc.env:HOME}", "2_4", "inf", "' '"),
)
# Choices that have the other keys of their group, with what they must be given.
CHOICES = {
    "data": [
        ("data=files", "data.train=a.csv"),
        ("data=hub", "data.name=x/y", "data.text=text", "data.label=label"),
    ],
    "model": [("model=pretrained", "model.name=x/y")],
    "prune": [("prune=structured_ln",), ("prune=n_m",), ("prune=units",)],
}
HYDRA = (
    *("hydra.run.dir", "hydra.sweep.dir", "hydra.mode", "hydra.verbose", "hydra.job.name"),
    *("hydra.job.chdir", "hydra/launcher", "hydra/sweeper", "hydra/job_logging"),
    "hydra.sweeper.max_batch_size",
)


def refused(words: Sequence[str]) -> str:
    """Return the line that a command ends with before Hydra composes it."""
    with pytest.raises(ConfigError) as caught:
        checked(words)
    return str(caught.value)


def outcome(words: Sequence[str], base: DictConfig | None = None) -> str:
    """Compose a command, or apply it to what its choice composes; return its line, or ""."""
    try:
        overrides = checked(words)
        if base is None:
            composed = composed_raw(*overrides, with_hydra=True)
            OmegaConf.to_container(composed.hydra.run, resolve=True)
            with flag_override(composed, ["readonly"], [False]), open_dict(composed):
                del composed["hydra"]
        else:
            composed = copy.deepcopy(base)
            parsed = OverridesParser.create().parse_overrides(overrides)
            ConfigLoaderImpl._apply_overrides_to_config(parsed, composed)
        to_config(composed)
    except PruneloopError as error:
        assert error.exit_code == 2
        return str(error)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("hydra", "omegaconf"):
            raise AssertionError(f"{words}: a traceback") from error
        return str(explain_composition(error))
    return ""


@pytest.fixture(scope="module")
def bases() -> list[tuple[DictConfig, list[str]]]:
    """What every choice composes, with the keys that none before it has."""
    found, seen = [], {*CHOICES, *GROUPS}
    for choice in ((), *(choice for choices in CHOICES.values() for choice in choices)):
        base = composed_raw(*choice)
        keys = [key for key in sorted(known_keys() - seen) if has(base, key)]
        seen |= set(keys)
        found.append((base, keys))
    assert seen >= known_keys()
    return found


def has(base: DictConfig, key: str) -> bool:
    """Whether a composed configuration has a key, also one that must be given."""
    group, _, name = key.rpartition(".")
    return name in (base[group] if group else base)


@pytest.mark.parametrize("value", VALUES)
def test_every_key_set_to_anything_is_one_line_or_valid(
    value: str, bases: list[tuple[DictConfig, list[str]]]
) -> None:
    for base, keys in bases:
        for key in keys:
            line = outcome([f"{key}={value}"], base)
            assert "\n" not in line and len(line) < 1000
            # It speaks of the key, of its group, or of what goes with it.
            assert not line or key.split(".")[0] in line or value in line, line


@pytest.mark.parametrize(
    "key", [*GROUPS, *(pytest.param(key, marks=pytest.mark.more) for key in HYDRA)]
)
def test_every_group_set_to_anything_is_one_line_or_valid(key: str) -> None:
    for value in VALUES:
        line = outcome([f"{key}={value}"])
        assert not line or key.split(".")[-1] in line or value in line, line


@pytest.mark.more
@pytest.mark.parametrize("key", sorted(known_keys()))
def test_the_same_with_all_of_hydra(key: str) -> None:
    for value in VALUES:
        for choice in [(), *CHOICES.get(key.split(".")[0], [])]:
            outcome([*choice, f"{key}={value}"])


@pytest.mark.parametrize(
    "key",
    [
        *("data.train_rows", "data.test_rows", "data.split_seed", "model.layers", "model.hidden"),
        *("model.intermediate", "model.vocab_size", "model.max_length", "finetune.epochs"),
        *("finetune.dense_epochs", "finetune.batch_size", "finetune.accumulation", "rounds"),
    ],
)
def test_what_would_never_end_is_out_of_range(key: str) -> None:
    line = outcome([f"{key}={10**19}"])
    assert line.startswith(f"{key}={10**19}: must be from")


@pytest.mark.parametrize("key", ["prune.criterion", "prune.group", "device", "tracker"])
@pytest.mark.parametrize("value", ["1", "2", "'1'", "1.0", "true"])
def test_members_are_known_by_name_only(key: str, value: str) -> None:
    assert f"{key}={value}".replace("'", "") in outcome([f"{key}={value}"]).replace("'", "")


def test_no_member_of_any_enum_is_a_number() -> None:
    enums = {field.type for _, field in known_fields() if isinstance(field.type, EnumMeta)}
    assert len(enums) >= 15 and all(issubclass(enum, str) for enum in enums)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune=2_4"], "prune=2_4: must be the name of an option; did you mean 2of4?"),
        (["data.drop_overlap=-1"], "data.drop_overlap=-1: must be true or false"),
        (["-m", "seed=range(1,1)"], "seed=range(1,1): is empty; nothing would run"),
        (["-m", "seed=range(0,1e12)"], "is more than 100,000 points, which Hydra lists first"),
        (["-m", "prune.amount=range(0.1,0.2,1e-9)"], "is more than 100,000 points"),
        (["-m", "seed=glob(*)"], "seed=glob(*): seed has no options for a pattern; list values"),
        (["-m", "prune=glob(zz*)"], "prune=glob(zz*): fits none of 2of4, 4of8, global_l1"),
        (["-m", "prune=glob(*,exclude=*)"], "nothing would run"),
        (["-m", "hydra.sweeper.max_batch_size=-1"], "must be from 1, or null for all points"),
        (["-m", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be from 1"),
        (["-m", "hydra.sweeper.n_jobs=-1"], "hydra.sweeper.n_jobs=-1: must be from 1"),
        (
            ["hydra.verbose=null"],
            "hydra.verbose=null: must be true, false, or the name of a logger",
        ),
        (["hydra.verbose=[a,1]"], "must be true, false, or the name of a logger"),
        (["hydra.mode=nan"], "hydra.mode=nan: must be RUN or MULTIRUN"),
        (["hydra.sweeper.max_batch_size=0"], "must be from 1, or null for all points at once"),
        (["hydra/launcher=null"], "hydra/launcher=null: must be the name of an option"),
        (["-m", "prune=null,random"], "prune=null,random: must be the name of an option"),
        (["--shell-completion"], "write --shell-completion install=bash"),
        (["hydra.run.dir="], "hydra.run.dir=: must be a folder; try hydra.run.dir=outputs/mine"),
        (["~data"], "~data: a run needs one; write data=VALUE"),
        (["~rounds"], "~rounds: a run needs one; write rounds=VALUE"),
        (["--cfg", "jop"], "--cfg jop: must be one of job, hydra, all"),
        (["--cfg", "job", "-m"], "only one of these at a time"),
        (["--multirun=3"], "--multirun=3: --multirun takes no value"),
        (["--config-dir", "evil"], "--config-dir: no such flag"),
        (["--resolve"], "write --cfg job --resolve"),
    ],
)
def test_what_hydra_takes_or_stumbles_over_is_refused(words: list[str], said: str) -> None:
    assert said in refused(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rounds", "8"], "--rounds: settings are written KEY=VALUE; write rounds=8"),
        (["--rounds=8"], "write rounds=8"),
        (["rounds", "8", "seed=1"], "rounds: settings are written KEY=VALUE; write rounds=8"),
        (["--learning-rate", "1e-4"], "write finetune.learning_rate=1e-4"),
        (["--data", "nsmc"], "write data=nsmc"),
        (["--rouds", "8"], "no such flag; settings are written KEY=VALUE, see --help; did you"),
        (["evalute", "run"], "no such command, and no KEY=VALUE; did you mean evaluate?"),
        (["data.path=/자료/리뷰", "rounds=3"], """'data.path="/자료/리뷰"' rounds=3"""),
        (["data.title=it's 1, 2"], '''data.title="it'"'"'s 1, 2"'''),
    ],
)
def test_a_mistake_is_answered_by_what_to_type(words: list[str], said: str) -> None:
    assert said in refused(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=nsmcc"], "data=nsmcc: no such option; did you mean nsmc?; one of files, hub"),
        (["resume=last"], "resume: unknown key; the same command in the same folder goes on"),
        (["amount=0.3"], "amount: unknown key; did you mean prune.amount?"),
        (
            ["data.train=a.csv"],
            "data.train: is a key of data=files|hub|klue_nli|klue_sts|nsmc|ynat; add that",
        ),
        (["prune.n=1"], "prune.n: is a key of prune=structured_ln; add that"),
        (["prune.scope=qkv,ffn"], "add -m to run each of them, or write prune.scope=[qkv,ffn]"),
        (["prune.schedule=cubic"], "prune.schedule=cubic: is how prune.target_sparsity is reached"),
        (["tracker=tb"], "did you mean tensorboard?"),
        (["prune.criterion=taylr"], "did you mean taylor?"),
        (["data=hub", "data.name=", "data.text=a", "data.label=b"], "data.name='': must not be"),
    ],
)
def test_a_composition_that_fails_says_what_was_perhaps_meant(words: list[str], said: str) -> None:
    assert said in outcome(words)


def test_flags_may_stand_anywhere() -> None:
    words = ["seed=1,2", "--cfg", "job", "rounds=3", "-p", "data"]
    assert checked(words) == ["--cfg", "job", "-p", "data", "seed=1,2", "rounds=3"]
    assert checked(["seed=1,2", "-m"]) == ["-m", "seed=1,2"]


def test_a_pattern_of_options_is_left_to_hydra() -> None:
    assert checked(["-m", "prune=glob(*_l1)"]) == ["-m", "prune=glob(*_l1)"]


def test_a_home_folder_is_found_behind_the_equals_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert checked(["hydra.run.dir=~/runs/one"]) == ["hydra.run.dir=/home/me/runs/one"]
    words = ["data=files", "data.train=[~/a.csv,/b/c.csv]", "model=pretrained", "model.name=~/m"]
    found = ["data=files", "data.train=[/home/me/a.csv,/b/c.csv]", "model=pretrained"]
    assert checked(words) == [*found, "model.name=/home/me/m"]


def test_help_has_every_key_with_its_range_and_meaning_and_no_schema() -> None:
    text = whole_help()
    assert all(re.search(rf"^  {re.escape(key)}=", text, re.MULTILINE) for key in plain_keys())
    assert "prune.amount=" in text and "between 0 and 1, the fraction of the kept" in text
    assert "How many times to prune and fine-tune again" in text
    assert "schema" not in text and "data=files|hub|klue_nli|klue_sts|nsmc|sample|ynat" in text


def plain_keys() -> set[str]:
    """Return the keys that are no group's name."""
    return known_keys() - {*GROUPS, "budget", "checkpoint", "report"}


def test_the_help_of_a_group_is_that_group_alone() -> None:
    text = group_help("distill")
    assert re.findall(r"^  (\S+?)=", text, re.MULTILINE) == [
        "distill.alpha",
        "distill.temperature",
        "distill.teacher",
    ]
    with pytest.raises(ConfigError, match=r"help dat: no such group; did you mean data\?"):
        group_help("dat")


def test_the_version_is_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which `Errors` sets
    run(["rounds=3", "--version"], Errors())
    assert capsys.readouterr().out == f"pruneloop {__version__}\n"
    run(["-h"], Errors())
    assert "rounds=5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pruneloop tracker=", "tracker=none tracker=tensorboard tracker=mlflow tracker=trackio"),
        ("python train.py rounds=8 prune.criterion=m", "prune.criterion=magnitude prune.criterion"),
        ("pruneloop control=t", "control=true"),
        ("pruneloop data.normalize=", "data.normalize=NFC data.normalize=none"),
        ("pruneloop rounds=", ""),
        ("pruneloop prune=", ""),  # a group, which Hydra completes
        ("pruneloop finetune.pre", ""),
    ],
)
def test_a_shell_is_offered_every_value_of_an_enum(
    line: str, found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert complete(["--shell-completion", "query=bash"]) is bool(found)
    assert capsys.readouterr().out.startswith(found)
    assert not complete(["rounds=8"])  # an ordinary command, whatever the environment says
