"""What ``nas doctor`` finds: each thing as it is here, and as it is said where it is missing."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections import namedtuple
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from rich.console import Console

from nas import this_machine
from nas.cluster import preflight
from nas.modules.activations import generated, native
from nas.modules.activations.build import NoCompiler

Usage = namedtuple("Usage", "total used free")


def only(lines) -> str:
    (line,) = lines
    return line


def test_versions_and_cores_are_this_process_s():
    assert f"python {sys.version.split()[0]}, torch {torch.__version__}, ray {version('ray')}" in (
        this_machine.versions().found
    )
    assert this_machine.cores().found.startswith(f"{len(os.sched_getaffinity(0))} of ")


def test_threads_that_are_kept_from_cores(monkeypatch):
    monkeypatch.setattr(this_machine, "machine", lambda: {"cores": 4, "processor": "Some CPU"})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert not this_machine.cores().missing  # hyperthreads: torch takes a thread for each real core
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert only(this_machine.cores().missing).startswith("OMP_NUM_THREADS=1: ")


def test_gpus(monkeypatch):
    gpu = namedtuple("Gpu", "name total_memory")("NVIDIA X", 80e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    assert this_machine.gpus().found == "NVIDIA X, 80 GB, NVIDIA X, 80 GB"


@pytest.mark.parametrize(
    ("driver", "cuda", "said"),
    [
        (None, "13.0", None),
        ("/usr/bin/nvidia-smi", None, "is built for CPUs; install its build for CUDA"),
        ("/usr/bin/nvidia-smi", "13.0", "wants CUDA 13.0; compare nvidia-smi's"),
    ],
)
def test_no_gpu_is_an_alarm_only_beside_a_driver(monkeypatch, driver, cuda, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(shutil, "which", lambda name: driver)
    found = this_machine.gpus()
    assert found.found.startswith("none; ")
    assert (said is None and not found.missing) or said in only(found.missing)


def test_without_a_c_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    generated.kernel.cache_clear()
    native.library.cache_clear()
    found = this_machine.compiler()
    assert found.found == "builds nothing"
    assert len(found.missing) == 2
    assert all("no-such-compiler is not found" in line and "apt install gcc" in line for line in found.missing)


def test_a_compiler_for_one_of_two_things(monkeypatch):
    def fails(text: str) -> None:
        raise NoCompiler("kernels are generated for x86-64, not for arm64")

    monkeypatch.setattr(generated, "kernel", fails)
    monkeypatch.setattr(native, "library", lambda: None)
    found = this_machine.compiler()
    assert found.found == "builds the look-up of bf16 activations"
    assert only(found.missing).startswith("no kernels of activations (kernels are generated for x86-64, not for arm64)")


def test_torch_compile_wants_a_compiler_and_headers(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert not this_machine.torch_compile().missing
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no C++ compiler (g++ or clang++): " in only(this_machine.torch_compile().missing)
    monkeypatch.setenv("CXX", "icpx -O2")
    assert "no C++ compiler (icpx): " in only(this_machine.torch_compile().missing)
    (tmp_path / "Python.h").unlink()
    assert [line.partition(": ")[0] for line in this_machine.torch_compile().missing] == [
        "no C++ compiler (icpx)",
        f"no {tmp_path}/Python.h",
    ]


def test_bf16_is_the_ratio_of_two_times_and_leaves_the_threads_alone(monkeypatch):
    before = torch.get_num_threads()
    seconds = this_machine.convolution_seconds(torch.device("cpu"))
    assert all(0 < each < 10 for each in seconds.values())
    monkeypatch.setattr(
        this_machine, "convolution_seconds", lambda device: {torch.float32: 0.003, torch.bfloat16: 0.002}
    )
    assert this_machine.bf16().found.startswith("1.5 x the speed of float32")
    assert torch.get_num_threads() == before


def test_a_full_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 3 * 10**8))
    assert only(this_machine.folders().missing).startswith("0.3 GB are free here: ")


def test_folders_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder, whoever asks
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != Path("runs"))
    assert not this_machine.folders().faults
    assert "every process builds its kernels anew" in only(this_machine.folders().missing)
    (tmp_path / "runs").mkdir()
    assert only(this_machine.folders().faults).startswith(f"{tmp_path}/runs cannot be written: ")


def test_a_container_with_little_shared_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(this_machine, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**26, 2**26, 2**25))
    assert only(this_machine.ray().faults).startswith(f"32 MB are free in {tmp_path}, Ray wants 64: ")
    monkeypatch.setattr(this_machine, "SHARED_MEMORY", tmp_path / "nowhere")  # macOS has none
    assert not this_machine.ray().faults
    assert preflight._SHARED_MEMORY == this_machine.SHARED_BYTES


def test_what_is_not_installed_is_named_with_what_needs_it(monkeypatch):
    monkeypatch.setattr(this_machine, "find_spec", lambda name: None if name in ("dash", "onnxscript") else object())
    found = this_machine.extras()
    assert found.found == "cluster, mlflow, wandb"
    assert list(found.missing) == [
        "no dashboard: nas dashboard needs it; pip install dash",
        "no onnx: nas export --onnx, and nas.to_onnx need it; pip install onnx onnxscript onnxruntime",
    ]
    monkeypatch.setattr(this_machine, "find_spec", lambda name: None)
    assert "nas search pydoc_gpt fails" in only(this_machine.data().missing)
    assert this_machine.extras().found == "none"


def test_extras_are_those_of_the_project():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    declared = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(this_machine.EXTRAS) == set(declared) - {"dev", "docs"}
    for name, (modules, _, packages) in this_machine.EXTRAS.items():
        assert packages.replace("'", "").split() == [wanted.partition(">")[0] for wanted in declared[name]]
        if all(importlib.util.find_spec(module) for module in modules):
            assert name in this_machine.extras().found


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(width):
    finding = this_machine.Finding("a thing", "here " * 20, ["something that is missing, " * 8])
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(this_machine.as_table([finding]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert [line for line in lines if not line.startswith(" ")] == lines[:1]


def nas(*arguments: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "NO_COLOR": "1", **extra}
    command = [sys.executable, "-m", "nas", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_the_command_starts_no_ray_and_writes_nothing_here(tmp_path):
    result = nas("doctor", cwd=tmp_path, RAY_ADDRESS="127.0.0.1:1")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.endswith("\nNothing is in the way of a run.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_fault_is_an_error(tmp_path):
    (tmp_path / "runs").touch()
    result = nas("doctor", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Nothing is in the way" not in result.stdout


def test_a_configuration_that_there_is_not_is_said_before_all_the_rest(tmp_path):
    result = nas("doctor", "nope", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: nope: no such file, nor a shipped configuration")


def test_who_rehearses_is_not_told_to():
    for hints in (True, False):
        told = [finding.about for finding in this_machine.look_around(hints=hints) if finding.hint]
        assert told == (["data sets", "Ray"] if hints else [])
