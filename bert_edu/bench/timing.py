"""Runs in turn, medians, the machine and its peak, memory of a fresh process."""

import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch

from .. import __version__

Contestants = dict[str, Callable[[], object]]


def alternate(contestants: Contestants, rounds: int) -> dict[str, list[float]]:
    """Runs the contestants in turn, `rounds` times after one unmeasured round; seconds of every run.

    They alternate so that whatever else the machine does falls on all alike.
    """
    seconds = {name: [] for name in contestants}
    for measured in [False] + [True] * rounds:
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if measured:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The median of each contestant's runs, in seconds."""
    return {name: statistics.median(runs) for name, runs in seconds.items()}


def wait(device: str):
    """Until a GPU has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


# ---- The machine -------------------------------------------------------------------------------------------


def matrix_product(device: str, dtype: torch.dtype = torch.float32) -> tuple[Callable[[], object], int]:
    """A contestant that multiplies two large matrices, and how many operations that takes.

    What it reaches is the machine's peak as programs can have it; a training step is set against it.
    """
    size, times = (8192, 10) if torch.device(device).type == "cuda" else (1024, 10)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def run():
        for _ in range(times):
            left @ right
        wait(device)

    return run, times * 2 * size**3


def machine(device: str = "cpu") -> dict:
    """What computes: processor, cores, threads; the GPU if it was one."""
    found = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found


def processor() -> str:
    """The processor's name, as the system tells it."""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def has_transformers() -> bool:
    """Whether `transformers` is installed, so that there is somebody to compare with."""
    return importlib.util.find_spec("transformers") is not None


def versions() -> dict[str, str]:
    """Of everything that computes."""
    found = {"bert_edu": __version__, "python": platform.python_version(), "torch": torch.__version__}
    if has_transformers():
        found["transformers"] = metadata.version("transformers")
    return found


# ---- Memory ------------------------------------------------------------------------------------------------


def in_fresh_process(module: str, arguments: dict) -> dict:
    """What `python -m bert_edu.bench.MODULE ARGUMENTS` prints as JSON on its last line."""
    command = [sys.executable, "-m", f"bert_edu.bench.{module}", json.dumps(arguments)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    if done.returncode != 0:
        raise RuntimeError(f"a process of its own could not measure {module}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_megabytes(device: str) -> float:
    """The most memory that this process has held so far: the GPU's, or the whole process's on a CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage's, this number does not begin with the parent's
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def print_memory_of(contestant: Callable[[], object], device: str):
    """For a fresh process: runs a contestant once, and prints its memory before and at its highest point."""
    loaded = peak_megabytes(device)
    contestant()
    print(json.dumps({"loaded_mb": round(loaded), "peak_mb": round(peak_megabytes(device))}))
