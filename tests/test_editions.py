"""The exercise sheets are made from the chapters, hold no solution, and can be filled in.

That each student sheet runs unanswered from top to bottom is shown by pytest's run of notebooks/exercises.
"""

import contextlib
import io
import json

import nbformat
import pytest
from test_notebooks import broken_links, markdown_faults, output_faults, unclean_parts

import editions
import notebooks
from bert_edu.exercises import CHAPTERS
from bert_edu.exercises.quizzes import QUIZZES


@pytest.fixture(scope="module", params=CHAPTERS, ids=lambda number: f"chapter {number}")
def chapter(request):
    return editions.taken_apart(request.param)


def sources(notebook, kind="code"):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_the_stored_sheet_is_what_the_tool_makes_now(chapter):
    stored = editions.file_of(chapter.number)
    assert stored.is_file(), "run `python book/tools/editions.py`"
    made = json.loads(nbformat.writes(editions.sheet(chapter.number)))
    assert json.loads(stored.read_text(encoding="utf-8")) == made, "run `python book/tools/editions.py`"


def test_no_other_sheets_lie_about():
    names = {editions.file_of(number).name for number in CHAPTERS}
    assert {path.name for path in editions.FOLDER.glob("*.ipynb")} == names


def test_the_student_sheet_holds_no_solution(chapter):
    sheet, solved = (sources(editions.sheet(chapter.number, solved=kind)) for kind in (False, True))
    shown = "\n".join(sheet)
    for exercise in chapter.exercises:
        assert exercise.stub.strip() in sheet and exercise.stub.strip() not in solved
        solution, _ = chapter.solution(exercise)
        assert solution in solved and f" {exercise.name}" in solution
        body = [line for line in solution.splitlines() if len(line) > 30 and line.startswith(" ")]
        told = "\n".join(chapter.tasks[exercise.number].splitlines()) + chapter.context()
        assert not [line for line in body if line in shown and line not in told]
    letters = "".join(editions.right_letter(question) for question in QUIZZES[chapter.number])
    assert f'"{letters}"' in "\n".join(solved) and f'"{letters}"' not in shown


def test_the_sheet_says_what_the_chapter_says(chapter):
    texts = "\n".join(sources(editions.sheet(chapter.number), "markdown"))
    for exercise in chapter.exercises:
        task = chapter.tasks[exercise.number]
        assert task in texts and task.startswith(f"Exercise {exercise.number}: {exercise.title}")
        assert "<details>" not in task and "Hint" not in task
    assert chapter.open_question in texts and "<details>" not in chapter.open_question


def test_the_sheet_is_a_good_notebook(chapter):
    sheet, path = editions.sheet(chapter.number), editions.file_of(chapter.number)
    faults = [*unclean_parts(sheet), *markdown_faults(sheet, path), *output_faults(sheet)]
    assert not faults
    assert notebooks.is_set_up(sheet.cells[1]) and sheet.cells[1].source == notebooks.set_up_cell()
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in sheet.cells)
    address = notebooks.repository_address().removeprefix("https://github.com/")
    assert f"github/{address}/blob/main/notebooks/exercises/{path.name}" in sheet.cells[0].source


def test_solutions_get_full_marks_and_nothing_else_is_needed(chapter):
    """Run as it stands, in a namespace of its own: the sheet holds all that its solutions use."""
    namespace, cells = {}, editions.sheet(chapter.number, solved=True).cells
    results = {}
    with contextlib.redirect_stdout(shown := io.StringIO()):
        for cell in cells:
            if cell.cell_type == "code" and not notebooks.is_set_up(cell):
                if cell.id.startswith("check"):
                    results[cell.id] = eval(cell.source.rstrip(";"), namespace)
                else:
                    exec(cell.source, namespace)
    assert list(results.values()) == [1.0] * len(chapter.exercises), shown.getvalue()
    assert "not right" not in shown.getvalue()
    assert "1 of 6 missing" in shown.getvalue()  # the open question, which has no solution


def test_links_lead_from_the_folder_of_the_sheets():
    part = "Exercise 1.1: x\n\n[a](03_x.ipynb) [b](../book/y.md#z) [c](https://d.e) [f](#g)"
    text = editions.Chapter.text_of(part)
    assert "[a](../03_x.ipynb)" in text and "[c](https://d.e)" in text and "[f](#g)" in text
    assert "[b](../../book/y.md#z)" in text
    assert list(broken_links("[a](../nowhere.ipynb)", editions.FOLDER / "x.ipynb"))


CELLS = [
    "import math, re\nfrom os import path as place, sep\nsize = 3\nother = size + 1",
    "def area(x):\n    size = 2\n    return math.pi * x * factor * size\n\n\n# twice\nfactor = 2",
    "factor = other  # the last one counts\nfor size in range(3):\n    print(size)\nunused = 5",
    "# @title A title\nclass Circle:\n    def area(self):\n        return area(self.x)",
]


def statements_of(cells):
    return [each for cell in cells for each in editions.statements(editions.code(cell, "x"))]


def test_what_an_answer_needs_is_found_by_name():
    taken, names = editions.needed_statements({"Circle"}, statements_of(CELLS))
    found = [statement.source for statement in taken]
    assert found == [
        "import math, re",
        "size = 3",
        "other = size + 1",
        "def area(x):\n    size = 2\n    return math.pi * x * factor * size",
        "factor = other  # the last one counts",
        "class Circle:\n    def area(self):\n        return area(self.x)",
    ]
    assert taken[0].source_for(names) == "import math" and "place" not in names and "sep" not in names


def test_a_comment_above_a_statement_goes_with_it():
    assert statements_of(CELLS)[5].source == "# twice\nfactor = 2"
    assert statements_of(["%time 1\n!ls\nx = 1"])[-1].source == "x = 1"
