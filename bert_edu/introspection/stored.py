"""A reference in a file: weights, a batch, and every module's output, computed once by somebody else's code.

The one that is shipped was computed by `transformers` (benchmarks/make_reference_activations.py), so that a
model can be compared with an independent implementation where that is not installed.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..model import BertModel
from ..pretrained import WEIGHTS_FILE
from .calling import batch_and_length, named_tensors, real_positions
from .comparing import Comparison, compare, in_double
from .matching import TOLERANCE, Eyes, Index, relevant_refs

SHIPPED = Path(__file__).parent / "reference"
ACTIVATIONS_FILE = "activations.safetensors"
ABOUT_FILE = "reference.json"


@dataclass
class StoredReference:
    """What a reference folder holds.

    Attributes:
        folder: a model folder in the published format; `BertModel.from_pretrained(folder)` reads it.
        batch: the inputs by name.
        activations: each module's output, in forward order, by the module's published name.
        about: how and with what it was made.
    """

    folder: Path
    batch: dict[str, Tensor]
    activations: dict[str, Tensor]
    about: dict


def write_reference(model: nn.Module, batch: dict[str, Tensor], folder: str | Path, about: dict):
    """Writes what each module of a model gives out on a batch, in double precision.

    Args:
        model: in evaluation mode; saves its weights by `save_pretrained`.
        batch: named inputs.
        folder: where to.
        about: what to tell about it: names, versions.
    """
    folder = Path(folder)
    model.save_pretrained(folder)
    tensors = {f"input.{name}": tensor for name, tensor in batch.items()}
    tape = in_double(model, batch)
    order, written = [], set()
    for name, refs in tape.modules:  # a tensor that several modules pass on stands under the innermost's name
        if name and refs and refs[0] not in written and tape[refs[0]].is_floating_point():
            tensors[f"output.{name}"] = tape[refs[0]].clone().contiguous()
            order.append(name)
            written.add(refs[0])
    save_file(tensors, folder / ACTIVATIONS_FILE)
    for file in (ACTIVATIONS_FILE, WEIGHTS_FILE):
        os.chmod(folder / file, 0o644)  # the writer makes them private
    text = json.dumps(about | {"order": order}, indent=2)
    (folder / ABOUT_FILE).write_text(text + "\n", encoding="utf-8")


def load_reference(folder: str | Path = SHIPPED) -> StoredReference:
    """Reads a reference folder; by default the one that comes with the book.

    Raises:
        FileNotFoundError: when the folder lacks one of the files.
    """
    folder = Path(folder)
    for name in (WEIGHTS_FILE, ACTIVATIONS_FILE, ABOUT_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no reference folder: it has no {name}")
    about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
    tensors = load_file(folder / ACTIVATIONS_FILE)
    batch = {name.removeprefix("input."): part for name, part in tensors.items() if name.startswith("input.")}
    return StoredReference(folder, batch, {name: tensors[f"output.{name}"] for name in about["order"]}, about)


def compare_with_file(mine: nn.Module, folder: str | Path = SHIPPED) -> Comparison:
    """Compares a model that has a reference folder's weights with what is stored there.

    The place is told by the stored numbers. The causes are tried out on the book's own model, which must
    reproduce them first.

    Args:
        mine: a model with the folder's weights, for instance `YourModel.from_pretrained(folder)`.
        folder: as for `load_reference`.

    Raises:
        RuntimeError: when the book's model itself does not reproduce the file.
    """
    stored = load_reference(folder)
    ours = BertModel.from_pretrained(stored.folder)
    missing = absent(ours, stored)
    if missing:
        raise RuntimeError(
            f"the book's model does not reproduce {stored.folder}, first in {missing[0]}: a damaged file?"
        )
    found = compare(mine, ours, stored.batch)
    names = absent(mine, stored)
    if found.first and names:
        found.first = replace(found.first, reference=names[0])
    found.notes.append(
        f"the reference is a file, made by {stored.about.get('made_by', 'an unknown program')}"
    )
    return found


def absent(model: nn.Module, stored: StoredReference) -> list[str]:
    """The stored tensors that a model does not compute, by the names of their modules, in forward order."""
    tape = in_double(model, stored.batch)
    B, T = batch_and_length(stored.batch)
    eyes = Eyes(B, T, real_positions(stored.batch), TOLERANCE[torch.float64])
    refs = relevant_refs(tape)
    index = Index.of(tape, refs, eyes)
    outputs = [tensor for _, tensor in named_tensors(tape.output)]
    return [
        name
        for name, tensor in stored.activations.items()
        if not index.find(tensor) and not any(eyes.same(tensor, other) for other in outputs)
    ]
