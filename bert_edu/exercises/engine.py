"""What an exercise is, and how an answer is checked: one mechanism at a time, from the simplest case up.

A mechanism is a function of the answer and of a `Draw` of random numbers; its docstring says what it looks
at. It calls the answer, compares what comes back with what is right (`expect`), and raises `Wrong` with a
message that is the lesson. What is right is worked out here, in the process of whoever asks; the answer runs
in a child (see `sandbox`).
"""

import importlib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .sandbox import SECONDS, Answer, NotYet, Wrong, fresh_state

Mechanism = Callable[[Answer, "Draw"], None]


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        name: of the function or class to write; `check` is called with it.
        number: its place in the book, "4.1".
        title: as in the chapter.
        kind: "Rebuild", "Extend" or "Find the bug".
        minutes: how long it takes.
        difficulty: 1 to 3.
        goal: what to write, in a sentence or two.
        hints: three, each giving more away than the last.
        stub: the Python source to start from.
        mechanisms: what is checked, the simplest first.
        finished: what an answer must not call, as in `sandbox.Answer`.
        operations: PyTorch's operations that it must not use.
        wants: "function" or "class".
        changes_input: whether the answer is meant to change what it is given.
        loads: modules that an answer needs and that take seconds to load: loaded before its time begins.
    """

    name: str
    number: str
    title: str
    kind: str
    minutes: int
    difficulty: int
    goal: str
    hints: tuple[str, str, str]
    stub: str
    mechanisms: tuple[Mechanism, ...]
    finished: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    wants: str = "function"
    changes_input: bool = False
    loads: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        return f"Exercise {self.number}, {self.name}: {self.title}"

    def all_mechanisms(self) -> tuple[Mechanism, ...]:
        """Those of the exercise, and what is asked of every answer."""
        if self.changes_input:
            return self.mechanisms

        def leaves_its_input_alone(answer, draw):
            """what it is given stays as it was"""
            self.mechanisms[0](answer, draw)  # an answer that does nothing also changes nothing
            if answer.changed:
                place = {0: "first", 1: "second", 2: "third"}.get(min(answer.changed), "last")
                raise Wrong(
                    f"The results are one thing; but your answer also changes its {place} argument in place, "
                    "and whoever passed it will be surprised. Look for +=, -=, names that end in _ and "
                    "assignments to x[...]; work on a copy."
                )

        return (*self.mechanisms, leaves_its_input_alone)


class Draw:
    """Random numbers for a mechanism: the same for the same seed."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from `low` to `high`, both included."""
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def sizes(self, count: int, low: int, high: int) -> list[int]:
        """Different whole numbers from `low` to `high`: axes of other lengths cannot be swapped unseen."""
        return (torch.randperm(high - low + 1, generator=self.generator)[:count] + low).tolist()

    def shuffled(self, things) -> list:
        """The things in another order."""
        things = list(things)
        return [things[place] for place in torch.randperm(len(things), generator=self.generator)]


def expect(
    found,
    expected: Tensor,
    message: str,
    *,
    suspects: dict[str, Tensor] | None = None,
    tolerance: float = 1e-4,
):
    """Raises `Wrong` unless `found` is the expected tensor.

    Args:
        found: what the answer returned.
        expected: what is right.
        message: what to say when it is something else.
        suspects: what to say -> what an answer with this mistake returns. One that cannot be told from what
            is expected, by the numbers at hand, is no suspect.
        tolerance: the largest difference allowed, relative to the largest number expected.
    """
    found = tensor_of(found, expected)
    allowed = tolerance * max(1.0, expected.abs().max().item()) if expected.numel() else tolerance

    def is_near(other):
        return torch.allclose(found, other.to(found.dtype), rtol=0, atol=allowed, equal_nan=True)

    if is_near(expected):
        return
    for said, suspect in (suspects or {}).items():
        if suspect.shape == found.shape and is_near(suspect):
            raise Wrong(said)
    raise Wrong(message)


def expect_data(found, expected, message: str, *, suspects: dict | None = None):
    """Raises `Wrong` unless `found` equals the expected data; lists and tuples are the same here.

    Args:
        found: what the answer returned.
        expected: what is right: text, numbers, or lists and tuples of them.
        message: what to say when it is something else. What is expected and what was found is added to it.
        suspects: what to say -> what an answer with this mistake returns.
    """
    if found is None:
        raise NotYet("It returns None.")
    if as_lists(found) == as_lists(expected):
        return
    for said, suspect in (suspects or {}).items():
        if as_lists(found) == as_lists(suspect):
            raise Wrong(f"{said} Expected {expected!r}, found {found!r}.")
    raise Wrong(f"{message} Expected {expected!r}, found {found!r}.")


def as_lists(data):
    """The data with every tuple made a list."""
    return [as_lists(entry) for entry in data] if isinstance(data, (list, tuple)) else data


def tensor_of(found, expected: Tensor) -> Tensor:
    """What the answer returned, if it is a tensor of the expected shape; in the dtype of the expected one."""
    if found is None:
        raise NotYet("It returns None.")
    if not isinstance(found, Tensor):
        raise Wrong(
            f"Your answer must return a tensor of shape {tuple(expected.shape)}, and returns a "
            f"{type(found).__name__}."
        )
    if found.shape != expected.shape:
        raise Wrong(
            f"The result must have the shape {tuple(expected.shape)}, and yours has {tuple(found.shape)}."
        )
    if found.is_complex():
        raise Wrong("The result must consist of real numbers, and yours are complex.")
    return found.to(expected.dtype)


@dataclass
class Finding:
    """Whether one mechanism holds; and if not, why."""

    mechanism: str
    message: str | None = None

    @property
    def holds(self) -> bool:
        return self.message is None


@dataclass
class Report:
    """What a check found.

    Attributes:
        exercise: the exercise.
        findings: one for each mechanism, in order.
        verdict: a sentence that stands above all mechanisms: no answer yet, or one that is refused.
        printed: how many characters the answer has printed.
    """

    exercise: Exercise
    findings: list[Finding] = field(default_factory=list)
    verdict: str | None = None
    printed: int = 0

    @property
    def score(self) -> float:
        """The share of mechanisms that hold, 0 to 1; 0 for an answer that is refused."""
        if self.verdict or not self.findings:
            return 0.0
        return sum(finding.holds for finding in self.findings) / len(self.findings)

    @property
    def message(self) -> str | None:
        """What the learner is told. It is the verdict, or what the first mechanism that fails says."""
        return self.verdict or next((f.message for f in self.findings if not f.holds), None)

    def __str__(self) -> str:
        lines = [self.exercise.heading]
        if self.verdict:
            return "\n".join([*lines, indented(self.verdict)])
        explained = False
        for finding in self.findings:
            if finding.holds:
                lines.append(f"  ok     {finding.mechanism}")
            elif explained:
                lines.append(f"  later  {finding.mechanism}")
            else:
                lines += [f"  NO     {finding.mechanism}", indented(finding.message, 9)]
                explained = True
        held = sum(finding.holds for finding in self.findings)
        if held == len(self.findings):
            lines.append(f"All {held} mechanisms hold.")
        else:
            lines.append(f"{held} of {len(self.findings)} mechanisms hold.")
        if self.printed:
            lines.append("(What your answer prints is not shown here. Call it yourself to see it.)")
        return "\n".join(lines)


def examine(exercise: Exercise, load: Callable, *, seed: int = 0, seconds: float = SECONDS) -> Report:
    """Checks an answer and prints nothing.

    Args:
        exercise: which one.
        load: gives the answer; called where the answer will run.
        seed: of all random numbers and sizes. `check` uses 0; who grades may choose.
        seconds: the answer's time, for all mechanisms together.
    """
    for module in exercise.loads:
        importlib.import_module(module)
    mechanisms = exercise.all_mechanisms()
    report = Report(exercise, [Finding(inspect.getdoc(mechanism)) for mechanism in mechanisms])
    limits = dict(finished=exercise.finished, operations=exercise.operations, seconds=seconds)
    with fresh_state(), Answer(load, **limits) as answer:
        try:
            answer.via(look_at_kind, exercise.name, exercise.wants)
        except Wrong as wrong:
            return with_verdict(report, wrong)
        for number, (mechanism, finding) in enumerate(zip(mechanisms, report.findings)):
            try:
                mechanism(answer, Draw(1000 * seed + number))
            except Wrong as wrong:
                if number == 0 and isinstance(wrong, NotYet):
                    return with_verdict(report, wrong)
                finding.message = str(wrong)
            except Exception as error:  # what an answer returns can surprise any mechanism
                finding.message = f"Your result cannot be compared with what is right: {error}."
        report.printed = answer.printed
        if answer.used:
            refused = Wrong(
                f"Not accepted: your answer calls {' and '.join(sorted(answer.used))}, and this exercise is "
                "about building that from smaller parts."
            )
            return with_verdict(report, refused)
    return report


def look_at_kind(answer, name: str, wants: str):
    """A driver: `Wrong` if the answer is not even of the kind that is asked for."""
    if answer is None or answer is Ellipsis:
        raise NotYet(f"There is no {name} so far.")
    if wants == "class" and not isinstance(answer, type):
        raise Wrong(f"This exercise wants the class itself, check({name!r}, {name}), not an object of it.")
    if wants == "function" and isinstance(answer, type):
        raise Wrong(
            f"This exercise wants a function, or an object that can be called, not a class: pass {name}()."
        )
    if not callable(answer):
        raise Wrong(
            f"This exercise wants the {wants} itself, check({name!r}, {name}), and got an object of type "
            f"{type(answer).__name__}."
        )


def with_verdict(report: Report, wrong: Wrong) -> Report:
    """A report in which nothing holds, for one reason."""
    report.verdict = f"Not yet. {wrong}" if isinstance(wrong, NotYet) else str(wrong)
    for finding in report.findings:
        finding.message = report.verdict
    return report


def indented(text: str, by: int = 2, width: int = 100) -> str:
    """The text in lines of at most `width` characters, moved to the right."""
    return textwrap.fill(text, width, initial_indent=" " * by, subsequent_indent=" " * by)
