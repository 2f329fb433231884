"""The book's exercises: `check` says which part of an answer is wrong; hints, quizzes, your part at work.

`check("rotate", rotate)` prints what holds and what does not, and returns the score. `task("rotate")` says
what is asked, each `hint("rotate")` opens one more of three hints, `quiz(4)` asks about a chapter, and
`your_part(MyAttention, "attention")` puts a part of your own into the shipped model.
"""

import difflib
from pathlib import Path

from . import (
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
    chapter_10,
    chapter_11,
    chapter_12,
    chapter_13,
    chapter_14,
    chapter_15,
    chapter_16,
)
from .engine import Exercise, Report, examine, indented
from .quizzes import QUIZZES
from .sandbox import load_file
from .transplant import your_part

__all__ = [
    "CHAPTERS",
    "EXERCISES",
    "Exercise",
    "Report",
    "check",
    "check_file",
    "examine",
    "exercise",
    "hint",
    "quiz",
    "task",
    "your_part",
]

CHAPTERS = {
    2: chapter_02,
    3: chapter_03,
    4: chapter_04,
    5: chapter_05,
    6: chapter_06,
    7: chapter_07,
    8: chapter_08,
    9: chapter_09,
    10: chapter_10,
    11: chapter_11,
    12: chapter_12,
    13: chapter_13,
    14: chapter_14,
    15: chapter_15,
    16: chapter_16,
}
EXERCISES = {entry.name: entry for module in CHAPTERS.values() for entry in module.EXERCISES}

_opened: dict[str, int] = {}  # how many hints of an exercise have been shown


def exercise(name: str) -> Exercise:
    """The exercise with this name.

    Raises:
        ValueError: when there is none; the message lists the near ones.
    """
    if name in EXERCISES:
        return EXERCISES[name]
    by_number = {entry.number: entry.name for entry in EXERCISES.values()}
    if str(name) in by_number:
        raise ValueError(f"exercise {name} is called {by_number[str(name)]!r}: use that name")
    near = difflib.get_close_matches(str(name), EXERCISES, n=3, cutoff=0.5) or sorted(EXERCISES)
    raise ValueError(f"there is no exercise {name!r}; there is {', '.join(map(repr, near))}")


def check(name: str, answer, *, seed: int = 0) -> float:
    """Checks an answer, one mechanism after the other; prints what holds and explains the first that fails.

    Args:
        name: the exercise's name, which is that of the function or class to write.
        answer: that function or class itself.
        seed: of the random numbers and sizes that it is tried on.

    Returns:
        the share of mechanisms that hold, 0 to 1.
    """
    report = examine(exercise(name), lambda: answer, seed=seed)
    print(report)
    return report.score


def check_file(name: str, file: str | Path, *, seed: int = 0) -> Report:
    """Checks the answer that a Python file defines under the exercise's name; prints nothing.

    Raises:
        FileNotFoundError: when there is no such file. What goes wrong inside it is in the report.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    return examine(exercise(name), lambda: load_file(file, name), seed=seed)


def task(name: str):
    """Prints what an exercise asks for, how long it takes, and the code to start from."""
    chosen = exercise(name)
    print(chosen.heading)
    print(f"  {chosen.kind} · {chosen.minutes} minutes · difficulty {chosen.difficulty} of 3")
    print(indented(chosen.goal))
    print(chosen.stub.rstrip())


def hint(name: str):
    """Prints the next hint of an exercise: each call opens one more of its three."""
    chosen = exercise(name)
    number = _opened[name] = min(_opened.get(name, 0) + 1, len(chosen.hints))
    print(indented(f"Hint {number} of {len(chosen.hints)}. {chosen.hints[number - 1]}", by=0))


def quiz(chapter: int, answers: str = ""):
    """A chapter's quiz: prints its questions; with answers, says of each why it is right or wrong.

    Args:
        chapter: its number.
        answers: a letter for each question, such as "bac"; "-" leaves one out.
    """
    if chapter not in QUIZZES:
        known = ", ".join(map(str, QUIZZES))
        raise ValueError(f"there is no quiz for chapter {chapter!r}; there is one for {known}")
    questions = QUIZZES[chapter]
    letters = "abcdefgh"
    if not answers:
        for number, question in enumerate(questions, start=1):
            print(indented(f"{number}. {question.text}", by=0))
            for letter, option in zip(letters, question.options):
                print(indented(f"{letter}) {option.text}", by=3))
        print(f'Answer with quiz({chapter}, "{"a" * len(questions)}"), a letter for each question.')
        return
    if len(answers) != len(questions):
        raise ValueError(
            f"chapter {chapter} has {len(questions)} questions, and {answers!r} {len(answers)} letters"
        )
    for number, (question, letter) in enumerate(zip(questions, answers.lower()), start=1):
        if letter == "-":
            continue
        if letter not in letters[: len(question.options)]:
            raise ValueError(
                f"question {number} has the options {letters[: len(question.options)]}, not {letter!r}"
            )
        option = question.options[letters.index(letter)]
        print(indented(f"{number}{letter} {'right' if option.right else 'not right'}: {option.text}", by=0))
        print(indented(option.why, by=3))
