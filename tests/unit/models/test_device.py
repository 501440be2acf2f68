"""Devices: which names there are, and what a machine without the device says."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from arpo.errors import ConfigError
from arpo.models.config import ModelConfig, TrainedModelConfig
from arpo.models.device import bfloat16_unit, require_device, settle_device


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:15"])
def test_names_of_devices(name: str) -> None:
    assert ModelConfig.model_validate({"path": "m", "device": name}).device == name


@pytest.mark.parametrize(
    "name", ["mps", "gpu", "", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda: 1", "cuda:1\n", "cpu:0", "meta"]
)
def test_other_names_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValidationError, match="the devices are auto, cpu, cuda and"):
        ModelConfig.model_validate({"path": "m", "device": name})
    with pytest.raises(ConfigError, match=r"--device = .*: the devices are auto, cpu, cuda and"):
        require_device(name, "--device")


def test_a_device_that_the_machine_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with `count` CUDA devices, as torch would report them."""

    def has(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    has(0)
    assert require_device("cpu") == require_device("auto") == "cpu"
    with pytest.raises(ConfigError, match=r"model.device = 'cuda': .*no CUDA device on this machine; set model.device = 'cpu'"):
        require_device("cuda")
    has(1)
    assert require_device("cuda") == require_device("auto") == "cuda"
    assert require_device("cuda:0") == "cuda:0"
    with pytest.raises(ConfigError, match=r"model.device = 'cuda:1': this machine has cuda:0 alone"):
        require_device("cuda:1")
    has(8)
    require_device("cuda:7")
    with pytest.raises(ConfigError, match=r"model.device = 'cuda:8': this machine has cuda:0 to cuda:7"):
        require_device("cuda:8")


@pytest.mark.parametrize(("has_gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_default_device_is_chosen_told_and_recorded(monkeypatch: pytest.MonkeyPatch, has_gpu: bool, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(has_gpu))
    lines = list[str]()
    model = TrainedModelConfig(path=Path("m"))
    assert (model.device, settle_device(model, lines.append).device) == ("auto", device)
    assert lines == [f"device: {device} (model.device = 'auto')"]
    assert settle_device(TrainedModelConfig(path=Path("m"), device=device), lines.append).device == device
    assert len(lines) == 1, "a device that was named is not told"


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile amx_int8", "AMX"),
        ("flags\t\t: fpu avx512f avx512_bf16", "AVX512-BF16"),
        ("Features\t: fp asimd i8mm bf16", "Arm BF16"),
        ("flags\t\t: fpu avx512f avx2", None),
        ("model name\t: amx_bf16", None),
    ],
)
def test_the_unit_for_bfloat16_is_read_from_the_flags(line: str, unit: str | None, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{line}\n")
    assert bfloat16_unit(file) == unit


def test_a_system_without_cpuinfo_names_no_unit(tmp_path: Path) -> None:
    assert bfloat16_unit(tmp_path / "none") is None
