"""The PDF of the book, tried with a cover, a chapter and two reference pages instead of all of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pdf
import pytest
import yaml
from pypdf import PdfReader

import notebooks

ROOT = Path(__file__).parent.parent
CHAPTER, REFERENCE = "notebooks/00_refresher", ["book/notation", "book/glossary"]


@pytest.fixture(scope="module")
def toc(tmp_path_factory):
    parts = [
        {"caption": "To read", "chapters": [{"file": CHAPTER}]},
        {"caption": "Reference", "chapters": [{"file": name} for name in REFERENCE]},
    ]
    path = tmp_path_factory.mktemp("toc") / "_toc.yml"
    path.write_text(yaml.safe_dump({"format": "jb-book", "root": "index", "parts": parts}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def site(toc, tmp_path_factory):
    """The pages of this small book, built with the book's own settings."""
    folder = tmp_path_factory.mktemp("site")
    program = shutil.which("jupyter-book", path=str(Path(sys.executable).parent))
    command = [program, "build", str(ROOT), "--toc", str(toc), "--path-output", str(folder)]
    build = subprocess.run(command, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr[-2000:]
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def document(site, toc, tmp_path_factory):
    if not any(map(shutil.which, pdf.NAMES)):
        pytest.skip("no Chromium or Chrome on this machine, so nothing is printed")
    out = tmp_path_factory.mktemp("pdf") / "book.pdf"
    sheets = pdf.make(out, site, toc)
    reader = PdfReader(out, strict=True)
    assert len(reader.pages) == sheets
    return reader


def plain(text):
    """Letters and digits only: a PDF breaks lines and ties letters where it likes."""
    return "".join(filter(str.isalnum, text.replace("ﬁ", "fi").replace("ﬂ", "fl"))).casefold()


def outline(reader):
    """(depth, title, sheet counted from 0) of each entry."""

    def walk(items, depth):
        for item in items:
            if isinstance(item, list):
                yield from walk(item, depth + 1)
            else:
                yield depth, item.title, reader.get_destination_page_number(item)

    return list(walk(reader.outline, 0))


def test_every_page_is_there_in_the_order_of_the_table_of_contents(document):
    entries = outline(document)
    assert [title for depth, title, _ in entries if depth == 0] == [
        "BERT from the ground up",
        "Contents",
        "To read",
        "Reference",
    ]
    titles = [(title, sheet) for depth, title, sheet in entries if depth == 1]
    assert [title for title, _ in titles][1:] == ["Notation and shapes", "Glossary"]
    for title, sheet in titles:
        assert plain(title) in plain(document.pages[sheet].extract_text()), title
    assert [sheet for _, _, sheet in entries] == sorted(sheet for _, _, sheet in entries)


def test_sections_lead_to_their_sheets(document):
    sections = [(title, sheet) for depth, title, sheet in outline(document) if depth == 2]
    assert len(sections) > 5
    for title, sheet in sections:
        assert plain(title) in plain(document.pages[sheet].extract_text()), title


def test_the_contents_name_the_numbers_at_the_foot(document):
    sheets = {title: sheet for depth, title, sheet in outline(document)}
    contents = document.pages[sheets["Contents"]].extract_text().splitlines()
    for title in ("Notation and shapes", "Glossary"):
        number = str(sheets[title] + 1)
        assert any(line.startswith(title) and line.split()[-1] == number for line in contents), title
        assert document.pages[sheets[title]].extract_text().split()[0] == number  # what stands at the foot


def test_links_lead_to_sheets_or_to_the_web(document):
    inside = outside = 0
    for sheet in document.pages:
        for annotation in sheet.annotations or []:
            link = annotation.get_object()
            if "/Dest" in link:
                assert link["/Dest"][0].get_object()["/Type"] == "/Page"
                inside += 1
            else:
                assert link["/A"]["/URI"].startswith("https://"), link["/A"]["/URI"]
                outside += 1
    assert inside > 10 and outside > 2


def test_figures_are_in_place_and_the_screen_is_left_out(document):
    assert sum(len(sheet.images) for sheet in document.pages) > 0
    text = plain("".join(sheet.extract_text() for sheet in document.pages))
    assert "skiptomaincontent" not in text and "powerpage" not in text


def test_no_line_of_code_is_cut_off(document):
    """Every line of every cell that is open on the page: Chromium leaves out what a frame would hide."""
    notebook = notebooks.read(ROOT / f"{CHAPTER}.ipynb")
    text = plain("".join(sheet.extract_text() for sheet in document.pages))
    hidden = {"hide-input", "hide-cell", "solution", "remove-cell"}
    cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and not hidden & set(cell.metadata.get("tags", []))
    ]
    lines = [line for cell in cells for line in cell.source.splitlines()]
    assert max(map(len, lines)) > 90
    assert not [line for line in lines if plain(line) not in text]


def test_without_chromium_one_clear_sentence(tmp_path):
    """Before anything is built or printed."""
    run = subprocess.run(
        [sys.executable, ROOT / "book" / "tools" / "pdf.py", tmp_path / "book.pdf"],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path)},
    )
    assert run.returncode == 1 and not run.stdout
    assert run.stderr.startswith("pdf: a PDF needs Chromium or Chrome") and run.stderr.count("\n") == 1
    assert not (tmp_path / "book.pdf").exists()


def test_a_page_that_was_not_built_is_named(toc, tmp_path):
    with pytest.raises(pdf.Unusable, match=r"has no page index\.html, which _toc\.yml names"):
        pdf.make(tmp_path / "book.pdf", tmp_path, toc)
