"""The book as one PDF: each page as Chromium prints it, joined in the order of _toc.yml.

    python book/tools/pdf.py book.pdf                        # builds the book first, into _build
    python book/tools/pdf.py book.pdf --site _build/html     # takes a book that is built already

A page of contents follows the cover; the outline, which a reader of PDFs shows at the side, has parts,
chapters and sections. Links between pages lead to the page within the PDF.
"""

import argparse
import html
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urldefrag

import yaml
from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
# Paper, margins and the number at the foot. How the page looks in print is set in book/static/custom.css.
PAPER = """
@page {
    size: A4; margin: 17mm 17mm 20mm;
    @bottom-center { content: counter(page); color: #555; font: 9pt sans-serif; }
}
:root { counter-reset: page %d; }
"""
# Charts and formulas are drawn by scripts; until they have, there is nothing to print.
DRAWN = """async () => {
    await window.MathJax?.startup?.promise;
    await document.fonts.ready;
    for (const image of document.images) image.loading = "eager";
    await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
}"""
TITLE = """() => {
    const heading = document.querySelector("article h1").cloneNode(true);
    heading.querySelectorAll("a.headerlink").forEach(link => link.remove());
    return heading.textContent.trim().replace(/\\s+/g, " ");
}"""


class Unusable(Exception):
    """Something that is missing, in one sentence for the person at the keyboard."""


@dataclass
class Printed:
    """One page of the book on paper."""

    name: str  # as in _toc.yml
    title: str
    file: Path
    start: int  # its first sheet, counted from 0
    length: int


def browser_program() -> str:
    """The path of Chromium.

    Raises:
        Unusable: when there is none.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise Unusable(
            "a PDF needs Chromium or Chrome, and none is on the PATH: install it (on Debian and Ubuntu: "
            "apt-get install chromium) and try again"
        )
    return program


def read_parts(toc: Path) -> tuple[str, list[tuple[str, list[str]]]]:
    """The first page of the book, and each part's caption with the names of its pages."""
    contents = yaml.safe_load(toc.read_text(encoding="utf-8"))
    parts = [(part["caption"], [page["file"] for page in part["chapters"]]) for part in contents["parts"]]
    return contents["root"], parts


def build() -> Path:
    """Builds the book as `jupyter-book build .` does; returns the folder of its pages."""
    subprocess.run(["jupyter-book", "build", str(ROOT)], check=True)
    return ROOT / "_build" / "html"


def print_page(browser, address: str, file: Path, start: int) -> tuple[str, int]:
    """Prints one address into `file`, with the first sheet numbered `start` + 1; its title and its length."""
    page = browser.new_page(
        color_scheme="light", reduced_motion="reduce"
    )  # what moves stands still at its end
    page.goto(address)
    page.evaluate(DRAWN)
    page.wait_for_load_state("networkidle")
    page.add_style_tag(content=PAPER % start)
    title = page.evaluate(TITLE)
    page.pdf(path=file, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
    page.close()
    return title, len(PdfReader(file).pages)


def contents_page(parts, printed: dict[str, Printed], site: Path) -> str:
    """The page of contents in HTML."""
    rows = []
    for caption, names in parts:
        rows.append(f"<tr><th colspan=2>{html.escape(caption)}</th></tr>")
        for name in names:
            title, number = (printed[name].title, printed[name].start + 1) if name in printed else (name, 0)
            link = f'<a href="{(site / name).as_uri()}.html">{html.escape(title)}</a>'
            rows.append(f"<tr><td>{link}</td><td>{number}</td></tr>")
    style = (
        "body { font: 11pt/1.5 sans-serif } a { color: inherit; text-decoration: none } "
        "table { border-spacing: 0; width: 100% } th { padding-top: 0.8em; text-align: left } "
        "td { border-bottom: 1px solid #ddd } td + td { text-align: right }"
    )
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Contents</title><style>{style}</style>'
        f"<article><h1>Contents</h1><table>{''.join(rows)}</table></article></html>"
    )


def print_book(site: Path, root: str, parts, folder: Path) -> list[Printed]:
    """Prints the cover, the contents and all pages, in this order, into files in `folder`.

    Raises:
        Unusable: no Chromium, or a page of the table of contents is not in `site`.
    """
    names = [name for _, chapters in parts for name in chapters]
    for name in (root, *names):
        if not (site / f"{name}.html").is_file():
            raise Unusable(f"{site} has no page {name}.html, which _toc.yml names: build the book anew")
    program = browser_program()
    printed = {}
    contents = folder / "contents.html"

    def add(name, address, start):
        file = folder / f"{name.replace('/', '-')}.pdf"
        printed[name] = Printed(name, *print_sheets(address, file, start))
        return printed[name].start + printed[name].length

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)

        def print_sheets(address, file, start):
            title, length = print_page(browser, address, file, start)
            return title, file, start, length

        after_cover = add(root, (site / f"{root}.html").as_uri(), 0)
        contents.write_text(
            contents_page(parts, printed, site), encoding="utf-8"
        )  # only to see how long it is
        start = add("contents", contents.as_uri(), after_cover)
        for name in names:
            start = add(name, (site / f"{name}.html").as_uri(), start)
        contents.write_text(contents_page(parts, printed, site), encoding="utf-8")
        add("contents", contents.as_uri(), after_cover)
        browser.close()
    return [printed[name] for name in (root, "contents", *names)]


def join(printed: list[Printed], parts, site: Path) -> PdfWriter:
    """One document of all that is printed, with its outline and its links."""
    writer = PdfWriter()
    readers = {page.name: PdfReader(page.file) for page in printed}
    for page in printed:
        writer.append(readers[page.name], import_outline=False)
    for page in printed:
        lead_links_inside(writer, page, readers[page.name], printed, site)
    pages = {page.name: page for page in printed}
    for page in printed[:2]:
        writer.add_outline_item(title=page.title, page_number=page.start)
    for caption, names in parts:
        part = writer.add_outline_item(title=caption, page_number=pages[names[0]].start)
        for name in names:
            chapter = writer.add_outline_item(
                title=pages[name].title, page_number=pages[name].start, parent=part
            )
            for title, sheet in sections(readers[name]):
                writer.add_outline_item(title=title, page_number=pages[name].start + sheet, parent=chapter)
    writer.add_metadata({"/Title": printed[0].title})
    writer.page_mode = "/UseOutlines"
    return writer


def sections(reader: PdfReader):
    """The second-level headings of one printed page, and the sheet on which each stands."""
    for chapter in filter(lambda item: isinstance(item, list), reader.outline):
        for item in chapter:
            if not isinstance(item, list):
                yield item.title, reader.get_destination_page_number(item)


def place(writer: PdfWriter, sheet: int, left=None, top=None) -> ArrayObject:
    """A destination: this far from the left and the bottom of the sheet, its top if nothing is said."""
    page = writer.pages[sheet]
    numbers = [left or 0, page.mediabox.top if top is None else top]
    return ArrayObject(
        [page.indirect_reference, NameObject("/XYZ"), *map(FloatObject, numbers), NullObject()]
    )


def lead_links_inside(writer: PdfWriter, page: Printed, reader: PdfReader, printed, site: Path):
    """Turns links to the book's own files into links within the document; drops those to no page of it."""
    starts = {f"{(site / other.name).as_uri()}.html": other.start for other in printed}
    for sheet in range(page.start, page.start + page.length):
        annotations = writer.pages[sheet].get("/Annots")
        if annotations is None:
            continue
        kept = ArrayObject()
        for reference in annotations.get_object():
            link = reference.get_object()
            action = link.get("/A", {}).get_object() if "/A" in link else {}
            named = link.get("/Dest", action.get("/D"))
            address = unquote(urldefrag(action.get("/URI", "")).url)
            if named is not None and str(named) in reader.named_destinations:
                # Every printed page has names of its own, and two may have the same: keep the place instead.
                found = reader.named_destinations[str(named)]
                target = page.start + reader.get_destination_page_number(found)
                link.pop("/A", None)
                link[NameObject("/Dest")] = place(writer, target, found.left, found.top)
            elif address in starts:
                link.pop("/A")
                link[NameObject("/Dest")] = place(writer, starts[address])
            elif address.startswith("file:"):
                continue
            kept.append(reference)
        writer.pages[sheet][NameObject("/Annots")] = kept


def make(out: Path, site: Path, toc: Path = ROOT / "_toc.yml") -> int:
    """Writes the book in the folder `site` to the file `out`; returns how many sheets it has."""
    root, parts = read_parts(toc)
    site = site.resolve()
    with tempfile.TemporaryDirectory() as folder:
        writer = join(print_book(site, root, parts, Path(folder)), parts, site)
        writer.compress_identical_objects()  # each printed page brings the same fonts
        writer.write(out)
    return len(writer.pages)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--site", type=Path, help="the folder of a built book; without it the book is built")
    arguments = parser.parse_args()
    try:
        browser_program()  # before a build of minutes
        sheets = make(arguments.out, arguments.site or build())
    except Unusable as problem:
        sys.exit(f"pdf: {problem}")
    print(f"{arguments.out}: {sheets} pages, {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
