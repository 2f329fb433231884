"""Writes what each chapter takes, wherever the book says it: the map, the preface's table, the first cells.

python book/tools/chapter_map.py

What a chapter needs stands in its first cell. Its minutes are reckoned from its text and code and from the
seconds that its cells take (results/chapter_times.json); `python benchmarks/chapter_times.py` measures those.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import notebooks

PICTURE = notebooks.ROOT / "book" / "static" / "map.svg"
PREFACE = notebooks.ROOT / "book" / "preface.md"
TIMES = notebooks.ROOT / "results" / "chapter_times.json"
REFRESHER = "00_refresher"

# Where a chapter stands on the map: the three columns; a chapter's row is one below all that it needs.
LEFT, MIDDLE, RIGHT = 0, 1, 2
COLUMN = {8: RIGHT, 9: LEFT, 12: RIGHT, 14: LEFT, 15: RIGHT, 16: LEFT, 17: LEFT, 18: LEFT}

# The picture's measures, in its own pixels; the colours are those of cover.svg.
BOX_WIDTH, BOX_HEIGHT, GAP_ACROSS, GAP_DOWN, MARGIN = 166, 44, 14, 28, 18
PAPER, INK, QUIET, GOLD, BLUE, BOX = "#14243d", "#f4efe4", "#9fb3cf", "#f2b84b", "#7fb2f0", "#2a4671"


@dataclass
class Chapter:
    """What the first cell of a chapter and its measured run say."""

    number: int
    path: Path
    title: str
    question: str
    needs: list[int]
    minutes: int
    seconds: int


def numbers(text: str) -> list[int]:
    """The chapters that a phrase such as "chapters 4 to 7, 10 and 11" names."""
    found = []
    for first, last in re.findall(r"(\d+)(?: to (\d+))?", text):
        found += range(int(first), int(last or first) + 1)
    return found


def seconds_of_run() -> dict[str, int]:
    return json.loads(TIMES.read_text(encoding="utf-8"))["figures"]["seconds"]


def chapters() -> list[Chapter]:
    """The numbered chapters, in order."""
    found, seconds = [], seconds_of_run()
    for path in sorted((notebooks.ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if path.stem == REFRESHER:
            continue
        notebook = notebooks.read(path)
        first = notebook.cells[0].source
        title, question = first.splitlines()[0].removeprefix("# ").split(": ", 1)
        number, needs = re.search(r"\*Chapter (\d+) of .* You need ([^.;*]*)", first).groups()
        took = seconds[path.stem]
        minutes = notebooks.minutes(notebook, took)
        found.append(Chapter(int(number), path, title, question, numbers(needs), minutes, took))
    return found


def ends(found: list[Chapter]) -> set[int]:
    """Chapters that no later one needs: they can be left out."""
    return {chapter.number for chapter in found} - {need for chapter in found for need in chapter.needs}


# ---- The map -----------------------------------------------------------------------------------------------


def direct(chapter: Chapter, known: dict[int, Chapter]) -> list[int]:
    """What it needs, without what those need in their turn."""
    implied, waiting = set(), list(chapter.needs)
    while waiting:
        for need in known[waiting.pop()].needs:
            implied.add(need)
            waiting.append(need)
    return [need for need in chapter.needs if need not in implied]


def corners(found: list[Chapter]) -> dict[int, tuple[int, int]]:
    """Left and top of each chapter's box."""
    rows, placed = {}, {}
    for chapter in found:
        row = rows[chapter.number] = 1 + max((rows[need] for need in chapter.needs), default=-1)
        column = COLUMN.get(chapter.number, MIDDLE)
        left = MARGIN + column * (BOX_WIDTH + GAP_ACROSS)
        placed[chapter.number] = left, MARGIN + row * (BOX_HEIGHT + GAP_DOWN)
    if len(set(placed.values())) < len(placed):
        raise ValueError("two chapters stand in one place of the map: give one another COLUMN")
    return placed


def arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    """From the bottom of one box to the top of another; from far above, to its side."""
    x, y = start[0] + BOX_WIDTH // 2, start[1] + BOX_HEIGHT
    if end[1] - start[1] > 2 * (BOX_HEIGHT + GAP_DOWN):
        side = end[1] + BOX_HEIGHT // 2
        path = f"M{x} {y}V{side - 10}Q{x} {side} {x + 10} {side}H{end[0] - 2}"
    else:
        to = end[0] + BOX_WIDTH // 2
        half = end[1] - GAP_DOWN // 2
        path = f"M{x} {y}C{x} {half} {to} {half} {to} {end[1] - 2}"
    return f'<path d="{path}" fill="none" stroke="{QUIET}" stroke-width="1.6" marker-end="url(#tip)"/>'


def box(chapter: Chapter, corner: tuple[int, int], may_be_left_out: bool) -> str:
    x, y = corner
    dashes = ' stroke-dasharray="5 4"' if may_be_left_out else ""
    return "\n".join(
        [
            f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="9" fill="{BOX}" '
            f'stroke="{BLUE}" stroke-width="1.4"{dashes}/>',
            f'<text x="{x + 12}" y="{y + 28}" font-size="17" font-weight="700" fill="{GOLD}">'
            f"{chapter.number}</text>",
            f'<text x="{x + 40}" y="{y + 19}" font-size="12" fill="{INK}">{chapter.title}</text>',
            f'<text x="{x + 40}" y="{y + 35}" font-size="11.5" fill="{QUIET}">{chapter.minutes} min</text>',
        ]
    )


def picture(found: list[Chapter]) -> str:
    """The map as SVG."""
    known, placed, last = {chapter.number: chapter for chapter in found}, corners(found), ends(found)
    width = 2 * MARGIN + 3 * BOX_WIDTH + 2 * GAP_ACROSS
    height = max(top for _, top in placed.values()) + BOX_HEIGHT + MARGIN
    arrows = [
        arrow(placed[need], placed[chapter.number]) for chapter in found for need in direct(chapter, known)
    ]
    boxes = [box(chapter, placed[chapter.number], chapter.number in last) for chapter in found]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img">',
            "<title>Which chapter builds on which</title>",
            f'<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" '
            f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{QUIET}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="20" fill="{PAPER}"/>',
            "<g font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, "
            'sans-serif">',
            *arrows,
            *boxes,
            "</g>",
            "</svg>\n",
        ]
    )


# ---- The preface and the first cells -----------------------------------------------------------------------

HEAD = "| chapter | its question | needs | minutes | runs in |\n|---|---|---|---|---|\n"
REFRESHER_MINUTES = 10  # of its self-test alone


def row(chapter: Chapter) -> str:
    """A chapter's line in the preface's table."""
    link = f"{chapter.number} [{chapter.title}](../notebooks/{chapter.path.name})"
    needs = in_words(chapter.needs) or "a little PyTorch"
    return f"| {link} | {chapter.question} | {needs} | {chapter.minutes} | {chapter.seconds} s |"


def in_words(needs: list[int]) -> str:
    """1, 2, 3, 5 as "1–3, 5"."""
    runs = []
    for number in needs:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def refresher_row() -> str:
    path, seconds = notebooks.ROOT / "notebooks" / f"{REFRESHER}.ipynb", seconds_of_run()[REFRESHER]
    minutes = notebooks.minutes(notebooks.read(path), seconds)
    return (
        f"| [Refresher](../notebooks/{path.name}) | are you ready for chapter 1? | Python | "
        f"{minutes}; the self-test alone {REFRESHER_MINUTES} | {seconds} s |"
    )


def preface(text: str, found: list[Chapter]) -> str:
    """The preface with a new table."""
    rows = "\n".join([refresher_row(), *map(row, found)])
    start = text.index("| chapter | its question |")
    end = text.index("\n\n", start)
    return text[:start] + HEAD + rows + text[end:]


def first_cell(source: str, minutes: int) -> str:
    """The first cell of a chapter with these minutes."""
    return re.sub(r"About \d+ minutes", f"About {minutes} minutes", source, count=1)


def main():
    found = chapters()
    PICTURE.write_text(picture(found), encoding="utf-8")
    PREFACE.write_text(preface(PREFACE.read_text(encoding="utf-8"), found), encoding="utf-8")
    for chapter in found:
        notebook = notebooks.read(chapter.path)
        source = first_cell(notebook.cells[0].source, chapter.minutes)
        if source != notebook.cells[0].source:
            notebook.cells[0].source = source
            notebooks.write(notebook, chapter.path)
            print(f"{chapter.path.name}: about {chapter.minutes} minutes")


if __name__ == "__main__":
    main()
