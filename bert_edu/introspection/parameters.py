"""Which parameter of one model is which of another, and which of them differ."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..pretrained import PretrainedMixin, published_names


@dataclass
class Piece:
    """A parameter, or the third of one that a fused matrix keeps for queries, keys or values.

    Attributes:
        name: the parameter's name in its model.
        shared_name: what it would be called in a published file; the key to find it in another model.
        value: its numbers; a view, not a copy.
        part: which of how many parts along the first axis, (0, 1) for the whole.
    """

    name: str
    shared_name: str
    value: Tensor
    part: tuple[int, int] = (0, 1)

    def __str__(self) -> str:
        number, of = self.part
        return self.name if of == 1 else f"{self.name} (part {number + 1} of {of})"


@dataclass
class ParameterPair:
    """A parameter of mine beside its counterpart in the reference.

    Attributes:
        mine, reference: the two.
        verdict: "" when they are equal; otherwise what is the matter, in words.
        difference: the largest absolute difference; infinite when the shapes differ.
    """

    mine: Piece
    reference: Piece
    verdict: str = ""
    difference: float = 0.0

    @property
    def equal(self) -> bool:
        return not self.verdict

    def __str__(self) -> str:
        return f"{self.mine} against {self.reference}: {self.verdict or 'equal'}"


def pieces_of(model: nn.Module) -> list[Piece]:
    """A model's parameters under the names that published checkpoints use, fused matrices in their parts."""
    pieces = []
    for name, parameter in model.named_parameters():
        value = parameter.detach()
        if not isinstance(model, PretrainedMixin):
            pieces.append(Piece(name, name.removeprefix("bert."), value))
            continue
        shared = published_names(name)
        for number, (part, chunk) in enumerate(zip(shared, value.chunk(len(shared)))):
            pieces.append(Piece(name, part, chunk, (number, len(shared))))
    return pieces


def pair_parameters(
    mine: nn.Module, reference: nn.Module
) -> tuple[list[ParameterPair], list[str], list[str]]:
    """Finds each parameter's counterpart: by name, then by its numbers, then by shape and order.

    Returns:
        The pairs in the order of `mine`; the names that only mine has; those that only the reference has.
    """
    ours, theirs = pieces_of(mine), pieces_of(reference)
    pairs: dict[int, ParameterPair] = {}
    left = list(theirs)

    def take(fits):
        for number, piece in enumerate(ours):
            if number in pairs:
                continue
            for other in left:
                if fits(piece, other):
                    pairs[number] = judged(piece, other)
                    left.remove(other)
                    break

    by_name = {piece.shared_name: piece for piece in theirs}
    take(lambda piece, other: by_name.get(piece.shared_name) is other)
    ours = _in_thirds(ours, pairs, left)
    take(lambda piece, other: _same_numbers(piece.value, other.value))
    take(lambda piece, other: piece.value.dim() == 2 and _same_numbers(piece.value.T, other.value))
    take(lambda piece, other: piece.value.shape == other.value.shape)
    only_mine = [str(piece) for number, piece in enumerate(ours) if number not in pairs]
    found = [pairs[number] for number in sorted(pairs)]
    for pair in found:
        if not pair.equal and pair.verdict != "transposed":
            _recognise(pair, theirs)
    return found, only_mine, [str(piece) for piece in left]


def _recognise(pair: ParameterPair, theirs: list[Piece]):
    """A parameter with the wrong numbers may have those of another one: two were exchanged."""
    for other in theirs:
        constant = bool((other.value == other.value.flatten()[0]).all())
        if not constant and _same_numbers(pair.mine.value, other.value):
            pair.verdict = f"it has the numbers of {other}"
            return


def judged(mine: Piece, reference: Piece) -> ParameterPair:
    """The pair with its verdict."""
    a, b = mine.value, reference.value.to(mine.value.device, mine.value.dtype)
    if a.shape == b.shape and torch.equal(a, b):
        return ParameterPair(mine, reference)
    if a.dim() == 2 and _same_numbers(a.T, b):
        return ParameterPair(
            mine, reference, "transposed", float("inf") if a.shape != b.shape else _apart(a, b)
        )
    if a.shape != b.shape:
        return ParameterPair(mine, reference, f"shape {tuple(a.shape)}, not {tuple(b.shape)}", float("inf"))
    return ParameterPair(mine, reference, f"largest difference {_apart(a, b):.2g}", _apart(a, b))


def _in_thirds(ours: list[Piece], pairs: dict, left: list[Piece]) -> list[Piece]:
    """Cuts a matrix that has no counterpart in three where the reference has only its thirds."""
    shapes = {other.value.shape for other in left}
    split, moved = [], {}
    for number, piece in enumerate(ours):
        rows = piece.value.shape[0] if piece.value.dim() else 0
        third = torch.Size([rows // 3, *piece.value.shape[1:]])
        if number not in pairs and rows % 3 == 0 and piece.value.shape not in shapes and third in shapes:
            split += [
                Piece(piece.name, f"{piece.name}.{part}", chunk, (part, 3))
                for part, chunk in enumerate(piece.value.chunk(3))
            ]
            continue
        if number in pairs:
            moved[len(split)] = pairs[number]
        split.append(piece)
    pairs.clear()
    pairs.update(moved)
    return split


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b.to(a.device, a.dtype))


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())
