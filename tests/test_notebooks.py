"""Every notebook is clean, well-formed and reads well wherever it is opened; every relative link leads on.

`faults` lists what is wrong with a notebook, one sentence each. The second half of the file spoils a good
notebook in every way that `faults` knows, and checks that it says so.
"""

import copy
import re

import nbformat
import pytest

import notebooks

NOTEBOOKS = sorted((notebooks.ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted([*notebooks.ROOT.glob("*.md"), *(notebooks.ROOT / "book").glob("*.md")])

CELLS = 20  # code cells in a chapter, figures and solutions not counted
LINES, FIGURE_LINES = 20, 30  # in a code cell
TEXT = 20  # characters: an alternative text or caption that is shorter says nothing

TAGS = {"component", "figure", "imports", "solution", "nbval-ignore-output", "scroll-output"} | {
    f"{verb}-{part}" for verb in ("hide", "remove") for part in ("input", "output", "cell")
}
SECTIONS = ("What you will be able to do", "Summary", "Exercises", "Further reading")
MACHINE = re.compile(r"/(?:work|root|tmp|home)/|site-packages|<[\w.]+ (?:object )?at 0x")
# MyST that JupyterLab and Colab would show as it stands. `:::{note}` is not here: what it encloses stays
# readable.
RAW_MYST = {
    "a directive": re.compile(r"^\s*(?:`{3,}|~{3,})\{|^\s*:{3,}\{(?!note\})", re.MULTILINE),
    "a role": re.compile(r"\{[\w:+-]+\}`"),
    "a label": re.compile(r"^\([\w:. -]+\)=\s*$|\$\$\s*\([\w:-]+\)\s*$", re.MULTILINE),
    "attributes": re.compile(r"[\])`]\{[.#]|^\{[.#][^}]*\}\s*$", re.MULTILINE),
}
FENCE = re.compile(r"^\s*(`{3,}|~{3,})(?!\{).*?^\s*\1`*\s*$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"(?<![`}])(`+)(?!`).+?(?<!`)\1(?!`)")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|(?:src|href)=[\"']([^\"']+)")


def without_code(markdown):
    """The Markdown with code blocks and code spans taken out."""
    return CODE_SPAN.sub("", FENCE.sub("", markdown))


def tags(cell):
    return cell.metadata.get("tags", [])


def faults(notebook, path):
    """Sentences that say what is wrong with `notebook`, which stands (or would stand) at `path`."""
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):  # nbformat would give them new ones
        return [f"each cell needs an id of its own: {ids}"]
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [f"not a valid notebook: {error.message}"]
    return [
        *unclean_parts(notebook),
        *structure_faults(notebook, path),
        *markdown_faults(notebook, path),
        *code_faults(notebook),
        *figure_faults(notebook),
        *output_faults(notebook),
    ]


def unclean_parts(notebook):
    """What the author's tool would have written otherwise: metadata, ids, set-up cell."""
    tidy = copy.deepcopy(notebook)
    notebooks.clean(tidy)
    if len(tidy.cells) != len(notebook.cells):
        yield "there is no set-up cell: run `python book/tools/notebooks.py execute`"
        return
    if (tidy.metadata, tidy.nbformat_minor) != (notebook.metadata, notebook.nbformat_minor):
        yield f"the notebook's metadata should be {notebooks.NOTEBOOK_METADATA} in format 4.5"
    for number, (before, after) in enumerate(zip(notebook.cells, tidy.cells, strict=True)):
        for part in ("id", "metadata", "source"):
            if before.get(part) != after[part]:
                yield f"cell {number}: {part} should be {after[part]!r}"


def structure_faults(notebook, path):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if code and not notebooks.is_set_up(code[0]):
        yield "the first code cell is not the set-up cell"
    counted = [cell for cell in code if not {"figure", "solution"} & set(tags(cell))]
    if len(counted) > CELLS:
        yield f"{len(counted)} code cells, {CELLS} are allowed"
    headings = [
        (number, heading)
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "markdown"
        for heading in re.findall(r"^#{1,6} .*", FENCE.sub("", cell.source), re.MULTILINE)
    ]
    titles = [number for number, heading in headings if heading.startswith("# ")]
    if titles != [0]:
        yield f"one title (#) in the first cell, please; there are titles in cells {titles}"
    if re.match(r"(?!0[01])\d\d_", path.name):  # the refresher and chapter 1 are shorter
        for section in SECTIONS:
            if not any(heading.startswith(f"## {section}") for number, heading in headings):
                yield f"there is no section '## {section}'"


def markdown_faults(notebook, path):
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "markdown":
            continue
        for what, pattern in RAW_MYST.items():
            found = pattern.search(without_code(cell.source))
            if found:
                yield f"cell {number}: {what} that Colab shows raw: {found.group().strip()!r}"
        for link in broken_links(cell.source, path):
            yield f"cell {number}: the link to {link} leads nowhere"


def broken_links(markdown, path):
    for groups in LINK.findall(without_code(markdown)):
        target = "".join(groups).split("#")[0]
        if target and not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
            yield target


def code_faults(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"the execution counts are {counts}: run the whole notebook from top to bottom"
    for number, cell in enumerate(code):
        lines = sum(not line.startswith("# @title") for line in cell.source.splitlines())
        limit = FIGURE_LINES if "figure" in tags(cell) else LINES
        if lines > limit:
            yield f"code cell {number}: {lines} lines, {limit} are allowed"
        if not cell.source:
            yield f"code cell {number} is empty"
        if set(tags(cell)) - TAGS:
            yield f"code cell {number}: unknown tags {sorted(set(tags(cell)) - TAGS)}"
        if re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source):
            yield f"code cell {number}: nbval is steered by tags here, not by comments"
        if "nbval-ignore-output" in tags(cell):
            checked = "\n".join(each.source for each in code[number : number + 2])
            if not re.search(r"^\s*assert\b", checked, re.MULTILINE):
                yield f"code cell {number}: its output is ignored: it or the next one must assert something"


def figure_faults(notebook):
    for number, cell in enumerate(notebook.cells):
        images = [
            kind for output in cell.get("outputs", []) for kind in output.get("data", {}) if "image" in kind
        ]
        if not images:
            continue
        if images != ["image/png"]:
            yield f"cell {number}: one PNG a cell, please, not {images}"
        settings = cell.metadata.get("mystnb", {})
        if len(settings.get("image", {}).get("alt", "")) <= TEXT:
            yield f"cell {number}: the figure needs an alternative text, mystnb.image.alt"
        if len(settings.get("figure", {}).get("caption", "")) <= TEXT:
            yield f"cell {number}: the figure needs a caption, mystnb.figure.caption"


def output_faults(notebook):
    for number, cell in enumerate(notebook.cells):
        if MACHINE.search(cell.source):
            yield f"cell {number}: a path of one machine: {MACHINE.search(cell.source).group()}"
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"cell {number}: an error output"
            if output.get("name") == "stderr":
                yield f"cell {number}: output on stderr"
            if any("widget" in kind or "javascript" in kind for kind in output.get("data", {})):
                yield f"cell {number}: a widget or script among the outputs"
            texts = [
                output.get("text", ""),
                *(str(text) for kind, text in output.get("data", {}).items() if "text" in kind),
            ]
            for found in filter(None, map(MACHINE.search, texts)):
                yield f"cell {number}: a path or address of one machine in an output: {found.group()}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path):
    assert faults(nbformat.read(path, as_version=nbformat.NO_CONVERT), path) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(notebooks.ROOT).as_posix())
def test_links_of_pages(path):
    assert list(broken_links(path.read_text(encoding="utf-8"), path)) == []


# From here on: does `faults` find them?

PATH = notebooks.ROOT / "notebooks" / "02_trial.ipynb"


def good_notebook():
    """A notebook without faults, with one cell of each kind: title, set-up, figure, solution."""
    new_markdown, new_code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    figure = {
        "mystnb": {
            "image": {"alt": "A line that rises to the right."},
            "figure": {"caption": "See how the line rises."},
        }
    }
    picture = nbformat.v4.new_output(
        "display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}
    )
    notebook = nbformat.v4.new_notebook(
        cells=[
            new_markdown("# Trial\n\n`{role}` and [a page](../README.md)\n\n```\n{note}`x`\n```"),
            new_markdown("\n\n".join(f"## {section}" for section in SECTIONS)),
            new_code("x = 1\nprint(x)", outputs=[nbformat.v4.new_output("stream", text="1\n")]),
            new_code("draw()", metadata={"tags": ["figure"], **figure}, outputs=[picture]),
            new_code("time()\nassert True", metadata={"tags": ["nbval-ignore-output"]}),
            new_code("pass"),
            new_markdown(":::{note}\nThis stays readable.\n:::"),
        ]
    )
    for cell in notebook.cells:
        del cell["id"]
    notebooks.clean(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
    return notebook


def test_a_good_notebook_has_no_faults():
    assert faults(good_notebook(), PATH) == []


def add(number, text):
    def spoil(notebook):
        notebook.cells[number].source += text

    return spoil


def set_metadata(number, **metadata):
    def spoil(notebook):
        notebook.cells[number].metadata.update(nbformat.from_dict(metadata))

    return spoil


def add_output(number, *arguments, **content):
    def spoil(notebook):
        notebook.cells[number].outputs.append(nbformat.v4.new_output(*arguments, **content))

    return spoil


def drop(number):
    def spoil(notebook):
        del notebook.cells[number]

    return spoil


def swap(one, other):
    def spoil(notebook):
        notebook.cells[one], notebook.cells[other] = notebook.cells[other], notebook.cells[one]

    return spoil


def same_ids(notebook):
    notebook.cells[0].id = notebook.cells[2].id


def language_version(notebook):
    notebook.metadata.language_info.version = "3.12.1"


def widget_state(notebook):
    notebook.metadata.widgets = {"state": {}}


def not_executed(notebook):
    notebook.cells[3].execution_count = None


def too_many_cells(notebook):
    for _ in range(CELLS):
        notebook.cells.append(nbformat.v4.new_code_cell("pass"))


SET_UP, MARKDOWN, PRINT, FIGURE, IGNORED, PASS = (
    1,
    2,
    3,
    4,
    5,
    6,
)  # where the cells of the good notebook stand


@pytest.mark.parametrize(
    "spoil, message",
    [
        (same_ids, "id of its own"),
        (language_version, "metadata should be"),
        (widget_state, "metadata should be"),
        (set_metadata(PRINT, collapsed=True), "metadata should be"),
        (set_metadata(PRINT, execution={"iopub.execute_input": "2026"}), "metadata should be"),
        (set_metadata(PRINT, jupyter={"outputs_hidden": True}), "metadata should be"),
        (add(PRINT, "\n"), "source should be"),
        (add(SET_UP, "\nprint(1)"), "source should be"),
        (drop(SET_UP), "no set-up cell"),
        (swap(SET_UP, PRINT), "first code cell"),
        (too_many_cells, "code cells, 20 are allowed"),
        (add(MARKDOWN, "\n\n# Again"), "one title"),
        (drop(MARKDOWN), "no section '## Exercises'"),
        (add(MARKDOWN, "\n\n```{figure} x.png\n```"), "a directive"),
        (add(MARKDOWN, "\n\n:::{admonition} Aside\nx\n:::"), "a directive"),
        (add(MARKDOWN, "\n\nsee {cite:p}`vaswani2017`"), "a role"),
        (add(MARKDOWN, "\n\n(here)=\n"), "a label"),
        (add(MARKDOWN, "\n\n$$ x $$ (equation)"), "a label"),
        (add(MARKDOWN, "\n\n[text](../README.md){.button}"), "attributes"),
        (add(MARKDOWN, "\n\n[text](99_nowhere.ipynb#here)"), "99_nowhere.ipynb leads nowhere"),
        (add(MARKDOWN, '\n\n<img src="nowhere.png" alt="none">'), "nowhere.png leads nowhere"),
        (not_executed, "execution counts"),
        (add(PRINT, "\nx" * 20), "22 lines, 20 are allowed"),
        (add(FIGURE, "\nx" * 30), "31 lines, 30 are allowed"),
        (set_metadata(PRINT, tags=["nbval-skip"]), "unknown tags"),
        (add(PRINT, "  # NBVAL_IGNORE_OUTPUT"), "not by comments"),
        (set_metadata(PASS, tags=["nbval-ignore-output"]), "must assert something"),
        (set_metadata(FIGURE, mystnb={"figure": {"caption": "See how the line rises."}}), "mystnb.image.alt"),
        (
            set_metadata(FIGURE, mystnb={"image": {"alt": "A line that rises to the right."}}),
            "mystnb.figure.caption",
        ),
        (add_output(FIGURE, "display_data", data={"image/png": "iVBORw0KGgo="}), "one PNG a cell"),
        (add_output(PRINT, "display_data", data={"image/svg+xml": "<svg/>"}), "one PNG a cell"),
        (add_output(PRINT, "error", ename="ValueError", evalue="x", traceback=[]), "an error output"),
        (add_output(PRINT, "stream", name="stderr", text="careful"), "stderr"),
        (
            add_output(PRINT, "display_data", data={"application/vnd.jupyter.widget-view+json": {}}),
            "a widget",
        ),
        (add(PRINT, "\nopen('/home/me/x')"), "a path of one machine"),
        (add_output(PRINT, "stream", text="/root/x.py:3: saved"), "in an output"),
        (add_output(PRINT, "execute_result", data={"text/plain": "<Thing at 0x7f0123>"}), "in an output"),
    ],
)
def test_each_fault_is_found(spoil, message):
    notebook = good_notebook()
    spoil(notebook)
    assert any(re.search(message, fault) for fault in faults(notebook, PATH)), faults(notebook, PATH)
