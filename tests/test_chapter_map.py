"""What a chapter takes: measured and reckoned, the same wherever the book says it, and within its budget."""

import chapter_map
import nbformat
import pytest

import notebooks

READING = 45  # minutes
RUN, TRAINING_RUN, ALL_RUNS = 60, 150, 20 * 60  # seconds on two cores


@pytest.fixture(scope="module")
def chapters():
    return chapter_map.chapters()


def again(what):
    return f"{what} is out of date: run python book/tools/chapter_map.py"


def test_the_preface_says_it(chapters):
    stored = chapter_map.PREFACE.read_text(encoding="utf-8")
    assert stored == chapter_map.preface(stored, chapters), again("the preface's table")


def test_the_map_shows_it(chapters):
    assert chapter_map.PICTURE.read_text(encoding="utf-8") == chapter_map.picture(chapters), again("the map")


def test_the_first_cells_say_it(chapters):
    for chapter in chapters:
        source = notebooks.read(chapter.path).cells[0].source
        assert source == chapter_map.first_cell(source, chapter.minutes), again(chapter.path.name)
    first = notebooks.read(notebooks.ROOT / "notebooks" / "00_refresher.ipynb").cells[0].source
    minutes = chapter_map.refresher_row().split(" | ")[3].split(";")[0]
    assert (
        f"About {chapter_map.REFRESHER_MINUTES} minutes for the self-test, {minutes} for everything" in first
    )


def test_every_chapter_is_measured_and_within_its_budget(chapters):
    seconds = chapter_map.seconds_of_run()
    assert set(seconds) == {path.stem for path in (notebooks.ROOT / "notebooks").glob("*.ipynb")}
    for stem, took in seconds.items():
        assert took <= (TRAINING_RUN if stem in notebooks.TRAINING else RUN), stem
    assert sum(seconds.values()) <= ALL_RUNS
    for chapter in chapters:
        assert chapter.minutes <= READING, chapter.path.name


def test_a_chapter_needs_earlier_ones_only(chapters):
    for chapter in chapters:
        assert all(need < chapter.number for need in chapter.needs)
        assert chapter.needs or chapter.number == 1


def test_what_nothing_needs_is_drawn_as_such(chapters):
    dashed = chapter_map.picture(chapters).count("stroke-dasharray")
    assert dashed == len(chapter_map.ends(chapters))
    assert 11 not in chapter_map.ends(chapters) and 18 in chapter_map.ends(chapters)


def test_phrases_become_numbers_and_back():
    assert chapter_map.numbers("chapters 4 to 7, 10 and 11") == [4, 5, 6, 7, 10, 11]
    assert chapter_map.in_words([4, 5, 6, 7, 10, 11]) == "4–7, 10, 11"
    assert chapter_map.in_words([]) == ""


def some(number, needs):
    path = notebooks.ROOT / "notebooks" / f"{number:02}_x.ipynb"
    return chapter_map.Chapter(number, path, "X", "what?", needs, minutes=30, seconds=20)


def test_arrows_leave_out_what_others_imply():
    known = {
        chapter.number: chapter for chapter in [some(1, []), some(2, [1]), some(3, [1, 2]), some(4, [2])]
    }
    assert chapter_map.direct(known[3], known) == [2]
    assert chapter_map.direct(known[4], known) == [2]
    assert chapter_map.ends(list(known.values())) == {3, 4}


def test_two_chapters_in_one_place_are_refused():
    with pytest.raises(ValueError, match="give one another COLUMN"):
        chapter_map.corners([some(1, []), some(2, [1]), some(3, [1])])


def notebook_of(words, lines, predictions, hidden=0):
    cells = [
        nbformat.v4.new_markdown_cell(" ".join(["word"] * words)),
        nbformat.v4.new_markdown_cell("\n\n".join(["**Predict**:"] * predictions)),
        nbformat.v4.new_code_cell("\n".join(["x"] * lines)),
        nbformat.v4.new_code_cell("\n".join(["x"] * hidden), metadata={"tags": ["hide-input"]}),
        nbformat.v4.new_markdown_cell("## Exercises\n\n" + "word " * 10_000),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_minutes_come_from_text_code_guesses_and_the_run():
    assert notebooks.minutes(notebook_of(180 * 10, 0, 0), 0) == 10
    assert notebooks.minutes(notebook_of(0, 200, 0), 0) == 10
    assert notebooks.minutes(notebook_of(0, 0, 20, hidden=500), 0) == 10
    assert notebooks.minutes(notebook_of(0, 0, 0), 600) == 10
    assert notebooks.minutes(notebook_of(180 * 13, 0, 0), 0) == 15
