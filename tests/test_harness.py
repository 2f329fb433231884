"""The harness itself: does `pytest` notice when a stored output, or what lies behind a figure, has changed?

One small notebook is executed as an author would do it, then some of its cells are spoiled, each in one way.
A second pytest, started on a copy of the project's own conftest.py, has to find exactly those.
"""

import base64
import io
import re
import shutil

import nbformat
import pytest
from PIL import Image, ImageDraw

import notebooks

pytest_plugins = ["pytester"]

PLOT = """import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(4, 3))
axes.plot([0, 1, 2], [0, 2, {top}])
plt.show()"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook as it is stored: cells that print, that draw, and that assert."""
    sources = {
        "text": "print(1 + 2)",
        "text-changed": "print(3 + 4)",
        "result-changed": "5 + 6",
        "dropped": "print('here')",
        "figure": PLOT.format(top=4),
        "figure-jitter": PLOT.format(top=4),
        "figure-touched": PLOT.format(top=4),
        "array-changed": PLOT.format(top=4),
        "size-changed": PLOT.format(top=4),
        "figure-dropped": PLOT.format(top=4),
        "ignored": "print('a timing')",
        "assertion": "number = 1\nassert number == 1",
    }
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A trial")])
    for name, source in sources.items():
        notebook.cells.append(nbformat.v4.new_code_cell(source, id=name))
    notebook.cells[-2].metadata.tags = ["nbval-ignore-output"]
    path = tmp_path_factory.mktemp("executed") / "trial.ipynb"
    nbformat.write(notebook, path)
    notebooks.execute(path)
    return path


def touch(image):
    """A dot of two by two pixels."""
    ImageDraw.Draw(image).rectangle((100, 60, 101, 61), fill="black")
    return image


def jitter(image):
    """Every colour off by two levels, as the last digits of another machine may do."""
    return image.point(lambda level: level - 2 if level > 2 else level + 2)


def redraw(output, change):
    image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGBA")
    file = io.BytesIO()
    change(image).save(file, format="PNG")
    output.data["image/png"] = base64.b64encode(file.getvalue()).decode()


def spoil(notebook):
    cells = {cell.id: cell for cell in notebook.cells}
    cells["text-changed"].outputs[0].text = "8\n"
    cells["result-changed"].outputs[0].data["text/plain"] = "12"
    cells["dropped"].outputs = []
    redraw(cells["figure-jitter"].outputs[0], jitter)
    redraw(cells["figure-touched"].outputs[0], touch)
    cells["array-changed"].source = PLOT.format(top=3.98)
    cells["size-changed"].source = PLOT.format(top=4).replace("(4, 3)", "(4, 3.2)")
    cells["figure-dropped"].outputs = []
    cells["ignored"].outputs[0].text = "another timing\n"
    cells["assertion"].source = "number = 2\nassert number == 1"


@pytest.fixture
def project(executed, pytester):
    """A copy of the project that has this one notebook, spoiled."""
    for file in ("conftest.py", "pyproject.toml", "requirements.txt", "book/tools/notebooks.py"):
        (pytester.path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(notebooks.ROOT / file, pytester.path / file)
    (pytester.path / "tests").mkdir()
    (pytester.path / "notebooks").mkdir()
    notebook = notebooks.read(executed)
    spoil(notebook)
    nbformat.write(notebook, pytester.path / "notebooks" / "trial.ipynb")
    pytester.notebook = notebook
    return pytester


def failing_cells(project, result):
    """The ids of the cells that failed."""
    code = [cell.id for cell in project.notebook.cells if cell.cell_type == "code"]
    return {
        code[int(number)]
        for number in re.findall(r"^FAILED \S+::Cell (\d+)", result.stdout.str(), re.MULTILINE)
    }


def test_strict_finds_each_change(project):
    result = project.runpytest_subprocess("--color=no", "--notebook-outputs=strict")
    result.stdout.fnmatch_lines(["notebooks: strict*"])
    assert failing_cells(project, result) == {
        "text-changed",
        "result-changed",
        "dropped",
        "figure-touched",
        "array-changed",
        "size-changed",
        "figure-dropped",
        "assertion",
    }
    result.stdout.fnmatch_lines(
        [
            "trial.ipynb, cell 7 (id figure-touched): figure 1 differs from the stored one by up to *",
            "trial.ipynb, cell 8 (id array-changed): figure 1 differs from the stored one by up to *",
            "trial.ipynb, cell 9 (id size-changed): figure 1 is stored with * pixels and was drawn with *",
            "trial.ipynb, cell 10 (id figure-dropped): 0 figures are stored, 1 were drawn",
        ]
    )


def test_other_versions_are_lax_and_hold_assertions_only(project):
    pins = project.path / "requirements.txt"
    pins.write_text(re.sub(r"^numpy==\S+", "numpy==1.0.0", pins.read_text(), flags=re.MULTILINE))
    result = project.runpytest_subprocess("--color=no")
    result.stdout.fnmatch_lines(["notebooks: lax*numpy is *, the outputs are from 1.0.0*"])
    assert failing_cells(project, result) == {"assertion"}
