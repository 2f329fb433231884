"""All measurements, one after the other, as figures with the machine and the versions."""

import datetime
from collections.abc import Callable

from . import finetuning, inference, loading, pretraining, time_to_loss, tokenization
from .material import Settings
from .timing import machine, versions

# Memory first: what a process has once held, PyTorch does not always give back.
PARTS: dict[str, Callable[[Settings], dict]] = {
    "memory": pretraining.memory,
    "pretraining": pretraining.speed,
    "inference": inference.speed,
    "finetuning": finetuning.speed,
    "tokenization": tokenization.speed,
    "loading": loading.speed,
    "time_to_loss": time_to_loss.speed,
}


def measure(parts: list[str], settings: Settings, report=print) -> dict:
    """Measures the named parts, in the order of `PARTS`.

    Args:
        report: called with a line as each part begins.

    Returns:
        `date`, `machine`, `versions`, `settings`, and `figures` by part.

    Raises:
        ValueError: for a part that there is not.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"there is no part {unknown[0]!r} to measure; there are {', '.join(PARTS)}")
    figures = {}
    for part in PARTS:
        if part in parts:
            report(f"measuring {part}")
            figures[part] = PARTS[part](settings)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(settings.device),
        "versions": versions(),
        "settings": vars(settings),
        "figures": figures,
    }


def lines(result: dict) -> list[str]:
    """The figures for a person to read, a contestant a line."""
    found = []
    for part, figures in result["figures"].items():
        found.append(part)
        for name, value in figures.items():
            if isinstance(value, dict):
                value = "  ".join(f"{key.replace('_', ' ')} {_number(each)}" for key, each in value.items())
            else:
                value = _number(value)
            found.append(f"  {name.replace('_', ' '):38}{value}")
    return found


def _number(value) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
