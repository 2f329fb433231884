"""Writes what the instructor guide says of the exercises: plans and tables, from registry and chapters.

    python book/tools/instructor.py          # book/instructor.md between its marks, and book/catch_table.md

The table of mistakes is computed: each wrong answer of tests/exercise_bank is checked (about a minute).
`tests/test_editions.py` compares both pages with what this program makes.
"""

import re
import sys

import editions
import notebooks
from bert_edu.exercises import CHAPTERS, EXERCISES

GUIDE, CATCHES = (notebooks.ROOT / "book" / name for name in ("instructor.md", "catch_table.md"))

# Which chapters are read when; what this takes is computed. An instructor will move them about.
PLANS = {
    "One week, every day": {
        "Monday": (0, 1, 2),
        "Tuesday": (3, 4),
        "Wednesday": (5, 6),
        "Thursday": (7, 8),
        "Friday": (9, 10, 11),
    },
    "Four weeks": {
        "1: text, vectors, attention": (0, 1, 2, 3, 4),
        "2: the model": (5, 6, 7, 8),
        "3: pre-training": (9, 10, 11, 12),
        "4: using it": (13, 14, 15),
    },
    "Ten weeks": {
        "1": (0, 1),
        "2": (2, 3),
        "3": (4, 5),
        "4": (6, 7),
        "5": (8, 9),
        "6": (10,),
        "7": (11, 12),
        "8": (13, 14),
        "9": (15, 16),
        "10: and the capstone": (17, 18),
    },
}


def chapter_title(number: int) -> tuple[str, int]:
    """A link to a chapter, and the minutes that it says it takes."""
    path = editions.notebook_of(number)
    first = notebooks.read(path).cells[0].source
    title = first.splitlines()[0].removeprefix("# ").split(":")[0]
    minutes = re.search(r"[Aa]bout (\d+) minutes", first)
    return f"[{number} {title}](../notebooks/{path.name})", int(minutes[1])


def plans() -> str:
    """The plans, each as a table: what to read, which exercises, and how long both take."""
    parts = []
    for name, weeks in PLANS.items():
        rows = ["| when | chapters | reading | exercises | their time |", "|---|---|---|---|---|"]
        for when, chapters in weeks.items():
            titles = [chapter_title(number) for number in chapters]
            exercises = [
                entry for number in chapters if number in CHAPTERS for entry in CHAPTERS[number].EXERCISES
            ]
            numbers = ", ".join(entry.number for entry in exercises)
            rows.append(
                f"| {when} | {', '.join(title for title, _ in titles)} | {hours(sum(m for _, m in titles))} "
                f"| {numbers} | {hours(sum(entry.minutes for entry in exercises))} |"
            )
        parts.append(f"**{name}**\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def hours(minutes: int) -> str:
    return f"{minutes / 60:.1f} h" if minutes else "–"


def exercise_table() -> str:
    """Every exercise with its goal, and its sheet."""
    rows = ["| exercise | kind, minutes, difficulty, mechanisms | goal |", "|---|---|---|"]
    for module in CHAPTERS.values():
        for entry in module.EXERCISES:
            difficulty = "●" * entry.difficulty + "○" * (3 - entry.difficulty)
            rows.append(
                f"| {entry.number} `{entry.name}` | {entry.kind}, {entry.minutes}, {difficulty}, "
                f"{len(entry.all_mechanisms())} | {goal_in_table(entry.goal)} |"
            )
    return "\n".join(rows)


def goal_in_table(goal: str) -> str:
    """A goal, whose `code` stays code."""
    return goal.replace("|", "\\|").replace("$", "\\$").replace("->", "→")


def sheet_table() -> str:
    """The sheets: where to open and where to find them."""
    rows = ["| chapter | sheet | exercises | minutes |", "|---|---|---|---|"]
    for number, module in CHAPTERS.items():
        path = editions.notebook_of(number)
        place = f"notebooks/exercises/{path.name}"
        minutes = sum(entry.minutes for entry in module.EXERCISES)
        rows.append(
            f"| {chapter_title(number)[0]} | [open in Colab](colab:{place}), [file](repo:{place}) "
            f"| {len(module.EXERCISES)} | {minutes} |"
        )
    return "\n".join(rows)


BLOCKS = {"plans": plans, "exercises": exercise_table, "sheets": sheet_table}


def guide() -> str:
    """The guide with its blocks made anew."""
    text = GUIDE.read_text(encoding="utf-8")
    for name, make in BLOCKS.items():
        begin, end = f"<!-- {name}: made by book/tools/instructor.py -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{make()}\n\n{end}{rest.split(end)[1]}"
    return text


def catches(rows: list[dict]) -> str:
    """The page of mistakes.

    Args:
        rows: as `exercise_bank.catch_table` gives them.
    """
    parts = [
        "# Mistakes that the checks know\n\nEach mistake below is made on purpose in two styles of code, and "
        "each check finds it and says what it is: the test suite proves it. The middle column is the first "
        "mechanism that fails. Mistakes that are not listed fail too, with a less pointed message. This page "
        "is made by `python book/tools/instructor.py`; it belongs to the [instructor guide](instructor.md).\n"
    ]
    exercise = None
    for row in rows:
        if row["exercise"] != exercise:
            exercise = row["exercise"]
            entry = EXERCISES[exercise]
            parts.append(f"\n## {entry.number} {entry.title[0].upper()}{entry.title[1:]}: `{exercise}`\n")
            parts.append("| mistake | found by | the learner reads, among other things |")
            parts.append("|---|---|---|")
        parts.append(f"| {cell(row['mistake'])} | {cell(row['mechanism'])} | {cell(row['says'])} |")
    return "\n".join(parts) + "\n"


def cell(text: str) -> str:
    """Text as it stands, in a table of Markdown; within backticks only a bar would mean something."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        part.replace("|", r"\|") if part.startswith("`") else re.sub(r"([|$*_<\[\\])", r"\\\1", part)
        for part in parts
    )


def mistakes() -> list[dict]:
    """The bank's table, with the words that the test looks for in each message."""
    from exercise_bank import BANK, catch_table

    return [row | {"says": BANK[row["exercise"]].wrong[row["mistake"]].says} for row in catch_table()]


def main():
    sys.path.insert(0, str(notebooks.ROOT / "tests"))
    GUIDE.write_text(guide(), encoding="utf-8")
    CATCHES.write_text(catches(mistakes()), encoding="utf-8")


if __name__ == "__main__":
    main()
