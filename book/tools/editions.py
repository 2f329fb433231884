"""The exercise sheets, made from the chapters: the text of a task stands in its chapter and nowhere else.

    python book/tools/editions.py            # writes every student sheet, notebooks/exercises/NN_name.ipynb
    python book/tools/editions.py --solutions FOLDER     # writes the sheets with solutions there

A sheet works alone, in Colab too: beside tasks and stubs it holds what they use of the chapter, and no more.
That is found by name: a statement of the chapter is taken when it binds a name that a task mentions, that the
solution uses, or that a statement taken before uses. Stubs, hints and quizzes are those of
`bert_edu.exercises`. Student sheets are stored without outputs; `tests/test_editions.py` proves that they are
what this program makes now, and that a sheet with solutions gets full marks.
"""

import argparse
import ast
import functools
import re
import symtable
import textwrap
from pathlib import Path

import nbformat

import notebooks
from bert_edu.exercises import CHAPTERS, Exercise
from bert_edu.exercises.quizzes import QUIZZES
from bert_edu.grading.sheets import OPEN_ANSWER

FOLDER = notebooks.ROOT / "notebooks" / "exercises"
DETAILS = re.compile(r"<details>.*?</details>\s*", re.DOTALL)
CODE_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BINDING = (ast.Assign, ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
HIDDEN = {"cellView": "form", "tags": ["hide-cell"]}

HOW = """\
# Exercises of chapter {chapter}: {title}

*Sheet of [chapter {chapter}](../{file}) of BERT from the ground up · [open it in Colab]({colab})*

Each answer has a cell that begins it: write in place of the `...`, run the cell, then run the check below. \
It tests one thing at a time and explains the first that does not hold. Add cells of your own as you like; \
only what has the name of the stub is looked at. `hint("{first}")` opens one hint, and one more each time \
you call it.

When you are done, run the whole notebook from top to bottom; its last cell says what is still missing."""

TOOLS = """\
from bert_edu.exercises import check, hint, quiz
from bert_edu.grading import preflight"""


# ---- Statements and the names they bind and use ------------------------------------------------------------


class Statement:
    """A statement at the top of a cell, with the comment above it."""

    def __init__(self, node: ast.stmt, lines: list[str], tags: list[str]):
        start = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]) - 1
        while start and lines[start - 1].startswith("# ") and not lines[start - 1].startswith("# @title"):
            start -= 1
        self.node, self.tags = node, tags
        self.source = "\n".join(lines[start : node.end_lineno])
        self.binds, self.uses = names_of(self.source)

    def source_for(self, needed: set[str]) -> str:
        """The source; of an import only the names that are needed."""
        if not isinstance(self.node, (ast.Import, ast.ImportFrom)):
            return self.source
        kept = [alias for alias in self.node.names if (alias.asname or alias.name.split(".")[0]) in needed]
        return ast.unparse(type(self.node)(**{**vars(self.node), "names": kept}))


def names_of(source: str) -> tuple[set[str], set[str]]:
    """The names that some source binds at its top, and those that it uses of what surrounds it."""
    top = symtable.symtable(source, "cell", "exec")
    binds = {
        symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()
    }
    return binds, {*used_in(top)}


def used_in(table: symtable.SymbolTable):
    """The global names that are read in a scope and in those inside it."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from used_in(inner)


def statements(cell) -> list[Statement]:
    """The statements of a code cell; lines for IPython are left out."""
    lines = [re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in cell.source.splitlines()]
    return [
        Statement(node, lines, cell.metadata.get("tags", [])) for node in ast.parse("\n".join(lines)).body
    ]


def needed_statements(names: set[str], among: list[Statement]) -> tuple[list[Statement], set[str]]:
    """The definitions and assignments of these names and of what they use; and all names used."""
    among = [each for each in among if isinstance(each.node, BINDING)]
    taken, names, open_names = set(), set(names), sorted(names)
    while open_names:
        name = open_names.pop()
        places = [place for place, statement in enumerate(among) if name in statement.binds]
        if places and places[-1] not in taken:  # the last one counts
            taken.add(places[-1])
            new = among[places[-1]].uses
            open_names += sorted(new - names)
            names |= new
    return [among[place] for place in sorted(taken)], names


def notebook_of(number: int) -> Path:
    """The notebook of a chapter; there must be one."""
    for path in (notebooks.ROOT / "notebooks").glob(f"{number:02}_*.ipynb"):
        return path
    raise FileNotFoundError(f"chapter {number} has no notebook, notebooks/{number:02}_*.ipynb")


# ---- A chapter, taken apart --------------------------------------------------------------------------------


class Chapter:
    """What a sheet needs of a chapter's notebook."""

    def __init__(self, number: int):
        self.path = notebook_of(number)
        self.number, self.exercises = number, CHAPTERS[number].EXERCISES
        cells = notebooks.read(self.path).cells
        self.title = cells[0].source.splitlines()[0].removeprefix("# ").split(":")[0]
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        parts = re.split(r"^#{2,3} ", text.split("\n## Exercises")[1], flags=re.MULTILINE)
        self.tasks = {}
        for part in parts:
            if match := re.match(r"Exercise (\d+\.\d+): ", part):
                self.tasks[match[1]] = self.text_of(part)
        (self.open_question,) = (self.text_of(part) for part in parts if part.startswith("Open question"))

        code = [cell for cell in cells if cell.cell_type == "code" and not notebooks.is_set_up(cell)]
        solutions = [cell for cell in code if "solution" in cell.metadata.get("tags", [])]
        self.statements = [each for cell in code if cell not in solutions for each in statements(cell)]
        self.solutions = [each for cell in solutions for each in statements(cell)]
        self.defined = {
            name
            for each in self.statements
            for name in each.binds
            if isinstance(each.node, BINDING) and not isinstance(each.node, ast.Assign)
        }
        # Names of arguments, attributes and sizes: in the prose of a task they mean these, not a variable.
        nodes = [node for each in self.statements + self.solutions for node in ast.walk(each.node)]
        self.parts = {node.arg for node in nodes if isinstance(node, (ast.arg, ast.keyword))}
        self.parts |= {node.attr for node in nodes if isinstance(node, ast.Attribute)} | set("BTHADILV")

    @staticmethod
    def text_of(part: str) -> str:
        """A task without its hints; links lead from the folder of the sheets."""
        text = DETAILS.sub("", part).strip()
        return re.sub(r"\]\((?![a-z]+:|#)([^)\s]+)", r"](../\1", text)

    def solution(self, exercise: Exercise) -> tuple[str, set[str]]:
        """The statements that make up the answer, as source, and the names that they use of the chapter."""
        taken, names = needed_statements({exercise.name}, self.solutions)
        imports = [each for each in taken if isinstance(each.node, (ast.Import, ast.ImportFrom))]
        rest = [each.source for each in taken if each not in imports]
        lines = "\n".join(each.source_for(names) for each in imports)
        return "\n\n\n".join([lines, *rest] if lines else rest), names

    def context(self) -> str:
        """What the tasks and the solutions use of the chapter."""
        names = set()
        for exercise in self.exercises:
            names |= self.solution(exercise)[1] | self.names_in(exercise)
        names -= {exercise.name for exercise in self.exercises}
        taken, names = needed_statements(names, self.statements)
        imports = [each for each in taken if isinstance(each.node, (ast.Import, ast.ImportFrom))]
        lines = sorted({each.source_for(names) for each in imports}, key=import_order)
        parts = [("\n".join(lines), False)]  # source, and whether blank lines stand around it
        for statement in taken:
            if statement not in imports:
                parts.append((statement.source, isinstance(statement.node, (ast.FunctionDef, ast.ClassDef))))
        source = parts[0][0]
        for (_, apart), (part, is_apart) in zip(parts, parts[1:]):
            source += ("\n\n\n" if apart or is_apart else "\n") + part
        return source.strip()

    def names_in(self, exercise: Exercise) -> set[str]:
        """The names that the stub uses, and those that stand as code in the task."""
        task = self.tasks[exercise.number]
        names = set()
        for source in (exercise.stub, *CODE_BLOCK.findall(task)):
            names |= uses_of(source)
        for span in CODE_SPAN.findall(CODE_BLOCK.sub("", task)):
            names |= uses_of(span) & self.defined | ({span} - self.parts)
        return names


def uses_of(source: str) -> set[str]:
    """The names that some source uses; none if it is not Python, as in "(B, T) ->"."""
    try:
        return names_of(textwrap.dedent(source))[1]
    except SyntaxError:
        return set()


taken_apart = functools.cache(Chapter)


def import_order(line: str) -> tuple[int, str]:
    """Python's own modules, then installed ones, then the book's."""
    module = line.split()[1]
    return ("bert_edu" in module, not line.startswith("import"), module)


# ---- The sheet ---------------------------------------------------------------------------------------------


def sheet(number: int, solved: bool = False):
    """A chapter's exercise sheet, for students or with solutions, as a notebook without outputs."""
    chapter, first = taken_apart(number), CHAPTERS[number].EXERCISES[0].name
    repository = notebooks.repository_address().removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/exercises/{chapter.path.name}"
    cells = [
        markdown(
            HOW.format(chapter=number, title=chapter.title, file=chapter.path.name, colab=colab, first=first),
            "how",
        ),
        code(
            'student = ""  # your name or number, as your instructor wants it'
            if not solved
            else 'student = "Solution"',
            "student",
        ),
        code(
            f"# @title From chapter {number}: what the exercises use\n{chapter.context()}".rstrip(),
            "context",
            HIDDEN,
        ),
        code(
            TOOLS,
            "tools",
        ),
    ]
    for exercise in chapter.exercises:
        answer = chapter.solution(exercise)[0] if solved else exercise.stub.strip()
        place = exercise.number.replace(".", "-")
        cells += [
            markdown(f"## {chapter.tasks[exercise.number]}", f"task-{place}"),
            code(answer, f"answer-{place}"),
            code(f'check("{exercise.name}", {exercise.name});', f"check-{place}"),
        ]
    letters = "".join(right_letter(question) for question in QUIZZES[number])
    answers = letters if solved else "-" * len(letters)
    cells += [
        markdown(f"## {chapter.open_question}\n\nWrite between the quotation marks below.", "question"),
        code(f'open_answer = """\n{OPEN_ANSWER}\n"""', "open-answer"),
        markdown("## Quiz", "quiz"),
        code(f"quiz({number})", "quiz-questions"),
        code(
            f'quiz_answers = "{answers}"  # a letter for each question; a hyphen leaves one out\n'
            f"quiz({number}, quiz_answers)",
            "quiz-answers",
        ),
        markdown("## Before you hand in", "before"),
        code(f"preflight({number}, globals());", "preflight"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebooks.clean(notebook)
    return notebook


def right_letter(question) -> str:
    return next(letter for letter, option in zip("abcdefgh", question.options) if option.right)


def markdown(source: str, name: str):
    cell = nbformat.v4.new_markdown_cell(source)
    cell.id = name
    return cell


def code(source: str, name: str, metadata: dict | None = None):
    cell = nbformat.v4.new_code_cell(source, metadata=nbformat.from_dict(metadata or {}))
    cell.id = name
    return cell


def file_of(number: int, folder: Path = FOLDER) -> Path:
    return folder / taken_apart(number).path.name


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--solutions", type=Path, metavar="FOLDER", help="write sheets with solutions there")
    folder = parser.parse_args().solutions
    for number in CHAPTERS:
        path = file_of(number, folder or FOLDER)
        path.parent.mkdir(parents=True, exist_ok=True)
        notebooks.write(sheet(number, solved=folder is not None), path)
        print(path)


if __name__ == "__main__":
    main()
