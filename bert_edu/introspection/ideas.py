"""What mine may be doing differently: the changes that `explaining` tries out.

Nothing here knows a particular bug. Which operations, numbers and tensors to try comes from the two tapes;
only the forms of activations and of normalisation are listed, in `forms`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .forms import ACTIVATION_OPERATIONS, ACTIVATIONS, named_numbers, normalisations, normalised
from .matching import ancestors, relevant_refs
from .parameters import ParameterPair
from .tape import Ref, Step, Tape, run_again
from .wording import place, thing, what_was_done

MOST_INPUTS = 60  # of the tensors known at a step, so many are tried in the place of the one it reads
MASK_VALUES = (-1e4, -1e9, torch.finfo(torch.float32).min)  # what is added to the score of a hidden key


@dataclass
class Change:
    """One change of a program.

    Attributes:
        text: what mine would be doing, in words.
        rewrite: for a step the edits (see `Tape.replay`) that make the change there, or None where it does
            not apply.
        shows_at_once: the changed step's own result must already occur in mine.
        must_lead_on: that is not enough, because it is so by construction: something after it must occur too.
    """

    text: str
    rewrite: Callable[[Step], dict[int, Callable] | None]
    shows_at_once: bool = False
    must_lead_on: bool = False


class Ideas:
    """Changes that may explain a difference at a step of the reference.

    Args:
        mine, its: the two tapes.
        my_steps: mine's first steps without counterpart: what they do is tried in the reference's place.
        agreed: the reference's tensors that occur in mine: what a step might read instead.
        pairs: mine's parameters with their counterparts.
        config: sizes, to give numbers their names.
    """

    def __init__(
        self,
        mine: Tape,
        its: Tape,
        my_steps: list[Step],
        agreed: set[Ref],
        pairs: list[ParameterPair],
        config=None,
    ):
        self.mine, self.its, self.my_steps = mine, its, my_steps
        self.agreed, self.pairs = agreed, pairs
        self.relevant = {id(tape): set(relevant_refs(tape)) for tape in (mine, its)}
        self.names = named_numbers(config)

    def about(self, step: Step) -> Iterator[Change]:
        """All changes at one step, but for `other_input`, which has many and explains little."""
        yield from self.other_weights(step)
        yield from self.leave_out(step, "leaves out ")
        yield from self.as_mine_does(step)
        yield from self.other_normalisation(step)
        yield from self.other_activation(step)
        yield from self.other_layout(step)
        yield from self.mask_after_softmax(step)
        yield from self.norm_first(step)
        yield from self.norm_before_sum(step)
        yield from self.other_order(step)
        yield from self.swapped_product(step)
        yield from self.other_number(step)

    # ---- parameters ----

    def all_other_weights(self) -> Change | None:
        """Mine's values of all parameters that differ, at once; None when none does."""
        edits, words = {}, []
        for leaf in self.its.steps:
            value, different = self.value_in_mine(leaf)
            if value is not None:
                edits[leaf.number] = lambda _, value=value: value
                words += map(str, different)
        if not edits:
            return None
        more = f"; and {len(words) - 1} more that differ" if len(words) > 1 else ""
        return Change(f"has another parameter: {words[0]}{more}", lambda step: edits)

    def other_weights(self, step: Step) -> Iterator[Change]:
        """A parameter as mine has it, as another step has it, transposed, or not at all."""
        own = self.parameters(self.its, step)
        for ref in own:
            value, different = self.value_in_mine(self.its.steps[ref.step])
            if value is not None:
                text = f"has another parameter: {different[0]}"
                yield Change(text, lambda other, ref=ref, value=value: reading(other, {ref: value}))
        yield from self.foreign_weights(step)
        yield from self.exchanged_weights(step)
        for other in self.siblings(step):
            others = self.parameters(self.its, other)
            if others != own:
                text = f"uses the parameters of {place(other)} in the place of {place(step)}"
                exchanged = dict(zip(own, others))
                yield Change(text, lambda at, exchanged=exchanged: reading(at, exchanged), True)
        if step.name == "linear" and len(own) == 2:
            text = f"does not add the bias {self.its.steps[own[1].step].name}"
            yield Change(
                text,
                lambda other: {other.number: lambda value: F.linear(*map(value, other.refs[:2]))},
            )
        for ref in own:
            table = self.its[ref]
            if table.dim() == 2 and table.shape[0] == table.shape[1]:
                text = f"uses {self.its.steps[ref.step].name} transposed"
                yield Change(text, lambda other, ref=ref, table=table: reading(other, {ref: table.T}))

    def foreign_weights(self, step: Step) -> Iterator[Change]:
        """A parameter of mine that the reference does not have: a decoder of its own, say."""
        paired = {pair.mine.name for pair in self.pairs}
        own = self.parameters(self.its, step)
        for my in self.my_steps:
            theirs = self.parameters(self.mine, my)
            if my.name != step.name or len(theirs) != len(own):
                continue
            for ref, other in zip(own, theirs):
                name, value = self.mine.steps[other.step].name, self.mine[other]
                if name not in paired and value.shape == self.its[ref].shape:
                    text = f"uses {name}, which the reference does not have, in the place of "
                    text += self.its.steps[ref.step].name
                    yield Change(text, lambda at, ref=ref, value=value: reading(at, {ref: value}), True)

    def exchanged_weights(self, step: Step) -> Iterator[Change]:
        """Two operations have each other's parameters: keys those of values, say."""
        alike = self.siblings(self.origin(step))
        numbers = [other.number for other in alike]
        for distance in range(1, len(alike)):

            def rewrite(at: Step, distance=distance):
                number = self.origin(at).number
                index = numbers.index(number) + distance if number in numbers else len(alike)
                if index >= len(alike):
                    return None
                pair = alike[index - distance], alike[index]
                own, others = (self.parameters(self.its, one) for one in pair)
                edits = [reading(pair[0], dict(zip(own, others))), reading(pair[1], dict(zip(others, own)))]
                return edits[0] | edits[1] if all(edits) else None

            if rewrite(step):
                one = self.origin(step)
                other = alike[numbers.index(one.number) + distance]
                yield Change(f"exchanges the parameters of {place(one)} and {place(other)}", rewrite)

    def origin(self, step: Step) -> Step:
        """The operation whose result a step rearranges; the step itself when it is no rearrangement."""
        while step.is_layout and step.refs:
            step = self.its.steps[step.refs[0].step]
        return step

    def siblings(self, step: Step) -> list[Step]:
        """The reference's steps that do the same with parameters of the same shapes, this one included."""
        own = self.shapes(self.parameters(self.its, step))
        same = [other for other in self.its.steps if other.name == step.name] if own else []
        return [other for other in same if self.shapes(self.parameters(self.its, other)) == own]

    def value_in_mine(self, leaf: Step) -> tuple[Tensor | None, list[ParameterPair]]:
        """Mine's value of a parameter that differs, in the reference's shape, and what of it differs."""
        pieces = [pair for pair in self.pairs if pair.reference.name == leaf.name]
        different = [pair for pair in pieces if not pair.equal]
        if leaf.kind != "parameter" or not different:
            return None, []
        parts = [pair.mine.value for pair in sorted(pieces, key=lambda pair: pair.reference.part[0])]
        value = torch.cat(parts) if len(parts) > 1 else parts[0]
        wanted = leaf.outputs[0]
        if value.shape != wanted.shape and value.dim() == 2:
            value = value.T
        if value.shape != wanted.shape:
            return None, []
        return value.to(wanted.device, wanted.dtype), different

    # ---- operations ----

    def leave_out(self, step: Step, verb: str, must_lead_on: bool = False) -> Iterator[Change]:
        """The operation is skipped: its result is one of the tensors that went in."""
        for number, ref in enumerate(step.refs):
            if self.its.steps[ref.step].kind in ("parameter", "buffer"):
                continue
            if self.its[ref].shape != step.outputs[0].shape and not step.is_layout:
                continue
            others = [other for other in step.refs if other != ref]
            others = [other for other in others if self.its.steps[other.step].kind != "parameter"]
            text = f"{verb}`{what_was_done(step, self.names)}` in {place(step)}"
            text += f", of {thing(self.its, others[0], self.names)}" if others else ""

            def rewrite(other: Step, number=number):
                if len(other.refs) <= number:
                    return None
                return {other.number: lambda value: value(other.refs[number])}

            yield Change(text, rewrite, must_lead_on=must_lead_on)

    def as_mine_does(self, step: Step) -> Iterator[Change]:
        """The same tensors, but the operation that mine has there."""
        tried = set()
        for my in self.my_steps:
            same = my.name == step.name
            shapes = [[without_ones(output.shape) for output in one.outputs] for one in (my, step)]
            if not same and (my.is_layout or step.is_layout or shapes[0] != shapes[1]):
                continue
            if not self.slots(self.mine, my) or not self.exchange(my, step):
                continue
            text = f"computes {self.with_others(self.mine, my)} where the reference computes "
            text += self.with_others(self.its, step)
            if text in tried:
                continue
            tried.add(text)

            def rewrite(other: Step, my=my):
                exchanged = self.exchange(my, other)
                if exchanged is None:
                    return None

                def read(part, value):
                    if not isinstance(part, Ref):
                        return part
                    return value(exchanged[part]) if part in exchanged else self.mine[part]

                return {other.number: lambda value: run_again(my, lambda part: read(part, value))}

            shows = Ref(my.number) in self.relevant[id(self.mine)]  # rows of a table alone are no result
            yield Change(text, rewrite, shows_at_once=shows, must_lead_on=not same)

    def other_activation(self, step: Step) -> Iterator[Change]:
        if step.name not in ACTIVATION_OPERATIONS:
            return
        for name, function in ACTIVATIONS.items():
            text = f"computes {name} where the reference computes {what_was_done(step, self.names)}"

            def rewrite(other: Step, function=function):
                return {other.number: lambda value: function(value(other.refs[0]))}

            yield Change(text, rewrite, shows_at_once=True, must_lead_on=True)

    def other_normalisation(self, step: Step) -> Iterator[Change]:
        if step.name != "layer_norm":
            return
        right_eps = next((number for number in reversed(step.numbers) if isinstance(number, float)), 1e-5)
        seen = {number for my in self.my_steps for number in my.numbers if isinstance(number, float)}
        for words, options in normalisations(right_eps, {number for number in seen if 0 <= number < 0.5}):

            def rewrite(other: Step, options=options):
                return {other.number: lambda value: normalised(*map(value, other.refs), **options)}

            yield Change(
                f"normalises {words} where the reference has LayerNorm({right_eps:g})", rewrite, True
            )

    def other_number(self, step: Step) -> Iterator[Change]:
        """Another number in a multiplication or division: one that has a name, or the inverse."""
        if step.name not in ("mul", "div") or not len(step.refs) == len(step.numbers) == 1:
            return
        was = step.numbers[0]
        inverse = {1 / was: "the inverse"} if was else {}
        for number, name in {**self.names, **inverse}.items():

            def rewrite(other: Step, number=number):
                def read(part, value):
                    is_number = isinstance(part, (int, float)) and not isinstance(part, bool)
                    return number if is_number else value(part)

                return {other.number: lambda value: run_again(other, lambda part: read(part, value))}

            if not math.isclose(number, was):
                text = f"computes {step.name} by {number:.4g} ({name}) where the reference computes "
                yield Change(text + what_was_done(step, self.names), rewrite)

    def swapped_product(self, step: Step) -> Iterator[Change]:
        """K Q^T for Q K^T."""
        shape = step.outputs[0].shape
        if step.name != "matmul" or len(shape) < 3 or shape[-1] != shape[-2]:
            return

        def rewrite(other: Step):
            return {other.number: lambda value: run_again(other, value)[0].transpose(-2, -1)}

        yield Change("transposes the scores: keys read queries", rewrite)

    # ---- order and layout ----

    def other_layout(self, step: Step) -> Iterator[Change]:
        """Axes that are split or merged without being swapped, or split in another order."""
        before = self.layout_before(step)
        if before is None:
            return

        def straight(other: Step):
            source = self.layout_before(other)
            if source is None:
                return None
            return {other.number: lambda value: value(source.refs[0]).reshape(other.outputs[0].shape)}

        sizes = f"{tuple(self.its[before.refs[0]].shape)} to {tuple(step.outputs[0].shape)}"
        yield Change(f"goes from {sizes} without swapping axes: it mixes heads and tokens", straight)

        def interleaved(other: Step):
            source = self.layout_before(other)
            split = self.its[other.refs[0]].shape  # (B, T, A, D)
            if source is None or len(split) != 4:
                return None
            B, T, A, D = split
            return {other.number: lambda value: value(source.refs[0]).reshape(B, T, D, A).permute(0, 3, 1, 2)}

        if interleaved(step):
            yield Change("gives head a every A-th component, not D neighbouring ones", interleaved)

    def layout_before(self, step: Step) -> Step | None:
        """The rearrangement that a rearrangement follows upon."""
        if not step.is_layout or len(step.refs) != 1:
            return None
        before = self.its.steps[step.refs[0].step]
        return before if before.is_layout and len(before.refs) == 1 else None

    def mask_after_softmax(self, step: Step) -> Iterator[Change]:
        """Hidden keys are taken out of, or the mask is added to, the probabilities, not the scores."""

        def after(how):
            def rewrite(softmax: Step):
                masking = self.its.steps[softmax.refs[0].step]
                if masking.name not in ("add", "masked_fill") or len(masking.refs) < 2:
                    return None
                scores, masked = masking.refs[0], softmax.refs[0]

                def instead(value):
                    probabilities = run_again(
                        softmax, lambda part: value(scores if part == masked else part)
                    )[0]
                    hidden = value(scores) - value(masked) > 50  # where the mask has taken much away
                    return how(probabilities, hidden)

                return {softmax.number: instead}

            return rewrite

        if step.name != "softmax" or not after(None)(step):
            return
        yield Change(
            "hides the masked keys after the softmax, not before it",
            after(lambda probabilities, hidden: probabilities.masked_fill(hidden, 0.0)),
        )
        for bias in MASK_VALUES:
            yield Change(
                "adds the mask after the softmax, not before it",
                after(lambda probabilities, hidden, bias=bias: probabilities + bias * hidden),
            )

    def norm_first(self, step: Step) -> Iterator[Change]:
        """Pre-norm for post-norm: x + f(LN(x)) for LN(x + f(x))."""

        def rewrite(norm: Step):
            total = self.sum_before(norm)
            if total is None:
                return None
            stream, branch = total
            inside = ancestors(self.its, [branch])

            def normal(reader: Step):
                def instead(value):
                    x = run_again(norm, lambda part: value(stream if part == norm.refs[0] else part))[0]
                    return run_again(reader, lambda part: x if part == stream else value(part))

                return instead

            readers = [self.its.steps[number] for number in inside]
            edits = {reader.number: normal(reader) for reader in readers if stream in reader.refs}
            return edits | {norm.number: lambda value: value(norm.refs[0])} if edits else None

        if step.name == "layer_norm":
            text = "normalises before the sub-layer (pre-norm), the reference after the sum (post-norm): "
            yield Change(text + place(step), rewrite)

    def norm_before_sum(self, step: Step) -> Iterator[Change]:
        """x + LN(f(x)) for LN(x + f(x)), or any other part of a sum."""
        parts = self.summands(step.refs[0]) if step.name == "layer_norm" else []
        for number, part in enumerate(parts if len(parts) > 1 else []):

            def rewrite(norm: Step, number=number):
                now = self.summands(norm.refs[0])
                if len(now) != len(parts):
                    return None

                def instead(value):
                    one = run_again(norm, lambda ref: value(now[number] if ref == norm.refs[0] else ref))[0]
                    return one + sum(value(ref) for ref in now if ref != now[number])

                return {norm.number: instead}

            text = (
                f"normalises {thing(self.its, part, self.names)} before the sum, not the sum: {place(step)}"
            )
            yield Change(text, rewrite, True)

    def summands(self, ref: Ref) -> list[Ref]:
        """What a tensor is the sum of; itself when it is no sum."""
        total = self.its.steps[ref.step]
        if total.name != "add" or len(total.refs) != 2:
            return [ref]
        return [part for summand in total.refs for part in self.summands(summand)]

    def other_order(self, step: Step) -> Iterator[Change]:
        """f(g(x)) for g(f(x))."""

        def rewrite(second: Step):
            if not self.computed(second) or second.is_layout:
                return None
            first = self.its.steps[self.computed(second)[0].step]
            if len(self.computed(second)) != 1 or len(self.computed(first)) != 1 or first.is_layout:
                return None
            x = self.computed(first)[0]

            def instead(value):
                inner = run_again(second, lambda ref: value(x if ref in self.computed(second) else ref))[0]
                return run_again(first, lambda ref: inner if ref == x else value(ref))

            return {second.number: instead}

        if rewrite(step):
            first = self.its.steps[self.computed(step)[0].step]
            text = (
                f"computes `{step.name}` ({place(step)}) before `{first.name}` ({place(first)}), not after it"
            )
            yield Change(text, rewrite)

    def computed(self, step: Step) -> list[Ref]:
        """What an operation reads of what the model has computed."""
        return [ref for ref in step.refs if ref in self.relevant[id(self.its)]]

    def sum_before(self, norm: Step) -> tuple[Ref, Ref] | None:
        """x and f(x) of the sum that a LayerNorm reads; None when it reads no such sum."""
        total = self.its.steps[norm.refs[0].step] if norm.refs else None
        if total is None or total.name != "add" or len(total.refs) != 2:
            return None
        stream, branch = sorted(total.refs, key=lambda ref: ref.step)
        return stream, branch

    # ---- what an operation reads ----

    def other_input(self, step: Step) -> Iterator[Change]:
        """Another tensor that is known by then: an input, an earlier state of the model, a parameter."""
        for ref in step.refs:
            now, is_parameter = self.its[ref], self.its.steps[ref.step].kind == "parameter"
            for other in self.known_at(step, is_parameter):
                tensor = self.its[other]
                if tensor.shape != now.shape or tensor.dtype != now.dtype or torch.equal(tensor, now):
                    continue
                text = f"reads {thing(self.its, other, self.names)} where the reference reads "
                text += f"{thing(self.its, ref, self.names)}, in `{step.name}`"

                def rewrite(at: Step, ref=ref, other=other):
                    return reading(at, {ref: other}) if at.number == step.number else None

                yield Change(text, rewrite)

    def known_at(self, step: Step, parameters: bool) -> list[Ref]:
        """All parameters, or the inputs and the last tensors on which both models agree before a step."""
        if parameters:
            return [Ref(leaf.number) for leaf in self.its.steps if leaf.kind == "parameter"]
        leaves = [
            Ref(leaf.number) for leaf in self.its.steps[: step.number] if leaf.kind in ("input", "buffer")
        ]
        return (
            leaves
            + sorted((ref for ref in self.agreed if ref.step < step.number), key=lambda r: r.step)[
                -MOST_INPUTS:
            ]
        )

    # ---- what goes into an operation ----

    @staticmethod
    def parameters(tape: Tape, step: Step) -> list[Ref]:
        return [ref for ref in step.refs if tape.steps[ref.step].kind == "parameter"]

    def shapes(self, refs: list[Ref]) -> list[torch.Size]:
        return [self.its[ref].shape for ref in refs]

    def slots(self, tape: Tape, step: Step) -> list[Ref]:
        """What an operation reads of the model: its parameters first, then what was computed with parameters.

        The rest, positions and masks and segments, is no result of the model: as good in one as in the other.
        """
        computed = [ref for ref in step.refs if ref in self.relevant[id(tape)]]
        return self.parameters(tape, step) + computed

    def exchange(self, my: Step, step: Step) -> dict[Ref, Ref] | None:
        """For what a step of mine reads of the model what a step of the reference reads; None if unlike."""
        mine, its = self.slots(self.mine, my), self.slots(self.its, step)
        parameters = [len(self.parameters(*one)) for one in ((self.mine, my), (self.its, step))]
        alike = len(mine) == len(its) and parameters[0] == parameters[1]
        return dict(zip(mine, its)) if alike else None

    def with_others(self, tape: Tape, step: Step) -> str:
        """An operation in words, with the tensors that it reads beside the model's own."""
        others = [thing(tape, ref, self.names) for ref in step.refs if ref not in self.slots(tape, step)]
        text = what_was_done(step, self.names)
        return f"{text} of {' and '.join(others)}" if others else text


def without_ones(shape: torch.Size) -> tuple[int, ...]:
    """A shape without its axes of size 1."""
    return tuple(size for size in shape if size != 1)


def reading(step: Step, exchanged: dict) -> dict[int, Callable] | None:
    """The edit that lets a step read other tensors; None where it reads none of those that are exchanged."""
    if not any(ref in exchanged for ref in step.refs):
        return None

    def read(part, value):
        return value(exchanged.get(part, part)) if isinstance(part, Ref) else part

    return {step.number: lambda value: run_again(step, lambda part: read(part, value))}
