"""Seeds in one place; random states in and out, so that a run can be repeated and resumed (chapter 11)."""

import random

import numpy as np
import torch


def seed_everything(seed: int):
    """Seeds Python, NumPy and PyTorch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_states() -> dict[str, torch.Tensor]:
    """The states of all random generators a training step can draw from, as byte tensors.

    Dropout draws from the generator of the device it runs on; nothing in the engine draws from Python's or
    NumPy's.
    """
    states = {"cpu": torch.get_rng_state()}
    for number in range(torch.cuda.device_count()):
        states[f"cuda:{number}"] = torch.cuda.get_rng_state(number)
    return states


def set_random_states(states: dict[str, torch.Tensor]):
    """Puts back what `random_states` returned; a device that this machine lacks is passed over."""
    torch.set_rng_state(states["cpu"])
    for number in range(torch.cuda.device_count()):
        if f"cuda:{number}" in states:
            torch.cuda.set_rng_state(states[f"cuda:{number}"], number)
