"""The cover's animation shows what the shipped model really guesses, and nothing moves that should not."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cover
import pytest

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def guesses():
    return cover.guesses()


def test_the_picture_is_drawn_from_the_model(guesses):
    assert cover.PICTURE.read_text(encoding="utf-8") == cover.picture(guesses), (
        "the cover shows other guesses than the shipped model's: run python book/tools/cover.py"
    )


def test_other_guesses_give_another_picture(guesses):
    (word, chance), *others = guesses[0]
    for changed in ((word, chance - 1), ("window", chance)):
        assert cover.picture([[changed, *others], guesses[1]]) != cover.picture(guesses)


def test_the_alternative_text_says_the_same(guesses):
    text = (ROOT / "index.md").read_text(encoding="utf-8")
    alternative = re.search(r"filling\.svg\n:alt: (.+)", text)[1]
    assert f"“{cover.SENTENCE}”" in alternative
    for gap in guesses:
        assert ", ".join(f"{word} with {chance} %" for word, chance in gap) in alternative
    filled = cover.SENTENCE
    for (word, _), *_ in guesses:
        filled = filled.replace(cover.GAP, word, 1)
    assert f"“{filled}”" in alternative


def test_it_moves_for_five_seconds_at_most_and_only_where_it_may():
    """Longer motion would need a button to stop it (WCAG 2.2.2)."""
    picture = ElementTree.parse(cover.PICTURE).getroot()
    style = picture.find(f"{SVG}style").text
    always, may_move = style.split("@media (prefers-reduced-motion: no-preference) {")
    may_move = may_move[: may_move.index("@keyframes")]
    assert "animation" not in always and "infinite" not in style
    ends = [
        sum(float(number) for number in re.findall(r"([\d.]+)s\b", rule))
        for rule in re.findall(r"animation: ([^;]+)", may_move)
    ]
    delays = [
        float(number)
        for part in picture.iter()
        for number in re.findall(r"animation-delay: ([\d.]+)s", part.get("style", ""))
    ]
    assert len(ends) == 4 and delays and max(*ends, *delays) + 0.4 <= 5
    assert not list(picture.iter(f"{SVG}script"))


def test_words_stay_inside_the_picture():
    picture = ElementTree.parse(cover.PICTURE).getroot()
    for rect in picture.iter(f"{SVG}rect"):
        assert float(rect.get("x", 0)) + float(rect.get("width")) <= cover.WIDTH
    for text in picture.iter(f"{SVG}text"):
        if text.get("textLength"):
            assert float(text.get("x")) + float(text.get("textLength")) <= cover.WIDTH
