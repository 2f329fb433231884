"""What every benchmark needs: alternating timed runs in one process, results with their provenance."""

import datetime
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

import bert_edu


def alternate(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
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


def write_result(name: str, figures: dict) -> Path:
    """Writes results/NAME.json: the figures, and how and where and when they were obtained."""
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }
    versions = {
        "bert_edu": bert_edu.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    result = {
        "command": "python benchmarks/"
        + shlex.join([Path(sys.argv[0]).name] + [without_folder(a) for a in sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": machine,
        "versions": versions,
        "figures": figures,
    }
    path = Path(__file__).parent.parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return path


def without_folder(argument: str) -> str:
    """A file's name without the folder it lay in on the machine that measured."""
    return Path(argument).name


def processor() -> str:
    """The processor's name, as the system tells it."""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
