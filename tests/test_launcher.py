"""What a launcher says in the environment: followed, or refused before anything trains."""

import os

import pytest
import torch
from support import SMALL, Environment, Life, lived_line

from pruneloop import launcher
from pruneloop.config import Device, Precision, Tracker
from pruneloop.errors import ConfigError, EnvironmentFault
from pruneloop.machine import processes


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "OMPI_", "SLURM_")) or name.endswith("RANK"):
            monkeypatch.delenv(name)


def check(device: str = "auto", precision: str = "fp32", accumulation: int = 1) -> None:
    launcher.check_launcher(device, precision, accumulation)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8", ConfigError),
        ("ACCELERATE_MIXED_PRECISION", "bf16", ConfigError),
        ("ACCELERATE_MIXED_PRECISION", "fp8", ConfigError),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", EnvironmentFault),
        ("ACCELERATE_FP8_BACKEND", "TE", EnvironmentFault),
        ("ACCELERATE_TORCH_DEVICE", "meta", EnvironmentFault),
        ("ACCELERATE_USE_DEEPSPEED", "true", EnvironmentFault),
        ("ACCELERATE_USE_FSDP", "true", EnvironmentFault),
        ("ACCELERATE_USE_MEGATRON_LM", "true", EnvironmentFault),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", EnvironmentFault),
        ("ACCELERATE_USE_SAGEMAKER", "true", EnvironmentFault),
        ("WORLD_SIZE", "2", EnvironmentFault),
        ("WORLD_SIZE", "two", EnvironmentFault),
        ("RANK", "-1", EnvironmentFault),
        ("OMPI_COMM_WORLD_SIZE", "2", EnvironmentFault),
        ("SLURM_STEP_NUM_TASKS", "2", EnvironmentFault),
    ],
)
def test_what_a_launcher_asks_for_in_vain_is_refused(monkeypatch, name, value, kind) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(kind) as caught:
        check()
    assert f"{name}={value}" in str(caught.value)


def test_what_accelerate_launch_always_says_is_no_request(monkeypatch) -> None:
    for name, value in {
        "ACCELERATE_USE_CPU": "False",
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_DYNAMO_MODE": "default",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    check(precision="bf16", accumulation=4)


def test_what_the_run_does_itself_may_be_asked_for(monkeypatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    check(precision="bf16", accumulation=4)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    check(precision="bf16", accumulation=4)
    with pytest.raises(ConfigError, match="device=cuda"):
        check("cuda", "bf16", 4)


def test_accelerate_sees_nothing_of_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    monkeypatch.setenv("ACCELERATE_DEBUG_MODE", "garbage")
    with processes(Device.cpu, Precision.fp32, Tracker.none, tmp_path) as accelerator:
        assert accelerator.gradient_accumulation_steps == 1
        assert accelerator.state.dynamo_plugin.backend.value == "NO"
        assert "ACCELERATE_DEBUG_MODE" not in os.environ
    assert os.environ["ACCELERATE_DEBUG_MODE"] == "garbage"


def test_a_process_of_many_that_is_alone_is_refused(monkeypatch, tmp_path) -> None:
    """As a rank would be that accelerate does not join to the others."""
    monkeypatch.setattr(launcher, "world_size", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(EnvironmentFault, match="one of 1"),
        processes(Device.auto, Precision.fp32, Tracker.none, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8", 2),
        ("ACCELERATE_USE_FSDP", "true", 5),
        ("RANK", "first", 5),
    ],
)
def test_a_refused_launcher_is_one_line_before_the_data(tmp_path, name, value, code) -> None:
    line = lived_line(tmp_path, code, *SMALL, before=Environment(**{name: value}))
    assert f"{name}={value}" in line
    assert "data:" not in (tmp_path / "stdout.txt").read_text()


@pytest.mark.more
def test_a_cpu_that_accelerate_asks_for_is_taken(tmp_path) -> None:
    life = Life(tmp_path, *SMALL, "device=auto", before=Environment(ACCELERATE_USE_CPU="True"))
    assert life.wait() == 0, life.errors
    assert "process(es) on cpu" in life.output
