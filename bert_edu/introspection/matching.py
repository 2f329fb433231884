"""Which tensors of two tapes are the same: found by their numbers, whatever the modules are called."""

import math
from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .tape import Ref, Step, Tape

# How far two tensors may be apart, as a share of the largest value, and still be the same: some hundred
# roundings of the least precise type that took part.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}


class Eyes:
    """How tensors are looked at: which of their entries count, and how near is equal.

    Entries under the padding do not count, since nobody reads them. Axes of size 1 do not count either, and
    tokens in one axis (B T, H) are the same as in two (B, T, H), also with the length first (T, B, H), and
    heads in one axis with the rows (B A, T, D) the same as in their own (B, A, T, D).

    Args:
        B, T: sizes of the batch; T is None when there are no tokens.
        real: (B, T), True at tokens that are no padding; or None.
        tolerance: the largest difference of equal tensors, as a share of the largest value.
    """

    def __init__(self, B: int, T: int | None, real: Tensor | None, tolerance: float):
        self.B, self.T, self.real, self.tolerance = B, T, real, tolerance
        self._kept: dict[tuple, Tensor] = {}  # for each shape the entries that count

    def arranged(self, tensor: Tensor) -> Tensor:
        """The tensor with batch and tokens in front, in this order."""
        B, T = self.B, self.T
        if T and B > 1 and T > 1:
            if tensor.dim() == 2 and tensor.shape[0] == B * T:
                return tensor.view(B, T, -1)
            if tensor.dim() >= 3 and tensor.shape[:2] == (T, B) and T != B:
                return tensor.transpose(0, 1)
            if (
                tensor.dim() == 3
                and tensor.shape[0] > B
                and tensor.shape[0] % B == 0
                and tensor.shape[1] == T
            ):
                return tensor.unflatten(0, (B, -1))
        return tensor

    def seen(self, tensor: Tensor) -> Tensor:
        """The entries that count, in one row (N,) of double precision."""
        tensor = self.arranged(tensor)
        if self.real is None or tensor.dim() < 2 or tensor.shape[0] != self.B:
            return tensor.reshape(-1).double()
        key = (tuple(tensor.shape), tensor.device)
        if key not in self._kept:
            keep = torch.ones(tensor.shape, dtype=torch.bool, device=tensor.device)
            for axis in range(1, tensor.dim()):
                if tensor.shape[axis] == self.T:  # every axis that counts tokens: queries and keys, say
                    shape = [self.B] + [1] * (tensor.dim() - 1)
                    shape[axis] = self.T
                    keep &= self.real.to(tensor.device).view(shape)
            self._kept[key] = keep.flatten().nonzero().flatten()
        return tensor.reshape(-1)[self._kept[key]].double()

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        return tuple(size for size in self.arranged(tensor).shape if size != 1)

    def same(self, a: Tensor, b: Tensor) -> bool:
        """Whether two tensors agree in every entry that counts."""
        return self.shape(a) == self.shape(b) and _near(self.seen(a), self.seen(b), self.tolerance)

    def apart(self, a: Tensor, b: Tensor) -> tuple[float, float]:
        """The largest difference, absolute and as a share of the largest value of `b`."""
        a, b = self.seen(a), self.seen(b)
        if a.numel() == 0:
            return 0.0, 0.0
        apart = torch.where(a == b, 0.0, (a - b).abs())  # two infinities are not apart
        largest = float(apart.max())
        finite = b[b.isfinite()].abs()
        scale = float(finite.max()) if finite.numel() else 0.0
        if math.isnan(largest):
            return math.inf, math.inf
        return largest, largest / scale if scale > 0 else math.inf if largest else 0.0


@dataclass
class Entry:
    """A tensor of an index: where it is, its numbers, its fingerprint and how near another's must be."""

    ref: Ref
    row: Tensor
    mark: float
    room: float


@dataclass
class Index:
    """Tensors to be found by their numbers."""

    eyes: Eyes
    entries: dict = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, tape: Tape, refs: list[Ref], eyes: Eyes) -> "Index":
        """An index of some of a tape's tensors, and of the heads of those that have heads (B, A, T, ...)."""
        index = cls(eyes)
        for ref in refs:
            index.add(ref, tape[ref])
            for head in index.heads(tape[ref]):
                index.add(ref, head)
        return index

    def heads(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The heads of a tensor, since some models compute one at a time."""
        tensor = self.eyes.arranged(tensor)
        return tensor.unbind(1) if tensor.dim() == 4 and tensor.shape[0] == self.eyes.B else ()

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is held, whole or head by head."""
        heads = self.heads(tensor)
        return bool(self.find(tensor)) or bool(heads) and all(self.find(head) for head in heads)

    def add(self, ref: Ref, tensor: Tensor):
        row = _finite(self.eyes.seen(tensor))
        if says_something(row):
            # By so much a fingerprint may move when each number moves by the tolerance.
            room = self.eyes.tolerance * math.sqrt(len(row)) * float(row.abs().max())
            self.entries[self.eyes.shape(tensor)].append(Entry(ref, row, _fingerprint(row), room))

    def find(self, tensor: Tensor) -> list[Ref]:
        """All held tensors that are the same as this one."""
        bucket = self.entries.get(self.eyes.shape(tensor))
        if not bucket:
            return []
        row = _finite(self.eyes.seen(tensor))
        mark = _fingerprint(row)
        near = [entry for entry in bucket if abs(mark - entry.mark) <= entry.room]
        return [entry.ref for entry in near if _near(row, entry.row, self.eyes.tolerance)]


def says_something(row: Tensor) -> bool:
    """A tensor whose entries are all alike, or that has none, says nothing about where it comes from."""
    return row.numel() > 1 and bool(row.isfinite().all()) and bool(row.min() != row.max())


def _finite(row: Tensor) -> Tensor:
    """Hidden scores of minus infinity and of -10000 hide alike; NaN stays."""
    return torch.where(row.isinf(), 0.0, row)


def _near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if a.shape != b.shape:
        return False
    if a.numel() == 0:
        return True
    a, b = _finite(a), _finite(b)
    return bool((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-300))


_RULERS: dict[tuple[int, str], Tensor] = {}


def _fingerprint(row: Tensor) -> float:
    """One number of a row: its product with a fixed random direction. Other numbers, other fingerprint."""
    key = (len(row), str(row.device))
    if key not in _RULERS:
        generator = torch.Generator().manual_seed(len(row))
        ruler = torch.randn(len(row), generator=generator, dtype=torch.float64)
        _RULERS[key] = (ruler / ruler.norm()).to(row.device)
    return float(row @ _RULERS[key])


# ---- What depends on what ----------------------------------------------------------------------------------


def relevant_refs(tape: Tape) -> list[Ref]:
    """What a comparison is about: real numbers made with a parameter, but not of parameters only."""
    uses, only = {}, {}  # by step: was a parameter used; is it made of nothing else
    found = []
    for step in tape.steps:
        if step.kind != "operation":
            is_weight = step.kind in ("parameter", "buffer") and step.outputs[0].is_floating_point()
            uses[step.number] = only[step.number] = is_weight
            continue
        came = [ref.step for ref in step.refs]
        uses[step.number] = any(uses[number] for number in came)
        only[step.number] = bool(came) and all(only[number] for number in came)
        if uses[step.number] and not only[step.number]:
            for number, output in enumerate(step.outputs):
                if output.is_floating_point():
                    found.append(Ref(step.number, number))
    return found


def ancestors(tape: Tape, refs: list[Ref]) -> set[int]:
    """The steps that something was computed from, itself included."""
    found, waiting = set(), [ref.step for ref in refs]
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting += [ref.step for ref in tape.steps[number].refs]
    return found


def unexplained(tape: Tape, refs: list[Ref], matched: set[Ref]) -> list[Ref]:
    """The tensors that do not occur in the other model, and from which nothing follows that does.

    The second half tells a mistake from another way of computing the same: queries, keys and values in one
    matrix have no counterpart in a model with three, but what is made of them has. For the same reason a sum
    that is only made to be added to is left out: others add the same in another order.
    """
    readers: dict[Ref, list[Step]] = defaultdict(list)
    for step in tape.steps:
        for ref in step.refs:
            readers[ref].append(step)
    leads_on: dict[int, bool] = defaultdict(
        bool
    )  # by step: whether one of its outputs is matched, or leads on
    dead = []
    for step in reversed(tape.steps):
        for number in range(len(step.outputs)):
            ref = Ref(step.number, number)
            good = ref in matched or any(leads_on[reader.number] for reader in readers[ref])
            leads_on[step.number] = leads_on[step.number] or good
            partial_sum = step.name == "add" and [reader.name for reader in readers[ref]] == ["add"]
            if not good and not partial_sum:
                dead.append(ref)
    relevant = set(refs)
    return [ref for ref in reversed(dead) if ref in relevant]
