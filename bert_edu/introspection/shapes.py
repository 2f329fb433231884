"""The ledger of every tensor of a forward pass, in order, with the letters of its sizes (chapter 8).

A size of 2 may be a number of heads, of segments, of rows in the batch. To tell them apart the model runs
again with another B and T, and, where it can be built from its `config`, as a small twin in which no two
sizes are alike. A letter is written only if it holds in every run; otherwise the number stands there.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .calling import as_call, batch_and_length, changed, unchanged_randomness, undisturbed
from .tape import Step, Tape

# Fields of a config and the letters of the book; A and H give D = H / A too.
LETTERS = {
    "vocab_size": "V",
    "hidden_size": "H",
    "num_attention_heads": "A",
    "intermediate_size": "I",
    "max_position_embeddings": "P",
    "type_vocab_size": "S",
}
MEANINGS = {
    "B": "rows of the batch",
    "T": "tokens",
    "H": "hidden",
    "A": "heads",
    "D": "H / A",
    "I": "intermediate",
    "V": "vocabulary",
    "P": "positions",
    "S": "segment types",
    "N": "depends on the data",
}
# A twin's sizes: no two alike, and none a small multiple of another or a product of two.
TWIN = {
    "vocab_size": 101,
    "hidden_size": 42,
    "num_attention_heads": 3,
    "intermediate_size": 59,
    "max_position_embeddings": 67,
    "type_vocab_size": 5,
}
TWIN_B, TWIN_T = 11, 13
SMALL_NUMBER = 4  # without a twin, a size up to this is a number: too many things are 2


@dataclass
class LedgerRow:
    """One tensor.

    Attributes:
        module: where it was made, or to which it belongs.
        what: the operation that made it, or the name of the input or parameter.
        kind: "operation", "input", "parameter" or "buffer".
        letters: its shape in letters, for instance "(B, A, T, D)".
        shape: its shape in numbers.
    """

    module: str
    what: str
    kind: str
    letters: str
    shape: tuple[int, ...]


@dataclass
class Ledger:
    """What `trace_shapes` found.

    Attributes:
        rows: every tensor, in forward order.
        sizes: the letters with their values in this pass.
        notes: what could not be told apart.
    """

    rows: list[LedgerRow]
    sizes: dict[str, int]
    notes: list[str]

    def __str__(self) -> str:
        width = max(len(row.module) for row in self.rows)
        what = max(len(row.what) for row in self.rows)
        letters = max(len(row.letters) for row in self.rows)
        lines, before = [], None
        for row in self.rows:
            module = row.module if row.module != before else ""
            before = row.module
            lines.append(f"{module:{width}}  {row.what:{what}}  {row.letters:{letters}}  {row.shape}")
        used = [name for name in self.sizes if any(name in row.letters for row in self.rows)]
        legend = ", ".join(f"{name} = {self.sizes[name]} ({MEANINGS.get(name, 'given')})" for name in used)
        return "\n".join([*lines, "", legend, *self.notes])

    def __repr__(self) -> str:
        return f"<Ledger of {len(self.rows)} tensors>"


@dataclass
class Run:
    """One pass, of the model or of its twin, with the values of the letters in it."""

    tape: Tape
    sizes: dict[str, int]
    is_twin: bool = False

    def operations(self) -> list[Step]:
        return [step for step in self.tape.steps if step.kind == "operation"]

    def way(self) -> list[str]:
        """What was done, one after the other."""
        return [step.name for step in self.operations()]

    def like(self, step: Step) -> Step | None:
        """This pass's input, parameter or buffer of the same name."""
        return next((s for s in self.tape.steps if s.kind == step.kind and s.name == step.name), None)


def trace_shapes(model: nn.Module, batch, *, sizes: dict[str, int] | None = None) -> Ledger:
    """Prints every tensor of a forward pass in order, with its shape in letters, and returns the ledger.

    Inputs and parameters stand before the operation that reads them first. The fused attention of PyTorch is
    written out, so that scores and probabilities are there too.

    Args:
        model: any module. With a `config` (H, A, ... by the published names) its sizes get their letters.
        batch: what to call it with.
        sizes: further letters for a model without a config, such as {"H": 32}.

    Raises:
        ValueError: when the batch is on another device than the model.
    """
    runs = list(runs_of(model, batch, sizes or {}))
    letters = _Letters(runs)
    rows, shown = [], set()
    for steps in zip(*(run.operations() for run in runs)):
        for ref in steps[0].refs:
            source = runs[0].tape.steps[ref.step]
            if source.kind in ("input", "parameter", "buffer") and source.number not in shown:
                shown.add(source.number)
                rows.append(_row(source, 0, letters.of([run.like(source) for run in runs], 0)))
        for number, output in enumerate(steps[0].outputs):
            if output.dim() > 0:
                rows.append(_row(steps[0], number, letters.of(steps, number)))
    values = dict(runs[0].sizes)
    for row in rows:
        names = row.letters.strip("(,)").split(", ")
        if "N" in names:
            values.setdefault("N", row.shape[names.index("N")])
    ledger = Ledger(rows, values, letters.notes())
    print(ledger)
    return ledger


def _row(step: Step, number: int, letters: list[str]) -> LedgerRow:
    module, what = step.where, step.name
    if step.kind == "input":
        module = "(input)"
    elif step.kind != "operation":
        module, _, what = step.name.rpartition(".")
    if len(step.outputs) > 1:
        what += f" {number + 1}/{len(step.outputs)}"
    text = f"({', '.join(letters)}{',' if len(letters) == 1 else ''})"
    return LedgerRow(module or "(the model)", what, step.kind, text, tuple(step.outputs[number].shape))


class _Letters:
    """Finds for a size the letter that holds in every run."""

    def __init__(self, runs: list[Run]):
        self.runs = runs
        self.has_twin = any(run.is_twin for run in runs)
        self.unclear: set[tuple[int, tuple[str, ...]]] = set()
        names = list(runs[0].sizes)
        self.single = [((name,), 1, name) for name in names]
        self.others = [((n,), times, f"{times}{n}") for n in "HDTB" if n in names for times in (2, 3, 4)]
        for pair in ("BT", "BA", "AT", "TH", "TT", "TD"):
            if all(name in names for name in pair):
                self.others.append((tuple(pair), 1, pair))

    def of(self, steps: list[Step | None], number: int) -> list[str]:
        """The letters of one tensor, given what made it in each run."""
        shape = steps[0].outputs[number].shape
        seen = []  # (sizes, shape) of each run that has this tensor
        for run, step in zip(self.runs, steps):
            if step is not None and number < len(step.outputs) and step.outputs[number].dim() == len(shape):
                seen.append((run.sizes, step.outputs[number].shape))
        return [self.letter([(sizes, other[axis]) for sizes, other in seen]) for axis in range(len(shape))]

    def letter(self, seen: list[tuple[dict, int]]) -> str:
        """The letter of one size, from its values in the runs; the number where none holds, or several do."""
        values = [value for _, value in seen]
        if all(value == 1 for value in values):
            return "1"
        changes = len(set(values)) > 1
        # Without a twin, 16 is 2H and many other things, and 2 is anything; what changes with B or T is not.
        groups = [self.single, self.others] if changes or self.has_twin else [self.single]
        for group in groups:
            fits = [
                text
                for letters, times, text in group
                if all(times * math.prod(sizes[name] for name in letters) == value for sizes, value in seen)
            ]
            if not (self.has_twin or changes) and values[0] <= SMALL_NUMBER:
                fits = []
            if len(fits) == 1:
                return fits[0]
            if fits:
                self.unclear.add((values[0], tuple(fits)))
                return str(values[0])
        return "N" if changes else str(values[0])

    def notes(self) -> list[str]:
        notes = [
            f"{value} may be {' or '.join(names)}: it stands as a number" for value, names in self.unclear
        ]
        if not self.has_twin and set(self.runs[0].sizes) - {"B", "T"}:
            notes.append("no twin of this model could be built, so letters of fixed sizes go by their values")
        return sorted(notes)


# ---- The runs ----------------------------------------------------------------------------------------------


def runs_of(model: nn.Module, batch, given: dict[str, int]) -> Iterator[Run]:
    """The pass asked for, then others with other sizes, as far as they go the same way."""
    B, T = batch_and_length(batch)
    sizes = {"B": B} | ({"T": T} if T else {}) | letters_of(getattr(model, "config", None)) | given
    with undisturbed(model):
        first = Run(Tape.of(model, batch), sizes)
    yield first
    shorter = T - 1 if T and T > 2 else T and T + 1
    others = [(model, B + 1, shorter, None), (model, B + 1, T, None)]
    for other, rows, length, modulo in [*others, (twin_of(model), TWIN_B, T and TWIN_T, 2)]:
        if other is None:
            continue
        known = sizes | letters_of(getattr(other, "config", None)) | given
        known |= {"B": rows} | ({"T": length} if length else {})
        try:
            with undisturbed(other):
                run = Run(Tape.of(other, resized(batch, rows, length, modulo)), known, other is not model)
        except (RuntimeError, ValueError, IndexError, TypeError):  # it does not take these sizes
            continue
        if run.way() == first.way():
            yield run


def letters_of(config) -> dict[str, int]:
    """The letters that a config gives values to."""
    found = {letter: getattr(config, name, None) for name, letter in LETTERS.items()}
    letters = {letter: value for letter, value in found.items() if isinstance(value, int)}
    if "H" in letters and letters.get("A") and letters["H"] % letters["A"] == 0:
        letters["D"] = letters["H"] // letters["A"]
    return letters


def twin_of(model: nn.Module) -> nn.Module | None:
    """A small model of the same class and depth in which no two sizes are alike; None if there is none."""
    config = getattr(model, "config", None)
    if config is None or not all(hasattr(config, name) for name in TWIN):
        return None
    config = copy.deepcopy(config)
    with unchanged_randomness():
        try:
            for name, value in TWIN.items():
                setattr(config, name, value)
            config.pad_token_id = 0
            twin = type(model)(config)
            twin.train(model.training)
            return twin.to(next(model.parameters()).device)
        except Exception:  # whatever a stranger's class raises: then there is no twin
            return None


def resized(batch, rows: int, length: int | None, modulo: int | None = None):
    """The batch with another B and T: rows and tokens repeated or left out.

    Args:
        modulo: make whole numbers at least 0 smaller than this, for a model with smaller tables.
    """
    B, T = batch_and_length(batch)

    def change(part):
        if not isinstance(part, Tensor):
            return part
        if part.dim() > 0 and part.shape[0] == B:
            part = part[torch.arange(rows, device=part.device) % B]
            if length and part.dim() > 1 and part.shape[1] == T:
                part = part[:, torch.arange(length, device=part.device) % T]
        if modulo and not part.is_floating_point() and part.dtype != torch.bool:
            part = torch.where(part < 0, part, part % modulo)
        return part

    positional, named = as_call(batch)
    return changed(named, change) if not positional else changed(positional, change)
