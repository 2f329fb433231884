"""Grades one notebook, in a process of its own, and sends what it finds as JSON.

It does so after each exercise, and the last message counts: what is done is not lost when the time is up. The
notebook is read here and its answers are judged here; the student's code runs in children of this process
alone, in the cage.
"""

import builtins
import difflib
import importlib.util
import json
import linecache
import os
import sys
import types
from collections.abc import Callable

import torch
import torch._dynamo  # makes a folder when it is imported, which it often is on the way, and the cage forbids

import bert_edu.exercises
import bert_edu.grading
import bert_edu.notebook

from ..exercises import CHAPTERS, examine
from ..exercises.quizzes import QUIZZES
from ..exercises.sandbox import Wrong
from . import cage
from .sheets import Sheet, Unreadable, names_bound, read

ATTEMPTS = 3  # at starting a child, on a machine that is very busy
TEXT = 20_000  # characters of the open answer that are kept


to_judge: list[int] = []  # the descriptors through which this process speaks to the grader


def nothing(problem: str) -> dict:
    """The result of a file about which nothing else is known."""
    return {"student": "", "chapter": None, "problem": problem, "notes": [], "exercises": []}


def load_adapters(file: str | None):
    """The instructor's functions that turn answers to variants into answers to the book's exercises."""
    if file is None:
        return None
    spec = importlib.util.spec_from_file_location("adapters", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(file: str, seeds: list[int], seconds: float, chapter: int | None, adapters=None):
    """Yields all that is known about a notebook, as data for JSON, at the start and after each exercise."""
    result = nothing("")
    try:
        sheet = read(file, chapter)
    except (Unreadable, OSError) as error:
        yield result | {"problem": str(error)}
        return
    result |= {
        "student": sheet.student,
        "chapter": sheet.chapter,
        "notes": sheet.notes,
        "quiz": quiz_result(sheet),
        "open_answer": sheet.open_answer[:TEXT],
    }
    yield result
    for exercise in CHAPTERS[sheet.chapter].EXERCISES:
        adapt = getattr(adapters, exercise.name, lambda answer: answer)
        result["exercises"].append(examined(sheet, exercise, seeds, seconds, adapt))
        yield result


def quiz_result(sheet: Sheet) -> dict:
    """How many questions are answered rightly, and the letters; none count when there are too many or few."""
    questions, letters = QUIZZES[sheet.chapter], sheet.quiz_answers.lower()
    if len(letters) != len(questions):
        letters = "-" * len(questions)
    right = sum(
        option.right
        for question, letter in zip(questions, letters)
        for name, option in zip("abcdefgh", question.options)
        if name == letter
    )
    return {"questions": len(questions), "letters": letters, "right": right}


def examined(
    sheet: Sheet, exercise, seeds: list[int], seconds: float, adapt: Callable = lambda answer: answer
) -> dict:
    """What the checks say of one answer: a mechanism holds when it does so with the numbers of every seed."""
    reports = []
    for seed in seeds:
        reports.append(report := report_on(sheet, exercise, seed, seconds, adapt))
        if report.score == 0:
            break
    first, last = reports[0], reports[-1]
    findings = []
    for one, other in zip(first.findings, last.findings):
        message = one.message
        if one.holds and not other.holds:
            message = f"It holds for the numbers and sizes of `check`, and not for others. {other.message}"
        findings.append({"mechanism": one.mechanism, "message": message})
    return {
        "name": exercise.name,
        "number": exercise.number,
        "title": exercise.title,
        "verdict": first.verdict or last.verdict,
        "findings": findings,
        "score": sum(finding["message"] is None for finding in findings) / len(findings),
    }


def report_on(sheet: Sheet, exercise, seed: int, seconds: float, adapt: Callable):
    """One check, in a child.

    Raises:
        RuntimeError: when no child could be started, so that the answer would have run beside its judge.
    """
    for _ in range(ATTEMPTS):
        loader = Loader(sheet, exercise.name, adapt)
        report = examine(exercise, loader, seed=seed, seconds=seconds)
        if not loader.refused:
            return report
    raise RuntimeError("no process could be started for the answer; grade this notebook again")


# ---- In the child ------------------------------------------------------------------------------------------


class Loader:
    """Loads an answer from a notebook; called in the child, before the answer and again after it has failed.

    Attributes:
        refused: whether it was called in the judge's own process, where it does nothing.
    """

    def __init__(self, sheet: Sheet, name: str, adapt: Callable):
        self.sheet, self.name, self.adapt, self.judge = sheet, name, adapt, os.getpid()
        self.refused, self.error = False, None

    def __call__(self):
        if os.getpid() == self.judge:
            self.refused = True
            raise Wrong("no child")
        if self.error is None:
            try:
                return self.answer()
            except Wrong as error:
                self.error = error
        raise self.error

    def answer(self):
        """Runs the cells up to the last that defines the name, and returns what has the name then."""
        cells = self.sheet.binds(self.name)
        if not cells:
            known = {name for cell in self.sheet.cells for name in names_bound(cell)}
            near = difflib.get_close_matches(self.name, known, n=1)
            hint = f" It defines {near[0]}." if near else ""
            raise Wrong(f"The notebook does not define {self.name}.{hint}")
        for descriptor in to_judge:  # no word of the student's gets there
            os.close(descriptor)
        cage.enter()
        quieten()
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        namespace = vars(module)
        namespace |= {"__builtins__": builtins, "display": print, "get_ipython": lambda: None}
        trouble = ""  # what went wrong on the way; as in a notebook, the cells after it can be run
        for number, source in enumerate(self.sheet.cells[: cells[-1] + 1], start=1):
            file = f"code cell {number}"
            linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
            try:
                exec(compile(source, file, "exec"), namespace)
            except (Exception, SystemExit) as error:
                trouble = f" Code cell {number} stops with {type(error).__name__}: {error}"[:300]
        if self.name not in namespace:
            raise Wrong(f"The notebook does not get as far as to define {self.name}.{trouble}")
        return self.adapt(namespace[self.name])


def quieten():
    """The sheet's own calls do nothing here: an answer is checked by the judge, from outside."""
    for place, names in (
        (bert_edu.exercises, ("check", "hint", "quiz", "task", "your_part")),
        (bert_edu.grading, ("preflight",)),
        (bert_edu.notebook, ("ready",)),
    ):
        for name in names:
            setattr(place, name, lambda *arguments, **settings: 1.0)


def work(connection, file: str, settings: dict):
    """What a worker does: sends results through the connection until there are no more.

    Args:
        connection: to the grader.
        file: the notebook.
        settings: of `results`; `adapt` is the file of its adapters.
    """
    os.setsid()  # so that it can be ended together with its children
    torch.set_num_threads(1)
    keep = connection.fileno()
    to_judge.append(keep)
    os.closerange(3, keep)  # what else was inherited, students' code would inherit too
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    result = {}
    try:
        adapters = load_adapters(settings.pop("adapt"))
        for result in results(file, **settings, adapters=adapters):
            connection.send_bytes(json.dumps(result).encode())
    except Exception as error:
        problem = f"the process that graded it stopped: {type(error).__name__}: {error}"
        connection.send_bytes(json.dumps(nothing("") | result | {"problem": problem}).encode())
    connection.close()
