"""Little texts: short texts in everyday English, written for this book, with sentiment, names and questions.

The texts stand in little_texts.jsonl beside this module, one a line, with names marked as "[Nora|person]".
They are shared under CC BY 4.0; little_texts.md is their data card.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .text import stable_hash

FILE = Path(__file__).parent / "little_texts.jsonl"
SIDES = ("train", "dev", "test")
SENTIMENTS = ("negative", "neutral", "positive")
KINDS = ("person", "place", "organisation", "time")
MARK = re.compile(rf"\[([^\[\]|]+)\|({'|'.join(KINDS)})\]")


class Name(NamedTuple):
    """A name in a text: text[start:end], and what kind of name it is."""

    start: int
    end: int
    kind: str


class Question(NamedTuple):
    """A question about a text; the answer is text[start:end], or the text has none and both are None."""

    question: str
    start: int | None
    end: int | None


class LittleText(NamedTuple):
    """One text with all that is annotated in it.

    Attributes:
        kind: letter, review, report ...
        sentiment: one of `SENTIMENTS`.
        names: in reading order.
        questions: three that the text answers and one that it does not.
    """

    id: str
    kind: str
    text: str
    sentiment: str
    names: list[Name]
    questions: list[Question]


def little_texts(side: str = "all") -> list[LittleText]:
    """The texts of one side, always in the same order.

    Args:
        side: "train" (three fifths), "dev" or "test" (a fifth each), or "all".

    Raises:
        ValueError: for an unknown side.
    """
    if side not in (*SIDES, "all"):
        raise ValueError(f"there is no side {side!r}; choose from {', '.join(SIDES)}, all")
    return [text for number, text in enumerate(_all()) if side in (_side(number), "all")]


def _side(number: int) -> str:
    return ("train", "train", "train", "dev", "test")[number % 5]


@cache
def _all() -> list[LittleText]:
    """All texts, shuffled by a hash of their ids, so that every side has texts of every author and kind."""
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return sorted(map(_read, rows), key=lambda text: stable_hash(text.id))


def _read(row: dict) -> LittleText:
    text, names = without_marks(row["text"])
    questions = [Question(asked["question"], *_find(asked["answer"], text)) for asked in row["questions"]]
    return LittleText(row["id"], row["kind"], text, row["sentiment"], names, questions)


def without_marks(marked: str) -> tuple[str, list[Name]]:
    """Takes the marks out of a text: "Ask [Nora|person]." -> "Ask Nora.", [Name(4, 8, "person")]"""
    text, names, position = "", [], 0
    for found in MARK.finditer(marked):
        text += marked[position : found.start()]
        names.append(Name(len(text), len(text) + len(found[1]), found[2]))
        text += found[1]
        position = found.end()
    return text + marked[position:], names


def _find(answer: str | None, text: str) -> tuple[int, int] | tuple[None, None]:
    """Where an answer stands; it does so once, as whole words."""
    if answer is None:
        return None, None
    found = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
    return found.span()
