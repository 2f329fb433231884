"""The instructor guide's tables are those of the exercises, and its mistakes are found as it says.

The page of mistakes needs the outcomes of every wrong answer in the bank, as tests/test_exercises.py does;
they are computed once for both.
"""

import instructor
from bert_edu.exercises import CHAPTERS, EXERCISES


def test_the_tables_of_the_guide_are_current():
    assert instructor.GUIDE.read_text(encoding="utf-8") == instructor.guide(), (
        "run `python book/tools/instructor.py`"
    )


def test_the_page_of_mistakes_is_current():
    """Computed anew: every named mistake is found, by the mechanism that the page says."""
    rows = instructor.mistakes()
    assert not [row for row in rows if row["mechanism"] == "not caught"]
    assert instructor.CATCHES.read_text(encoding="utf-8") == instructor.catches(rows), (
        "run `python book/tools/instructor.py`"
    )


def test_text_stands_in_a_table_as_it_is():
    assert instructor.cell("a | b\n* c_d $e$ [f] <g>") == r"a \| b \* c\_d \$e\$ \[f] \<g>"


def test_every_exercise_and_every_chapter_has_its_place():
    guide = instructor.GUIDE.read_text(encoding="utf-8")
    for entry in EXERCISES.values():
        assert f"| {entry.number} `{entry.name}` |" in guide
    for plan in instructor.PLANS.values():
        chapters = [number for part in plan.values() for number in part]
        assert chapters == sorted(set(chapters)) and chapters[0] == 0  # in order, none twice
    assert set(CHAPTERS) <= {number for part in instructor.PLANS["Ten weeks"].values() for number in part}
