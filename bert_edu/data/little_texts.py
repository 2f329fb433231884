"""Little texts: short texts in everyday English, written for this book, with sentiment, names and questions.

The texts stand in little_texts.jsonl beside this module, one a line, with names marked as "[Nora|person]".
They are shared under CC BY 4.0; little_texts.md is their data card.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .tasks import Answer, QuestionExample, TaggedSentence, TextExample
from .text import split_sentences, stable_hash

FILE = Path(__file__).parent / "little_texts.jsonl"
SIDES = ("train", "dev", "test")
SENTIMENTS = ("negative", "neutral", "positive")
KINDS = ("person", "place", "organisation", "time")
LITTLE_TASKS = ("sentiment", "names", "questions")
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


# ---- As examples for fine-tuning ---------------------------------------------------------------------------

# A word, with inner hyphens, points and apostrophes; a mark by itself; and the 's of "Nora's" by itself,
# since the name ends before it.
WORD = re.compile(r"['’]s\b|\w+(?:[-.]\w+|['’](?!s\b)\w+)*|[^\w\s]")


def little_task(name: str, side: str) -> list[TextExample] | list[TaggedSentence] | list[QuestionExample]:
    """What the annotation of one side asks, as examples for `bert_edu.finetuning`.

    Args:
        name: "sentiment" (one class a text), "names" (a tag for each word of a sentence: B-person where a
            person's name begins, I-person where it goes on, O outside of names) or "questions".
        side: as for `little_texts`.

    Raises:
        ValueError: for an unknown name or side.
    """
    if name not in LITTLE_TASKS:
        raise ValueError(f"there is no task {name!r}; choose from {', '.join(LITTLE_TASKS)}")
    texts = little_texts(side)
    if name == "sentiment":
        return [TextExample(text.text, None, text.sentiment) for text in texts]
    if name == "names":
        return [sentence for text in texts for sentence in _tagged(text)]
    return [example for text in texts for example in _asked(text)]


def _tagged(text: LittleText) -> list[TaggedSentence]:
    sentences, position = [], 0
    for sentence in split_sentences(text.text):
        start = text.text.index(sentence, position)
        position = start + len(sentence)
        words = list(WORD.finditer(text.text, start, position))
        tags = [_tag(word.start(), text.names) for word in words]
        sentences.append(TaggedSentence([word[0] for word in words], tags))
    return sentences


def _tag(start: int, names: list[Name]) -> str:
    """The tag of a word that begins at `start`."""
    for name in names:
        if name.start <= start < name.end:
            return f"{'B' if start == name.start else 'I'}-{name.kind}"
    return "O"


def _asked(text: LittleText) -> list[QuestionExample]:
    examples = []
    for number, (question, start, end) in enumerate(text.questions):
        answers = [] if start is None else [Answer(text.text[start:end], start)]
        examples.append(QuestionExample(f"{text.id}-{number}", question, text.text, answers))
    return examples
