"""Operations and tensors of a tape in words."""

import math

from .calling import changed
from .matching import ancestors
from .tape import Ref, Step, Tape

# Arguments that say nothing about the numbers.
DULL = {"_stacklevel", "inplace", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"}
NOTHING = ("", "None", "False")
PARTS = ("getitem", "expand", "to")  # a part of an input or a buffer is called by its name


def place(step: Step) -> str:
    """The module in which something happened; the model itself has no name."""
    return step.where or "the model itself"


def what_was_done(step: Step, names: dict[float, str]) -> str:
    """An operation with the numbers in it: "div by 4.123 = sqrt(D)", "layer_norm(34, eps=1e-12)".

    Args:
        names: of numbers that have one, from `named_numbers`.
    """
    if step.name in ("mul", "div", "add", "sub") and len(step.numbers) == len(step.refs) == 1:
        number = step.numbers[0]
        is_scale = step.name in ("mul", "div")
        known = names.items() if is_scale else ()
        name = next((name for size, name in known if math.isclose(size, number)), None)
        return f"{step.name} by {number:.4g}" + (f" = {name}" if name else "")
    positional = [_written(arg) for arg in step.args]
    named = [(name, _written(arg)) for name, arg in step.kwargs.items() if name not in DULL]
    shown = [text for text in positional if text not in NOTHING]
    shown += [f"{name}={text}" for name, text in named if text not in NOTHING]
    return f"{step.name}({', '.join(shown)})" if shown else step.name


def thing(tape: Tape, ref: Ref, names: dict[float, str]) -> str:
    """A tensor: what made it, before it was merely rearranged."""
    step = tape.steps[ref.step]
    while len(step.refs) == 1:
        source = tape.steps[step.refs[0].step]
        if not step.is_layout and (source.kind == "operation" or step.name not in PARTS):
            break
        ref, step = step.refs[0], source
    if step.kind != "operation":
        return f"the {step.kind} {step.name}"
    leaves = [tape.steps[number] for number in ancestors(tape, [ref])]
    inputs = [leaf.name for leaf in leaves if leaf.kind == "input"]
    if not any(leaf.kind == "parameter" for leaf in leaves):
        source = f", made of the input {' and '.join(inputs)}" if inputs else ""
        return f"the result of `{what_was_done(step, names)}`{source}"
    if len(step.outputs) > 1:
        source = tape.steps[step.refs[0].step]
        return f"part {ref.output + 1} of {len(step.outputs)} of `{source.name}` in {place(source)}"
    return f"the result of `{step.name}` in {place(step)}"


def _written(argument) -> str:
    """An argument as one would write it; a tensor is left out."""

    def text(part):
        if isinstance(part, Ref):
            return ""
        return f"{part:g}" if isinstance(part, float) else str(part)

    return _joined(changed(argument, text))


def _joined(part) -> str:
    if isinstance(part, slice):
        ends = ("" if end in NOTHING else end for end in (part.start, part.stop))
        return ":".join(ends)
    if isinstance(part, (tuple, list)):
        return ", ".join(text for text in map(_joined, part) if text)
    return part if isinstance(part, str) else ""
