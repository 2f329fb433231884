"""Checkpoints of a run: whole or not there, and nothing in them that could run code (chapter 11).

A run folder holds `checkpoints/step-00001000/`, each with

    weights.safetensors     the model's parameters
    optimizer.safetensors   the optimiser's running means per parameter
    random.safetensors      the states of the random generators
    state.json              step, position in the data, seconds spent, and a SHA-256 of each file above

The folder is written under another name and renamed when it is complete; `state.json` is what makes it whole.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from . import distributed
from .optim import SideBySide

FOLDER = "checkpoints"
TENSOR_FILES = ("weights", "optimizer", "random")


def save(
    run: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | SideBySide,
    random_states: dict,
    state: dict,
    keep: int = 2,
):
    """Writes the checkpoint of one step and removes all but the newest `keep`.

    Of several processes all call it, since each may have a part of the tensors, and the first one writes.

    Args:
        run: the run's folder.
        state: whatever else is needed to go on; must be JSON.

    Raises:
        OSError: when it cannot be written, for instance on a full disk; older checkpoints are untouched.
    """
    tensors = {
        "weights": distributed.whole(model.state_dict()),
        "optimizer": distributed.whole(_optimizer_tensors(optimizer)),
        "random": random_states,
    }
    if not distributed.is_first():
        return
    final = run / FOLDER / f"step-{step:08d}"
    partial = run / FOLDER / f".partial-{step:08d}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        hashes = {}
        for name in TENSOR_FILES:
            file = partial / f"{name}.safetensors"
            save_file({key: tensor.contiguous() for key, tensor in tensors[name].items()}, file)
            hashes[file.name] = _sha256(file)
        (partial / "state.json").write_text(
            json.dumps({"step": step, "files": hashes} | state, indent=2) + "\n"
        )
        for file in partial.iterdir():
            _to_disk(file)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
    except (OSError, SafetensorError) as error:  # the latter is what a full disk gives
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"the checkpoint of step {step} could not be written to {run / FOLDER} ({error}): see that the "
            f"folder is there and has room, and resume from the checkpoint before it"
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in list_checkpoints(run)[keep:]:
        shutil.rmtree(old, ignore_errors=True)  # what stays is tried again after the next checkpoint


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, the newest first, whole or not."""
    return sorted((run / FOLDER).glob("step-*"), reverse=True)


def newest_whole(run: Path, report=print) -> Path | None:
    """The newest checkpoint in which every file is as it was written; damaged ones are named and skipped."""
    for folder in list_checkpoints(run):
        damage = find_damage(folder)
        if damage is None:
            return folder
        report(f"{folder.name} is damaged ({damage}): passing it over")
    return None


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        files = json.loads((folder / "state.json").read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "state.json is missing or cut short"
    for name, expected in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _sha256(folder / name) != expected:
            return f"{name} is not what was written"
    return None


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | SideBySide) -> tuple[dict, dict]:
    """Puts a checkpoint's weights and optimiser state in place.

    Returns:
        What `save` was given as `state`, with the step, and the random states.
    """
    own, weights = model.state_dict(), load_file(folder / "weights.safetensors")
    model.load_state_dict(
        {name: distributed.part_like(tensor, own.get(name, tensor)) for name, tensor in weights.items()}
    )
    _set_optimizer_tensors(optimizer, load_file(folder / "optimizer.safetensors"))
    return json.loads((folder / "state.json").read_text()), load_file(folder / "random.safetensors")


def _optimizer_tensors(optimizer: torch.optim.Optimizer | SideBySide) -> dict[str, torch.Tensor]:
    """Flat names "optimiser / parameter number / what it is" for the optimiser's state."""
    return {
        f"{place}/{number}/{name}": tensor
        for place, one in enumerate(_each(optimizer))
        for number, entry in one.state_dict()["state"].items()
        for name, tensor in entry.items()
    }


def _set_optimizer_tensors(optimizer: torch.optim.Optimizer | SideBySide, tensors: dict[str, torch.Tensor]):
    for place, one in enumerate(_each(optimizer)):
        complete = one.state_dict()
        complete["state"] = {}
        parameters = [parameter for group in one.param_groups for parameter in group["params"]]
        for key, tensor in tensors.items():
            owner, number, name = key.split("/")
            if int(owner) == place:
                own = distributed.part_like(tensor, parameters[int(number)])
                complete["state"].setdefault(int(number), {})[name] = own
        one.load_state_dict(complete)


def _each(optimizer: torch.optim.Optimizer | SideBySide) -> tuple[torch.optim.Optimizer, ...]:
    return optimizer.optimizers if isinstance(optimizer, SideBySide) else (optimizer,)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_disk(file: Path):
    with file.open("r+b") as stream:  # Windows wants it writable
        os.fsync(stream.fileno())
