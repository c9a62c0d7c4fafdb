"""The configuration: conf/ composes, types and ranges hold, presets say what they should."""

import re
from pathlib import Path

import pytest
import torch
from omegaconf.errors import MissingMandatoryValue
from support import ROOT, SWEEP_HOOK, composed, composed_raw

from pruneloop.config import (
    Criterion,
    FilesData,
    Group,
    Precision,
    PretrainedModel,
    StructuredPruneConfig,
    TinyModel,
    known_keys,
    point_name,
)
from pruneloop.errors import ConfigError
from pruneloop.plan import make_plan
from pruneloop.pruning import Masks


def test_defaults_are_the_sample_and_the_tiny_model() -> None:
    config = composed()
    assert isinstance(config.model, TinyModel)
    assert (config.rounds, config.prune.amount, config.prune.scope) == (5, 0.2, ["encoder"])
    assert (config.prune.criterion, config.prune.group.name) == (Criterion.magnitude, "global")


@pytest.mark.parametrize("model", ["kobert", "klue_bert", "koelectra", "kcbert"])
def test_a_pretrained_model_brings_its_own_recipe(model: str) -> None:
    config = composed(f"model={model}")
    assert isinstance(config.model, PretrainedModel)
    assert config.finetune.learning_rate == 5e-5
    assert config.finetune.dense_learning_rate == 5e-5


def test_the_recipe_can_be_chosen_against_the_model() -> None:
    assert composed("model=kobert", "finetune=tiny").finetune.dense_epochs == 3


def test_kobert_nsmc_is_the_real_thing() -> None:
    config = composed("experiment=kobert_nsmc")
    assert isinstance(config.data, FilesData) and isinstance(config.model, PretrainedModel)
    assert config.model.name == "monologg/kobert"
    assert config.data.label_names == ["negative", "positive"]
    assert (config.model.max_length, config.finetune.batch_size) == (128, 64)
    assert config.finetune.precision == Precision.bf16


def test_structured_pruning_has_its_own_keys() -> None:
    prune = composed("prune=structured_ln", "prune.n=1", "prune.dim=0").prune
    assert isinstance(prune, StructuredPruneConfig)
    assert (prune.n, prune.dim, prune.group) == (1.0, 0, Group.layer)


@pytest.mark.parametrize("value", ["qkv", "[qkv]"])
def test_a_scope_is_a_name_or_a_list(value: str) -> None:
    assert composed(f"prune.scope={value}").prune.scope == ["qkv"]


def test_target_sparsity_takes_the_place_of_amount() -> None:
    prune = composed("prune.target_sparsity=0.8").prune
    assert (prune.amount, prune.target_sparsity) == (None, 0.8)


@pytest.mark.parametrize(
    "override",
    [
        "rounds=0",
        "rounds=-1",
        "rounds=1001",
        "seed=-1",
        "prune.amount=1.5",
        "prune.amount=-0.1",
        "prune.amount=nan",
        "prune.amount=1",
        "prune.amount=0",
        "prune.target_sparsity=1",
        "prune.target_sparsity=nan",
        "prune.max_layer_sparsity=0",
        "prune.scope=3",
        "data.validation=0",
        "data.validation=nan",
        "data.train_rows=0",
        "model.heads=3",
        "model.hidden=0",
        "model.dropout=1",
        "model.max_length=1",
        "model.vocab_size=5",
        "finetune.epochs=0",
        "finetune.batch_size=0",
        "finetune.accumulation=0",
        "finetune.learning_rate=0",
        "finetune.learning_rate=nan",
        "finetune.learning_rate=inf",
        "finetune.dense_learning_rate=-1",
        "finetune.max_grad_norm=0",
        "finetune.warmup=1",
        "finetune.weight_decay=-1",
    ],
)
def test_ranges(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(override)
    assert override.split("=")[0] in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ("prune.amount=0.2", "prune.target_sparsity=0.5"),
        ("prune.amount=null",),
        ("prune=structured_ln", "prune.n=0"),
        ("prune=structured_ln", "prune.dim=2"),
        ("prune=structured_ln", "prune.criterion=movement"),
        ("device=cpu", "finetune.precision=fp16"),
        ("data=files", "data.train=a.csv", "data.delimiter=ab"),
        ("data=files", "data.train=a.csv", "data.test_share=0"),
    ],
)
def test_ranges_that_need_a_choice(overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        composed(*overrides)


def test_what_must_be_given_is_missing() -> None:
    with pytest.raises(MissingMandatoryValue):
        composed("data=files")


def test_conf_explains_itself() -> None:
    for path in sorted((ROOT / "conf").glob("*/*.yaml")):
        assert path.read_text(encoding="utf-8").startswith("#"), path
    lines = (ROOT / "conf" / "config.yaml").read_text(encoding="utf-8").splitlines()
    for key in ("rounds", "seed", "device"):
        place = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
        assert "#" in lines[place] and lines[place - 1].startswith("#")


def test_known_keys_are_dotted() -> None:
    assert {"rounds", "prune.amount", "model.name", "data.delimiter"} <= known_keys()


def test_conf_names_no_class_to_execute() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(ROOT / "conf").rglob("*.yaml")]
    lines = [line.strip() for text in texts for line in text.splitlines() if "_target_" in line]
    # Hydra's hook into a sweep can be named in no other way.
    assert lines == [f"_target_: {SWEEP_HOOK}"]


@pytest.mark.parametrize(
    "overrides",
    [
        "model.name=klue/bert-base",
        "data.path='한글/자료'",
        "x=" + "가" * 300,
        "",
        "../..",
        ".",
        "a=[b,c]",
    ],
)
def test_the_folder_of_a_point_is_flat(overrides: str, tmp_path: Path) -> None:
    name = point_name(overrides)
    (tmp_path / name).mkdir()  # one folder, whatever the value
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not name.startswith(".")


def test_readable_names_stay_and_no_two_points_share_one() -> None:
    assert point_name("prune.amount=0.2,seed=1") == "prune.amount=0.2,seed=1"
    assert point_name("data.text=리뷰") == "data.text=리뷰"
    alike = {point_name(f"model.name=klue{sign}bert") for sign in "/-:"}
    assert len(alike) == 3
    assert len({point_name("x=" + "가" * 300 + end) for end in "12"}) == 2


SEARCHED = {"prune.target_sparsity": "interval(0.5, 0.98)"}


@pytest.mark.parametrize(
    ("name", "swept"),
    [
        ("sweep_amount", {"prune.amount": "0.1,0.2,0.4", "seed": "0,1,2"}),
        ("sweep_scope", {"prune.scope": "qkv,ffn,encoder", "seed": "0,1,2"}),
        ("sweep_method", {"prune": "global_l1,layer_l1,random", "seed": "0,1,2"}),
        ("sweep_recipes", {"recipe": "global_l1,random,gmp,lottery,movement", "seed": "0,1,2"}),
        # These need Optuna's plugin to compose.
        pytest.param("search", SEARCHED, marks=pytest.mark.more),
        pytest.param("search_front", SEARCHED, marks=pytest.mark.more),
    ],
)
def test_sweep_presets_sweep_what_they_say(name: str, swept: dict[str, str]) -> None:
    whole = composed_raw(f"experiment={name}", with_hydra=True)
    assert whole.hydra.mode.name == "MULTIRUN"
    assert dict(whole.hydra.sweeper.params) == swept


RECIPES = {
    "gmp": {"criterion": "magnitude", "alpha": 1.0, "weights": False, "end": 0.9},
    "lottery": {"criterion": "magnitude", "alpha": 0.0, "weights": True, "end": 1 - 0.8**10},
    "movement": {"criterion": "movement", "alpha": 0.9, "weights": False, "end": 1 - 0.85**15},
    "2_4": {"criterion": "magnitude", "alpha": 0.9, "weights": False, "end": 0.5},
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_what_they_say(name: str) -> None:
    config, expected = composed(f"experiment=recipe_{name}"), RECIPES[name]
    assert config.prune.criterion.name == expected["criterion"]
    assert (config.distill.alpha, config.rewind.weights) == (expected["alpha"], expected["weights"])
    plan = make_plan(config, Masks.dense({"a": torch.ones(64, 64)}))
    assert plan.zeros[-1][1] / 64**2 == pytest.approx(expected["end"], abs=0.002)
    page = (ROOT / f"conf/recipe/{name.replace('_', 'of')}.yaml").read_text(encoding="utf-8")
    assert re.search(r"20\d\d, \"", page), "no source"


@pytest.mark.parametrize("recipe", ["global_l1", "random", "gmp", "lottery", "movement"])
def test_swept_recipes_end_at_one_sparsity(recipe: str) -> None:
    config = composed("experiment=sweep_recipes", f"recipe={recipe}")
    plan = make_plan(config, Masks.dense({"a": torch.ones(64, 64)}))
    assert len(plan.planned) == 9 and plan.zeros[-1][1] == round(0.9 * 64**2)


def test_the_blog_posts_setting_prunes_query_key_and_value_only() -> None:
    prune = composed("experiment=blog_qkv").prune
    assert (prune.scope, prune.amount, prune.group.name) == (["qkv"], 0.2, "global")
