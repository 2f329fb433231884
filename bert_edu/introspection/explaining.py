"""Why do two models differ? Causes are tried out, not looked up.

The tape of the reference is a program. One thing in it is changed at a time: an operation is left out, done
as mine does it, moved, given another tensor to read. The changed program is played again, from tensors on
which both models agree. Where it then gives, number for number, what mine computed, the change says what mine
does differently. A change that reproduces nothing is no cause, however likely it sounds. `ideas` has the
changes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .ideas import Change, Ideas
from .matching import Eyes, Index, ancestors
from .parameters import ParameterPair
from .tape import Ref, Step, Tape
from .wording import place

FIRST_STEPS = 30  # how many of a program's unmatched steps are changed, one at a time
FEW_STEPS = 5
HORIZON = 60  # how many steps further a changed program is played before the first look
MOST_CAUSES = 3
ADDED = "does something that the reference does not: "


@dataclass
class Cause:
    """Something that mine does differently, and that was tried out.

    Attributes:
        text: what it is, in words, seen from mine.
        difference: how far mine's outputs then are from the changed reference's, as a share of the largest.
        to_the_end: whether all outputs agree once this is taken into account; if not, there is more.
        explained: how many of mine's tensors without counterpart it accounts for.
        next_place: where the two differ next, when not `to_the_end`.
        who: does it.
    """

    text: str
    difference: float
    to_the_end: bool
    explained: int = 0
    next_place: str = ""
    who: str = "mine"

    @property
    def worth(self) -> tuple[bool, int]:
        return self.to_the_end, self.explained

    def __str__(self) -> str:
        if self.to_the_end:
            return f"{self.who} {self.text}. That accounts for all of the difference."
        rest = f"; the next difference is in {self.next_place}" if self.next_place else ""
        tensors = "one tensor" if self.explained == 1 else f"{self.explained} tensors"
        return f"{self.who} {self.text}. That accounts for {tensors}{rest}."


@dataclass
class Difference:
    """Two tapes that part ways.

    Attributes:
        mine, its: the tapes.
        my_dead, its_dead: the tensors without counterpart, in forward order; the first divergence first.
        agreed: the reference's tensors that occur in mine.
        outputs: (mine, the reference's) of the outputs that differ; None for one that is not on its tape.
    """

    mine: Tape
    its: Tape
    my_dead: list[Ref]
    its_dead: list[Ref]
    agreed: set[Ref]
    outputs: list[tuple[Ref | None, Ref | None]]

    def turned(self) -> "Difference":
        """The same with the roles exchanged."""
        outputs = [(its, mine) for mine, its in self.outputs]
        return Difference(self.its, self.mine, self.its_dead, self.my_dead, set(), outputs)

    @property
    def my_first(self) -> Ref:
        return self.my_dead[0]

    @property
    def its_first(self) -> Ref:
        return self.its_dead[0]


def causes_of(difference: Difference, eyes: Eyes, pairs: list[ParameterPair], config=None) -> list[Cause]:
    """The changes that reproduce mine's numbers, those that explain most first.

    One that explains everything is enough. Otherwise all that explain most are returned, three at most.

    Args:
        pairs: mine's parameters with their counterparts.
        config: sizes, to give numbers their names: 2.828 is sqrt(D).
    """
    turned = difference.turned()
    search, back = _Search(difference, eyes), _Search(turned, eyes)
    ideas = Ideas(difference.mine, difference.its, back.first_steps(), difference.agreed, pairs, config)
    turned_ideas = Ideas(turned.mine, turned.its, [], set(), [], config)
    weights = ideas.all_other_weights()
    if weights:
        cause = search.judged(weights.text, weights.rewrite(None))
        if cause and cause.to_the_end:
            return [cause]
    rounds = [
        (search, ideas.about),
        (back, lambda step: turned_ideas.leave_out(step, ADDED, must_lead_on=True)),
        (search, ideas.other_input),
    ]
    found: list[Cause] = []
    for trials, changes in rounds:
        found += _round(trials, changes, already=bool(found))
        if any(cause.to_the_end for cause in found):
            break
    found.sort(key=lambda cause: cause.worth, reverse=True)
    best = [cause for cause in found if cause.worth == found[0].worth]
    return list({cause.text: cause for cause in best}.values())[:MOST_CAUSES]


def _round(search: "_Search", changes: Callable, already: bool) -> list[Cause]:
    """What changes explain, step after step; until one explains everything, or a few steps after the first
    that explains something.

    Args:
        already: something was explained in another round.
    """
    found: list[Cause] = []
    steps = search.first_steps()
    last = FEW_STEPS if already else len(steps)
    for number, step in enumerate(steps):
        if number > last:
            break
        for change in changes(step):
            cause = search.tried(change, step)
            if cause and cause.to_the_end:
                return [cause]
            if cause:
                found.append(cause)
                last = min(last, number + FEW_STEPS)
    return found


class _Search:
    """Changes the reference's program and looks whether it gives what mine has."""

    def __init__(self, difference: Difference, eyes: Eyes):
        self.mine, self.program, self.eyes = difference.mine, difference.its, eyes
        self.my_dead, self.outputs = difference.my_dead, difference.outputs
        self.index = Index.of(self.mine, self.my_dead, eyes)
        self.dead_steps = sorted({ref.step for ref in difference.its_dead})
        self.looked_at = {step.number for step in self.first_steps()} | set(self.dead_steps)
        # Only what follows from the first divergence can show that a change explains it.
        first = difference.my_first.step
        self.behind = {ref for ref in self.my_dead if first in ancestors(self.mine, [ref])}

    def first_steps(self) -> list[Step]:
        """The steps to change: the first whose results mine lacks, and those just before them."""
        first = set(self.dead_steps[:FIRST_STEPS])
        waiting = self.dead_steps[:3]
        while waiting:
            before = [self.program.steps[ref.step] for ref in self.program.steps[waiting.pop()].refs]
            first |= {step.number for step in before if step.kind == "operation"}
            waiting += [step.number for step in before if step.name == "add"]  # all that a sum is the sum of
        return [self.program.steps[number] for number in sorted(first)]

    def tried(self, change: Change, step: Step) -> Cause | None:
        """What a change explains, made here, at all like it in the module, or in the whole model.

        Layers have the same mistake more often than not, and queries, keys and values too.
        """
        here = self.edits(change, [step])
        if not here:
            return None
        at_once = change.shows_at_once and step.number in self.dead_steps
        if at_once and not self.follows(self.played(here, step.number)):
            return None
        module = self.edits(change, self.alike(step, lambda other: other.where == step.where))
        reaches = [here] if module.keys() == here.keys() else [here, module]  # often it stands alone there
        if not any(self.follows(self.played(edits, self.horizon(edits))) for edits in reaches):
            return None
        best = self.judged(change.text, here)
        tried = [here.keys()]
        for reach in (
            lambda other: _role(other.where) == _role(step.where) and self.turn(other) == self.turn(step),
            lambda other: other.where == step.where,
            lambda other: _role(other.where) == _role(step.where),
            lambda other: True,
        ):
            alike = [other for other in self.alike(step, reach) if change.rewrite(other)]
            edits = self.edits(change, alike)
            if edits.keys() in tried:
                continue
            tried.append(edits.keys())
            places = len({other.where for other in alike})
            more = f" (and so at all {places} places like it)" if places > 1 else ""
            cause = self.judged(change.text + more, edits)
            if cause and (best is None or cause.worth > best.worth):
                best = cause
            if best and best.to_the_end:
                break
        if best and change.must_lead_on and best.worth <= (False, 1):
            return None
        return best

    def judged(self, text: str, edits: dict[int, Callable]) -> Cause | None:
        """How much a changed program explains; None when nothing."""
        now = self.played(edits)
        explained = self.follows(now)
        if not explained:
            return None
        outputs = [
            (self.mine[mine], now.get(its, self.program[its])) if mine and its else None
            for mine, its in self.outputs
        ]
        end = all(pair is not None and self.eyes.same(*pair) for pair in outputs)
        rest = max(self.eyes.apart(*pair)[1] for pair in outputs) if end else float("nan")
        cause = Cause(text, rest, end, len(explained))
        last = max(ref.step for ref in explained)
        later = [ref.step for ref in self.my_dead if ref.step > last]
        if later and not end:
            cause.next_place = place(self.mine.steps[later[0]])
        return cause

    def played(self, edits: dict[int, Callable], last: int | None = None) -> dict[Ref, Tensor]:
        """What a changed program gives; nothing when it cannot run, because shapes do not fit, say."""
        try:
            with torch.no_grad():
                return self.program.replay(edits, last)
        except (RuntimeError, ValueError, TypeError, IndexError):
            return {}

    def edits(self, change: Change, steps: list[Step]) -> dict[int, Callable]:
        found = {}
        for step in steps:
            found |= change.rewrite(step) or {}
        return found

    def follows(self, now: dict[Ref, Tensor]) -> set[Ref]:
        """Which of mine's tensors a changed program gives; none if the first divergence is not among them,
        nor anything that follows from it."""
        found = set()
        for ref, tensor in now.items():
            if ref.step in self.looked_at and tensor.is_floating_point():
                found.update(self.index.find(tensor))
        return found if found & self.behind else set()

    def horizon(self, edits: dict[int, Callable]) -> int:
        later = [number for number in self.dead_steps if number > max(edits)][:HORIZON]
        return later[-1] if later else len(self.program.steps) - 1

    def turn(self, step: Step) -> int:
        """The how-manieth of its name it is in its module: the first sum of a layer, say, or the second."""
        return sum(
            other.name == step.name and other.where == step.where
            for other in self.program.steps[: step.number]
        )

    def alike(self, step: Step, where: Callable[[Step], bool]) -> list[Step]:
        """The same operation with the same numbers on tensors of the same shape, from here on."""
        return [
            other
            for other in self.program.steps[step.number :]
            if other.name == step.name
            and other.outputs[0].shape == step.outputs[0].shape
            and other.numbers == step.numbers
            and where(other)
        ]


def _role(where: str) -> str:
    """A module's name without the numbers of layers: what it is, not which."""
    return ".".join("#" if part.isdigit() else part for part in where.split("."))
