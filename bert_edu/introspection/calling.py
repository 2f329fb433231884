"""Calling any model on any batch: what the tools of this package have in common."""

import contextlib
import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn


def as_call(batch) -> tuple[tuple, dict]:
    """A batch as the positional and the named arguments of a call.

    Args:
        batch: one tensor or a tuple (positional); a mapping or a dataclass (named; fields that hold no
            tensor are left out, so an `Encoding` or a `PreTrainingBatch` will do).

    Raises:
        TypeError: for anything else, and for a batch without a tensor in it.
    """
    if isinstance(batch, Tensor):
        return (batch,), {}
    if isinstance(batch, (tuple, list)) and any(isinstance(part, Tensor) for part in batch):
        return tuple(batch), {}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        batch = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    if isinstance(batch, Mapping) and any(isinstance(value, Tensor) for value in batch.values()):
        return (), dict(batch)
    raise TypeError(
        f"a batch is a tensor, a tuple of tensors, or a mapping or dataclass of tensors by argument name, "
        f"and this is a {type(batch).__name__} without one"
    )


def tensors_of(structure) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists, mappings and dataclasses, in reading order."""
    for _, tensor in named_tensors(structure):
        yield tensor


def named_tensors(structure, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) for all tensors of a model's output; the name is the path to it, "hidden_states.0"."""
    if isinstance(structure, Tensor):
        yield name or "output", structure
        return
    if isinstance(structure, Mapping):
        parts = structure.items()
    elif isinstance(structure, tuple) and hasattr(structure, "_fields"):
        parts = zip(structure._fields, structure)
    elif isinstance(structure, (tuple, list)):
        parts = enumerate(structure)
    elif dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        parts = vars(structure).items()
    else:
        return
    for key, part in parts:
        yield from named_tensors(part, f"{name}.{key}" if name else str(key))


def changed(structure, change):
    """The same nest of tuples, lists and dictionaries with `change` applied to each thing in it."""
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(changed(part, change) for part in structure))
    if isinstance(structure, list):
        return [changed(part, change) for part in structure]
    if isinstance(structure, tuple):  # torch.Size too, which holds nothing but whole numbers
        return tuple(changed(part, change) for part in structure)
    if isinstance(structure, dict):
        return {key: changed(part, change) for key, part in structure.items()}
    if isinstance(structure, slice):
        return slice(*(changed(part, change) for part in (structure.start, structure.stop, structure.step)))
    return change(structure)


def check_devices(model: nn.Module, arguments, name: str = "the model"):
    """Raises a ValueError that says what to move when a batch is on a device that the model is not on."""
    devices = {part.device for part in model.parameters()}
    if not devices:
        return
    for where, tensor in named_tensors(arguments):
        if tensor.device not in devices and tensor.dim() > 0:
            home = ", ".join(sorted(map(str, devices)))
            raise ValueError(
                f"the batch's {where.split('.')[-1]} is on {tensor.device} and {name} on {home}: "
                f"move one to the other with .to({home.split(', ')[0]!r})"
            )


def call(model: nn.Module, batch):
    """Calls a model on a batch after a look at the devices."""
    positional, named = as_call(batch)
    check_devices(model, [named, positional])
    return model(*positional, **named)


def main_input(batch) -> Tensor:
    """The tensor that a batch's sizes are read from: `input_ids` if there is one, else the first tensor."""
    positional, named = as_call(batch)
    return named["input_ids"] if "input_ids" in named else next(tensors_of([positional, named]))


def batch_and_length(batch) -> tuple[int, int | None]:
    """B and T of a batch of ids (B, T) or vectors (B, T, ...); T is None for features (B, F)."""
    first = main_input(batch)
    if first.dim() == 0:
        raise ValueError("the batch's first tensor is a single number: it has no rows")
    is_sequence = first.dim() >= 3 or (first.dim() == 2 and not first.is_floating_point())
    return first.shape[0], first.shape[1] if is_sequence else None


def real_positions(batch) -> Tensor | None:
    """(B, T), True where the batch's `attention_mask` shows a token; None when it has no such mask."""
    mask = as_call(batch)[1].get("attention_mask")
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


@contextlib.contextmanager
def unchanged_randomness(device: torch.device | None = None):
    """What runs inside may draw random numbers; afterwards the generators are where they were."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield


@contextlib.contextmanager
def undisturbed(model: nn.Module, dtype: torch.dtype | None = None):
    """Whatever a pass changes in a model, parameters, buffers and random state, is put back afterwards.

    A copy would do as well, but for models whose `forward` somebody has replaced: a function that holds on to
    the original would not run the copy.

    Args:
        dtype: compute in this type meanwhile; the numbers come back bit for bit.
    """
    numbers = {id(part): (part, part.data) for part in model.parameters()}
    buffers = [
        (module._buffers, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        if dtype is not None:
            for part, before in numbers.values():
                part.data = before.to(dtype) if before.is_floating_point() else before
            for holder, name, buffer, _ in buffers:
                holder[name] = buffer.to(dtype) if buffer.is_floating_point() else buffer
        with unchanged_randomness(device_of(model)):
            yield
    finally:
        for part, before in numbers.values():
            part.data = before
        for holder, name, buffer, content in buffers:
            holder[name] = buffer
            with torch.no_grad():
                buffer.copy_(content)


@contextlib.contextmanager
def mode(model: nn.Module, training: bool):
    """Puts a model into training or evaluation mode, and every part back into its own mode afterwards."""
    before = {part: part.training for part in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for part, was_training in before.items():
            part.training = was_training


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter is; the CPU for a model without parameters."""
    return next((part.device for part in model.parameters()), torch.device("cpu"))


def unknown_name(name: str, known: Iterable[str], what: str) -> str:
    """The sentence for a name that does not exist, with the names that are near it."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    ends = [other for other in known if other.split(".")[-1] == name.split(".")[-1] and other not in near]
    near += ends[: 3 - len(near)] if len(near) < 3 else []
    if near:
        return f"there is no {what} named {name!r}; near it are {', '.join(map(repr, near))}"
    return (
        f"there is no {what} named {name!r}; the first of {len(known)} are {', '.join(map(repr, known[:5]))}"
    )
