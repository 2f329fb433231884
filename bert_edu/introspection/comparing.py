"""First divergence: where do two models that should agree part ways, by how much, and why (chapter 8)?

Both models run on the same batch, and every tensor of both passes is kept. A tensor of mine that occurs in
the reference too agrees, whatever the modules around it are called. The first one that does not, and from
which nothing follows that does, is the first divergence (`walking`). Causes are tried out in `explaining`.
"""

import contextlib
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .calling import (
    as_call,
    batch_and_length,
    changed,
    check_devices,
    device_of,
    real_positions,
    undisturbed,
)
from .explaining import Cause, causes_of
from .matching import TOLERANCE, Eyes, relevant_refs
from .parameters import ParameterPair
from .tape import Tape
from .walking import Walk
from .wording import place

MOST_TOKENS = 512  # more rows are left out: every tensor of both passes is kept, in double precision
MOST_PAIRS = 6  # of parameters that differ, so many are printed
SIZES = ("num_hidden_layers", "hidden_size", "vocab_size", "intermediate_size")
LABELS = ("labels", "label", "start_positions", "end_positions")  # how names of labels end


@dataclass
class Place:
    """The first divergence.

    Attributes:
        mine, reference: the modules in which it is, by their names; "" is the model itself.
        operation, reference_operation: what they were doing.
        shape: of the first tensors that can be held against each other.
        difference: the largest absolute difference between them, over what is no padding.
        relative: the same as a share of the reference's largest value.
        before: how many tensors agree before it, in words.
    """

    mine: str
    reference: str
    operation: str
    reference_operation: str
    shape: tuple[int, ...]
    difference: float
    relative: float
    before: str


@dataclass
class ComparedTensor:
    """Two tensors, one of each model, that the same parameter had a part in.

    Attributes:
        mine, reference: the modules that made them.
        shape: of mine's.
        difference, relative: as in `Place`.
    """

    mine: str
    reference: str
    shape: tuple[int, ...]
    difference: float
    relative: float


@dataclass
class Comparison:
    """What `compare` found; printed, it is the report.

    Attributes:
        agree: whether all outputs are the same.
        summary: one sentence.
        first: the first divergence, or None.
        causes: what was tried out and reproduces mine's numbers, best first; empty when nothing does.
        parameters: those pairs of parameters that differ.
        outputs: (name, largest difference, the same as a share) of each output.
        rows: tensors held against each other in forward order, before the divergence and after it.
        notes: what else is worth knowing.
    """

    agree: bool
    summary: str
    first: Place | None = None
    causes: list[Cause] = field(default_factory=list)
    parameters: list[ParameterPair] = field(default_factory=list)
    outputs: list[tuple[str, float, float]] = field(default_factory=list)
    rows: list[ComparedTensor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.summary]
        if self.first:
            lines += ["", "First divergence", *_place_lines(self.first), "", "Likely cause"]
            lines += [f"  {number}. {cause}" for number, cause in enumerate(self.causes, 1)]
        if self.first and not self.causes:
            lines += [
                "  nothing that was tried reproduces mine's numbers: look at the two places side by side"
            ]
        if self.parameters:
            lines += ["", f"Parameters that differ: {len(self.parameters)}"]
            lines += [f"  {pair}" for pair in self.parameters[:MOST_PAIRS]]
            lines += ["  ..."] if len(self.parameters) > MOST_PAIRS else []
        if self.notes:
            lines += ["", "Notes", *(f"  - {note}" for note in self.notes)]
        return "\n".join(lines)


def _place_lines(first: Place) -> list[str]:
    lines = [
        f"  mine        {first.mine or '(the model itself)'}: {first.operation}",
        f"  reference   {first.reference or '(the model itself)'}: {first.reference_operation}",
    ]
    if not math.isnan(first.difference):
        share = f"{_percent(first.relative)} of the largest value"
        lines.append(f"  tensors     {first.shape}, apart by {first.difference:.3g} at most: {share}")
    return [*lines, f"  before it   {first.before}"]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if 0.1 <= share < math.inf else f"{100 * share:.2g} %"


def compare(mine: nn.Module, reference: nn.Module, batch, *, reference_batch=None) -> Comparison:
    """Walks two models in forward order and names the first tensor in which they differ, and why.

    Any two modules that should compute the same will do: the book's, your own, those of `transformers`. They
    run in double precision where they can, so that a difference of method is not taken for one of rounding;
    afterwards parameters, buffers and random state are as they were, bit for bit.

    Args:
        mine: the model under suspicion.
        reference: the model to trust.
        batch: what both are called with: a tensor, a tuple, a mapping, an `Encoding`. Padding, two segments
            and a few rows show most. Of more than 512 tokens only the first rows are used. Labels are left
            out first, and looked at when all agrees without them.
        reference_batch: what the reference is called with, where its arguments have other names.

    Raises:
        ValueError: when the models have different depths or sizes, or the batch is on another device.
        TypeError: when one of them is no module, or the batch holds no tensor.
    """
    batches = (batch, batch if reference_batch is None else reference_batch)
    for name, model, its_batch in zip(("mine", "the reference"), (mine, reference), batches):
        if not isinstance(model, nn.Module):
            raise TypeError(f"{name} must be a torch.nn.Module, not a {type(model).__name__}")
        check_devices(model, as_call(its_batch), name)
    _check_sizes(mine, reference)
    if any(_labels_of(its_batch) for its_batch in batches):
        try:
            found = _compared(mine, reference, [_without_labels(its_batch) for its_batch in batches])
        except TypeError:  # one of them insists on its labels
            found = None
        if found is not None and not found.agree:
            found.notes.append("this is without the labels: what comes before the loss differs already")
            return found
    return _compared(mine, reference, batches)


def _compared(mine: nn.Module, reference: nn.Module, batches) -> Comparison:
    cut = [few_rows(batch) for batch in batches]
    for name, model, batch in zip(("mine", "the reference"), (mine, reference), cut):
        random = first_chance(model, batch)
        if random:
            return _random_report(name, model, *random)
    tapes, precision = _run_both((mine, reference), cut)
    B, T = batch_and_length(cut[0])
    eyes = Eyes(B, T, real_positions(cut[0]), TOLERANCE[precision])
    walk = Walk(mine, reference, *tapes, eyes)
    outputs = [(name, a, b, *walk.apart(a, b)) for name, a, b in walk.paired_outputs()]
    differing = [output for output in outputs if not eyes.same(output[1], output[2])]
    result = Comparison(
        agree=not differing,
        summary=_summary(outputs, differing),
        parameters=[pair for pair in walk.pairs if not pair.equal],
        outputs=[(name, *apart) for name, _, _, *apart in outputs],
        rows=_rows(walk),
        notes=walk.notes(cut[0]),
    )
    if B > batch_and_length(batches[0])[0]:
        result.notes.append(f"compared on the first {B} rows")
    if precision != torch.float64:
        where = first_of_type(tapes, precision)
        result.notes.append(f"{where} computes in {precision}: what differs by rounding then is not seen")
    if differing:
        _explain(result, walk, [(a, b) for _, a, b, *_ in differing], reference, mine)
    return result


def _summary(outputs: list, differing: list) -> str:
    if differing:
        return f"The two models differ in {', '.join(output[0] for output in differing)}."
    names = ", ".join(output[0] for output in outputs)
    return f"The two models agree in {names}: the largest difference is {max(o[3] for o in outputs):.2g}."


def _explain(result: Comparison, walk: Walk, outputs: list[tuple[Tensor, Tensor]], reference, mine):
    difference = walk.difference(outputs)
    first = difference.my_first
    step, its_step = walk.my_tape.steps[first.step], walk.its_tape.steps[difference.its_first.step]
    pair = walk.comparable(difference)
    apart = walk.apart(walk.my_tape[pair[0]], walk.its_tape[pair[1]]) if pair else (math.nan, math.nan)
    result.first = Place(
        walk.place_in_mine(difference),
        its_step.where,
        step.name,
        its_step.name,
        tuple(walk.my_tape[pair[0] if pair else first].shape),
        *apart,
        walk.agreed_before(difference),
    )
    if bool(walk.my_tape[first].isnan().any()):
        result.notes.append(f"mine has NaN from `{step.name}` in {place(step)} on")
    config = getattr(reference, "config", None) or getattr(mine, "config", None)
    result.causes = causes_of(difference, walk.eyes, walk.pairs, config)


def _rows(walk: Walk) -> list[ComparedTensor]:
    rows = []
    for mine, its in sorted(walk.partners.items()):
        step, its_step = walk.my_tape.steps[mine], walk.its_tape.steps[its]
        a, b = step.outputs[0], its_step.outputs[0]
        if walk.eyes.shape(a) == walk.eyes.shape(b):
            rows.append(ComparedTensor(step.where, its_step.where, tuple(a.shape), *walk.eyes.apart(a, b)))
    return rows


# ---- Before the walk ---------------------------------------------------------------------------------------


def first_chance(model: nn.Module, batch) -> tuple[str, str] | None:
    """Where chance first has a part in a model's numbers: (module, operation); None when it has none."""
    with undisturbed(model):
        first = Tape.of(model, batch)
    with undisturbed(model):
        torch.rand(1, device=device_of(model))  # so that the generators stand elsewhere
        second = Tape.of(model, batch)
    for one, other in zip(first.steps, second.steps):
        for a, b in zip(one.outputs, other.outputs):
            if a.shape != b.shape or not torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True):
                return one.where, one.name
    return None


def _random_report(name: str, model: nn.Module, where: str, operation: str) -> Comparison:
    here = f"`{operation}` in {where or 'the model itself'}"
    advice = "draws random numbers there although it is in evaluation mode: a dropout that stays on"
    if model.get_submodule(where).training:
        advice = "draws random numbers there, as dropout does in training: call .eval() before you compare"
    nan = float("nan")
    return Comparison(
        agree=False,
        summary=f"{name[0].upper()}{name[1:]} gives other numbers each time, from {here} on.",
        first=Place(where, where, operation, operation, (), nan, nan, "not compared"),
        causes=[Cause(advice, nan, True, who=name)],
    )


def few_rows(batch):
    """The batch, or of more than 512 tokens its first rows, two at least."""
    B, T = batch_and_length(batch)
    rows = max(2, MOST_TOKENS // (T or 1))
    if B <= rows:
        return batch

    def cut(part):
        is_batch = isinstance(part, Tensor) and part.dim() > 0 and part.shape[0] == B
        return part[:rows] if is_batch else part

    positional, named = as_call(batch)
    return changed(positional, cut) if positional else changed(named, cut)


def _run_both(models, batches) -> tuple[list[Tape], torch.dtype]:
    """Both tapes, and the least precise type that took part in them."""
    try:
        tapes = [in_double(model, batch) for model, batch in zip(models, batches)]
    except RuntimeError:  # a part insists on a type of its own, and types cannot be mixed
        tapes = []
        for model, batch in zip(models, batches):
            with undisturbed(model):
                tapes.append(Tape.of(model, batch))
    types = {tape[ref].dtype for tape in tapes for ref in relevant_refs(tape)}
    return tapes, max(types & TOLERANCE.keys(), key=TOLERANCE.get, default=torch.float64)


def first_of_type(tapes: list[Tape], dtype: torch.dtype) -> str:
    """The first module, of mine or of the reference, that gives out numbers of a type."""
    for name, tape in zip(("mine", "the reference"), tapes):
        for ref in relevant_refs(tape):
            if tape[ref].dtype == dtype:
                return f"`{tape.steps[ref.step].name}` in {place(tape.steps[ref.step])} of {name}"
    return "no part"


def in_double(model: nn.Module, batch) -> Tape:
    """A pass in double precision, in which nothing that matters hides below rounding."""

    def double(part):
        return part.double() if isinstance(part, Tensor) and part.is_floating_point() else part

    positional, named = as_call(batch)
    batch = changed(positional, double) if positional else changed(named, double)
    with undisturbed(model, torch.float64), default_type(torch.float64):
        return Tape.of(model, batch)


@contextlib.contextmanager
def default_type(dtype: torch.dtype):
    """New tensors of real numbers get this type meanwhile."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _labels_of(batch) -> list[str]:
    """The names of a batch's labels."""
    return [name for name, part in as_call(batch)[1].items() if name.endswith(LABELS) and part is not None]


def _without_labels(batch):
    labels = _labels_of(batch)
    return {name: part for name, part in as_call(batch)[1].items() if name not in labels} if labels else batch


def _check_sizes(mine: nn.Module, reference: nn.Module):
    """Models of other sizes than each other cannot agree: says so before anything runs."""
    configs = [getattr(model, "config", None) for model in (mine, reference)]
    for name in SIZES:
        a, b = (getattr(config, name, None) for config in configs)
        if a is not None and b is not None and a != b:
            raise ValueError(
                f"{name} is {a} in mine and {b} in the reference: compare models of the same sizes"
            )
    a, b = _depth(mine), _depth(reference)
    if a and b and a != b:
        raise ValueError(f"mine has {a} layers and the reference {b}: compare two models of the same depth")


def _depth(model: nn.Module) -> int:
    """The number of layers: the length of the outermost list or chain of equal modules; 0 without one.

    Lists further inside may hold a layer's heads, and a list of modules without parts may hold all norms.
    """
    lists = [
        part for part in model.modules() if isinstance(part, (nn.ModuleList, nn.Sequential)) and len(part)
    ]
    equal = [part for part in lists if len({type(layer) for layer in part}) == 1]
    return next(
        (len(part) for part in equal if isinstance(part, nn.Sequential) or any(part[0].children())), 0
    )
