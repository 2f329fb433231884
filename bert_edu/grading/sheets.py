"""Reading a notebook that a student has handed in, without running any of it."""

import ast
import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..exercises import CHAPTERS, EXERCISES

INNER = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)  # names of their own
LARGEST = 100 << 20  # bytes of a notebook, outputs included
OPEN_ANSWER = "Write here, in a few sentences."  # what stands in the sheet until there is an answer


class Unreadable(Exception):
    """Why a file is no notebook that can be graded, in a sentence."""


@dataclass
class Sheet:
    """What a notebook holds.

    Attributes:
        cells: the source of each code cell that is Python, in order.
        student: the name typed into the sheet, or "".
        chapter: whose exercises it answers.
        quiz_answers: the letters given to the quiz.
        open_answer: the text given to the open question.
        notes: what was noticed on the way, in sentences.
    """

    cells: list[str]
    student: str = ""
    chapter: int | None = None
    quiz_answers: str = ""
    open_answer: str = ""
    notes: list[str] = field(default_factory=list)

    def binds(self, name: str) -> list[int]:
        """The cells that define this name."""
        return [number for number, cell in enumerate(self.cells) if name in names_bound(cell)]


def read(file: str | Path, chapter: int | None = None) -> Sheet:
    """Reads a notebook.

    Args:
        file: an .ipynb file.
        chapter: whose exercises it should answer; none given: those it names most often.

    Raises:
        Unreadable: when it cannot be graded; the message says why.
    """
    sheet = Sheet(list(python_cells(code_cells(file), notes := [])), notes=notes)
    sheet.student = clean_line(last_text(sheet.cells, "student"))
    sheet.quiz_answers = clean_line(last_text(sheet.cells, "quiz_answers"))
    answer = last_text(sheet.cells, "open_answer").strip()
    sheet.open_answer = "" if answer == OPEN_ANSWER else answer
    sheet.chapter = chapter or chapter_of(sheet.cells)
    return sheet


def code_cells(file: str | Path) -> list[str]:
    """The source of each code cell of a notebook file."""
    file = Path(file)
    if file.stat().st_size > LARGEST:
        raise Unreadable(
            f"the file has {file.stat().st_size >> 20} MB: clear the outputs and hand it in again"
        )
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the file is not JSON, so not a notebook: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise Unreadable('the file is JSON, but no notebook of format 4: it has no list "cells"')
    sources = []
    for cell in content["cells"]:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            sources.append("".join(map(str, source)) if isinstance(source, list) else str(source))
    return sources


def python_cells(sources: list[str], notes: list[str]):
    """The cells that are Python; lines that are meant for IPython, such as %pip, do nothing."""
    for number, source in enumerate(sources, start=1):
        if not is_python(source):
            source = re.sub(r"^(\s*)[%!?].*", r"\1pass", source, flags=re.MULTILINE)
            if not is_python(source):
                notes.append(f"code cell {number} is not valid Python and was left out")
                continue
        yield source


def is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def names_bound(source: str) -> set[str]:
    """The names that a cell binds at its top level, also inside if, for, try and with."""
    names, open_nodes = set(), list(ast.parse(source).body)
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                names.add(node.id)
        elif not isinstance(node, INNER):
            open_nodes += ast.iter_child_nodes(node)
    return names


def last_text(cells: list[str], name: str) -> str:
    """The text that is assigned to this name last, if it stands there as a string; else ""."""
    found = ""
    for cell in cells:
        for node in ast.parse(cell).body:
            is_assignment = isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            if is_assignment and name in [getattr(target, "id", None) for target in node.targets]:
                found = node.value.value
    return found if isinstance(found, str) else str(found)


def clean_line(text: str) -> str:
    """The text on one line, of at most 100 characters, without control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:100]


def chapter_of(cells: list[str]) -> int:
    """The chapter whose exercises the cells name most often."""
    words = re.findall(r"\w+", "\n".join(cells))
    counts = {
        number: sum(words.count(exercise.name) for exercise in module.EXERCISES)
        for number, module in CHAPTERS.items()
    }
    best = max(counts, key=counts.get)
    if counts[best]:
        return best
    asked = re.findall(r"check\(\s*[\"'](\w+)[\"']", "\n".join(cells))
    near = sorted({match for name in asked for match in difflib.get_close_matches(name, EXERCISES, n=1)})
    hint = f" (near ones: {', '.join(near)})" if near else ""
    raise Unreadable(f"no exercise of this book is named in it{hint}; say which chapter with --chapter")
