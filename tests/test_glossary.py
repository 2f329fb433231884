"""The glossary: every word once, in order, linked to a chapter that uses it."""

import re
from pathlib import Path

import pytest

import notebooks

PAGE = Path(notebooks.ROOT) / "book" / "glossary.md"
ENTRY = re.compile(
    r"^(\S.*)\n  (.+) \[(Refresher|Chapter \d+)\]\(\.\./(notebooks/(\d\d)_\w+\.ipynb)\)$", re.M
)


def entries():
    """The term, what is said of it, the chapter's name, file and number, of each entry."""
    inside = PAGE.read_text(encoding="utf-8").split(":::{glossary}\n")[1].split("\n:::")[0]
    found = ENTRY.findall(inside)
    blocks = inside.strip("\n").split("\n\n")
    assert len(found) == len(blocks), f"{len(blocks) - len(found)} entries are not of the form of the others"
    return found


def prose(file: str) -> str:
    """What a notebook says in its Markdown, on one line."""
    cells = notebooks.read(notebooks.ROOT / file).cells
    return " ".join(" ".join(cell.source.split()) for cell in cells if cell.cell_type == "markdown")


def mentions(text: str, term: str) -> bool:
    """As a word of its own, also in the plural or at the start of a sentence."""
    return re.search(rf"(?<![\w-]){re.escape(term)}(?:s|es)?(?![\w-])", text, re.IGNORECASE) is not None


def test_terms_stand_once_and_in_order():
    terms = [term.strip("[]").casefold() for term, *_ in entries()]
    assert len(terms) >= 60
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("term, said, name, file, number", entries(), ids=[term for term, *_ in entries()])
def test_the_chapter_contains_the_term(term, said, name, file, number):
    assert name == ("Refresher" if number == "00" else f"Chapter {int(number)}")
    assert mentions(prose(file), term), f"{file} does not say {term!r}"


@pytest.mark.parametrize("term, said, name, file, number", entries(), ids=[term for term, *_ in entries()])
def test_one_or_two_plain_sentences(term, said, name, file, number):
    assert said.endswith((".", "?")) and len(said.split()) <= 45, said


def test_other_terms_that_are_named_have_an_entry():
    terms = {term for term, *_ in entries()}
    named = {word for _, said, *_ in entries() for word in re.findall(r"see \*([^*]+)\*", said)}
    assert named and named <= terms


def test_a_term_is_not_found_within_another_word():
    assert mentions("Queries, keys and values.", "key") and mentions("Each head looks.", "head")
    assert not mentions("It is ahead of the monkey.", "head") and not mentions("nothing natural", "nat")
