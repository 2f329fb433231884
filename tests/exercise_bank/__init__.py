"""Right and wrong answers to every exercise: the checks are proved with them. Not in the installed package.

A *style* is a function that writes an answer in one way: with matrices, say, or with loops. Called without
arguments it gives a right answer; its switches put mistakes in. So each mistake stands here in two styles.
`outcome` runs one of these answers; `catch_table` says for each mistake which mechanism finds it, and what
the learner is told.
"""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

from bert_edu.exercises import CHAPTERS, EXERCISES, Report, examine


@dataclass(frozen=True)
class Mistake:
    """A mistake that people make.

    Attributes:
        says: a part of what the check must say about it, and about no other mistake of this exercise.
        switches: what makes it, in every style.
    """

    says: str
    switches: dict


def mistake(says: str, **switches) -> Mistake:
    return Mistake(says, switches)


@dataclass(frozen=True)
class Answers:
    """What is known about one exercise.

    Attributes:
        exercise: its name.
        styles: two or more ways to write it; the first, without switches, is the solution.
        wrong: named mistakes.
        two_at_once: switches that make two of these mistakes, and the name of the one that must be named.
        right: right answers in further styles, without switches.
    """

    exercise: str
    styles: dict[str, Callable]
    wrong: dict[str, Mistake]
    two_at_once: tuple[dict, str]
    right: dict[str, Callable] = field(default_factory=dict)

    def answer(self, name: str, style: str):
        """The answer with this name ("right", "two at once" or a mistake's) in this style."""
        if style in self.right:
            return self.right[style]
        switches = {"right": {}, "two at once": self.two_at_once[0]}
        return self.styles[style](**(switches[name] if name in switches else self.wrong[name].switches))

    def all_answers(self) -> list[tuple[str, str]]:
        """(name, style) of each answer in the bank."""
        named = [(name, style) for name in ("right", *self.wrong, "two at once") for style in self.styles]
        return named + [("right", style) for style in self.right]


BANK: dict[str, Answers] = {
    answers.exercise: answers
    for chapter in CHAPTERS
    for answers in importlib.import_module(f"exercise_bank.chapter_{chapter:02}").ANSWERS
}


@functools.cache
def outcome(exercise: str, name: str, style: str) -> Report:
    """Checks one answer of the bank. Each style meets other random numbers and sizes."""
    answers = BANK[exercise]
    answer, seed = answers.answer(name, style), [*answers.styles, *answers.right].index(style)
    return examine(EXERCISES[exercise], lambda: answer, seed=seed)


def catch_table() -> list[dict[str, str]]:
    """One row for each mistake: exercise, mistake, the mechanism that finds it, what the learner reads."""
    rows = []
    for exercise, answers in BANK.items():
        for name in answers.wrong:
            report = outcome(exercise, name, next(iter(answers.styles)))
            caught = next((finding for finding in report.findings if not finding.holds), None)
            rows.append(
                {
                    "number": EXERCISES[exercise].number,
                    "exercise": exercise,
                    "mistake": name,
                    "mechanism": caught.mechanism if caught else "not caught",
                    "message": report.message or "",
                }
            )
    return rows
