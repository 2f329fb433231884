"""The grader: a row for all that is handed in, no mark that was not earned, and nothing that stops it."""

import csv
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import editions
import notebooks
from bert_edu.exercises import CHAPTERS, EXERCISES, examine
from bert_edu.grading import cage, feedback, grader, gradescope, preflight, sheets, worker
from bert_edu.grading.grader import grade
from bert_edu.mini import FOLDER as MINI
from helpers import bert, refuse, succeed
from submissions import CHAPTER, KINDS, hand_in, sheet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading needs Linux")
SEED, SECONDS = 77, 3.0
RIGHT = "-slope * (torch.arange(T)[:, None] - torch.arange(T)).abs()"
NIGHTLY = os.environ.get("BERT_EDU_NIGHTLY")
NAMES = [exercise.name for exercise in CHAPTERS[CHAPTER].EXERCISES]


def zeros(T, slope):
    return torch.zeros(T, T)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """One submission of each kind, two by one student, and what holds no notebook: (rows, table)."""
    folder, out = tmp_path_factory.mktemp("class"), tmp_path_factory.mktemp("marks") / "grades.csv"
    for kind in KINDS:
        hand_in(folder, kind, kind)
    for place in ("twice", "empty"):
        (folder / place).mkdir()
    hand_in(folder / "twice", "unanswered", "unanswered")
    (folder / "essay.pdf").write_bytes(b"%PDF")
    (folder / "link.ipynb").symlink_to(folder / "right.ipynb")
    (folder / ".hidden.ipynb").write_text("{}")
    said = []
    grade(folder, out, seed=SEED, seconds=SECONDS, say=said.append)
    rows = {row["file"]: row for row in table(out)}
    assert len(rows) == len(table(out)) == len(KINDS) + 4 and len(said) == len(rows) + 1 + bool(not_closed())
    return rows, out


def not_closed():
    return {"network", "other processes", "writing", "reading"} - set(cage.closed())


def table(file):
    with open(file, encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def row_of(graded, kind):
    return graded[0][f"{kind.replace(' ', '_')}.ipynb"]


def mark(graded, kind, exercise="distance_bias"):
    return float(row_of(graded, kind)[f"{EXERCISES[exercise].number} {exercise}"])


@pytest.mark.parametrize("kind, score", [("right", 100), ("huge output", 100), ("unanswered", 0)])
def test_scores(graded, kind, score):
    row = row_of(graded, kind)
    assert float(row["score"]) == score and row["status"] == "graded" and row["student"] == kind
    assert row["chapter"] == str(CHAPTER) and row["quiz right"] == ("0" if kind == "unanswered" else "3")


def test_a_notebook_with_trouble_on_the_way_is_graded(graded):
    assert float(row_of(graded, "raises on the way")["score"]) == 100


@pytest.mark.parametrize(
    "kind, said",
    [
        ("loops", "Your answer was stopped"),
        ("wrong name", "does not define distance_bias. It defines distance_bais."),
        ("prints", "take out its prints"),
        ("exits", "ended Python itself (exit code 0)"),
        ("forges", ""),
    ],
)
def test_one_bad_answer_costs_that_answer(graded, kind, said):
    assert mark(graded, kind) == 0 and mark(graded, kind, NAMES[0]) == 1
    if kind != "forges":  # it spoils what its own notebook has open, and so the exercise after it
        assert mark(graded, kind, NAMES[2]) == 1
    assert said in messages(graded, kind)


def messages(graded, kind):
    return "\n".join(row["message"] for row in mechanisms(graded, kind))


def mechanisms(graded, kind):
    rows = table(graded[1].with_name("grades_mechanisms.csv"))
    return [row for row in rows if row["file"] == f"{kind.replace(' ', '_')}.ipynb"]


def test_marks_cannot_be_written_by_an_answer(graded):
    """The answer that overwrites all checks gets what the zeros that it returns are worth."""
    worth = examine(EXERCISES["distance_bias"], lambda: zeros).score
    assert 0 < worth < 1
    assert mark(graded, "overwrites") == pytest.approx(worth, abs=1e-3)
    assert row_of(graded, "forges")["student"] == "forges"


def test_mechanisms_are_scored_one_by_one(graded):
    held = [int(row["holds"]) for row in mechanisms(graded, "one-sided") if "4.2" in row["exercise"]]
    assert held == [1, 1, 0, 0, 0, 1] and mark(graded, "one-sided") == 0.5


@pytest.mark.skipif(bool(not_closed()), reason="this machine cannot close everything")
def test_what_is_closed_is_closed(graded):
    assert "['network', 'processes', 'signals', 'group', 'writing']" in messages(graded, "fights")
    assert "ValueError: closed closed" in messages(graded, "reads")
    assert not Path("/tmp/bert_edu_was_here").exists()


def test_what_cannot_be_read_has_a_row(graded):
    rows, _ = graded
    for file, said in (
        ("not_JSON.ipynb", "not JSON"),
        ("unknown_exercise.ipynb", "near ones: distance_bias"),
        ("empty", "no notebook (.ipynb) in this folder"),
        ("essay.pdf", "no notebook"),
        ("link.ipynb", "a link"),
    ):
        assert said in rows[file]["status"] and float(rows[file]["score"]) == 0
        assert rows[file]["student"] == file.split(".")[0]


def test_two_submissions_of_one_student_are_both_there(graded):
    rows, _ = graded
    one, other = rows["unanswered.ipynb"], rows["twice/unanswered.ipynb"]
    assert "one of 2 submissions" in one["notes"] and "one of 2 submissions" in other["notes"]
    assert not rows["right.ipynb"]["notes"]


def test_each_submission_has_a_page(graded):
    rows, out = graded
    for row in rows.values():
        text = (out.parent / row["feedback"]).read_text(encoding="utf-8")
        assert text.startswith("<!DOCTYPE html>") and "<h1>" in text
    page = (out.parent / rows["one-sided.ipynb"]["feedback"]).read_text(encoding="utf-8")
    assert "Does not hold: it falls to both sides" in page and page.count('class="message"') == 1
    assert "Later: each further step" in page


SAMPLE = 13  # its answers need most of the package


@pytest.mark.parametrize("number", CHAPTERS)
def test_solutions_get_full_marks_in_the_cage(tmp_path, number):
    if number != SAMPLE and not NIGHTLY:
        pytest.skip(f"only chapter {SAMPLE} here; all of them where BERT_EDU_NIGHTLY is set")
    file = tmp_path / "solutions.ipynb"
    file.write_text(json.dumps(editions.sheet(number, solved=True)))
    result = grader.look_at(file, seeds=[0, SEED])
    assert [exercise["score"] for exercise in result["exercises"]] == [1.0] * 3, result["exercises"]
    assert result["chapter"] == number and result["quiz"]["right"] == result["quiz"]["questions"]


# ---- Its parts ---------------------------------------------------------------------------------------------


def test_nothing_of_a_student_becomes_markup_or_a_formula():
    result = worker.nothing("<script>1</script>") | {
        "chapter": 4,
        "open_answer": "<img src=x>",
        "notes": ["<b>"],
        "quiz": {"right": 1, "questions": 3},
    }
    page = feedback.page("<i>me</i>", result)
    assert not {"<script", "<img", "<b>", "<i>"} & set(page.replace("<body", "").split(">"))
    assert "&lt;script&gt;" in page and "&lt;img" in page and "&lt;i&gt;" in page
    assert [grader.harmless(text) for text in ("=1+1", "-x", "@a", "a=1", None, 3)] == [
        "'=1+1", "'-x", "'@a", "a=1", "", "3"
    ]  # fmt: skip


def write_notebook(file, *sources, **settings):
    cells = [{"cell_type": "code", "source": source, "outputs": []} for source in sources]
    file.write_text(json.dumps({"cells": cells, "nbformat": 4, "metadata": {}} | settings))
    return file


def test_a_sheet_is_read_without_running_it(tmp_path):
    file = write_notebook(
        tmp_path / "a.ipynb",
        ["student = 'An\\nna'\n", "open_answer = '''Because.'''"],
        "quiz_answers = 'abc'\nif True:\n    def rotate(): pass\nfor rotated in []: pass",
        "%pip install x\n!ls\nrotate = 1\nf = [inner for inner in ()]",
        "def (",
        "def look_up_gradient(): hidden = 1",
    )
    sheet = sheets.read(file)
    assert (sheet.student, sheet.quiz_answers, sheet.open_answer) == ("An na", "abc", "Because.")
    assert sheet.chapter == 3 and sheet.notes == ["code cell 4 is not valid Python and was left out"]
    assert sheet.binds("rotate") == [1, 2] and sheet.binds("rotated") == [1]
    assert sheet.binds("look_up_gradient") == [3] and not sheet.binds("hidden") and not sheet.binds("inner")
    assert sheets.read(file, chapter=5).chapter == 5


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"text"', "no notebook"),
        ('{"worksheets": []}', "no notebook of format 4"),
        (b"\xff\xfe\xfd", "not JSON"),
        ('{"cells": [3, null, {"cell_type": "code", "source": 5}]}', "no exercise of this book"),
    ],
)
def test_files_that_are_no_notebooks(tmp_path, content, said):
    file = tmp_path / "x.ipynb"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(sheets.Unreadable, match=said):
        sheets.read(file)


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "LARGEST", 10)
    with pytest.raises(sheets.Unreadable, match="clear the outputs"):
        sheets.read(write_notebook(tmp_path / "x.ipynb", "rotate = 1"))


def test_a_mechanism_must_hold_for_hidden_numbers_too(tmp_path):
    """An answer that knows the numbers of `check` by heart."""
    learned = (
        "import torch\ndef distance_bias(T, slope):\n    p = torch.arange(T)\n"
        "    right = -slope * (p[:, None] - p).abs()\n"
        f"    return right if (T, round(float(slope), 4)) in {public_calls()} else torch.zeros(T, T)\n"
    )
    sheet = sheets.Sheet([learned], chapter=CHAPTER)
    exercise = EXERCISES["distance_bias"]
    assert worker.examined(sheet, exercise, [0], SECONDS)["score"] == 1
    both = worker.examined(sheet, exercise, [0, SEED], SECONDS)
    assert both["score"] < 1
    assert any((finding["message"] or "").startswith("It holds for") for finding in both["findings"])


def public_calls():
    """What `check` calls distance_bias with."""
    calls = set()

    class Spy:
        changed = ()

        def __call__(self, T, slope):
            calls.add((T, round(float(slope), 4)))
            position = torch.arange(T)
            return -slope * (position[:, None] - position).abs()

    from bert_edu.exercises.engine import Draw

    for number, mechanism in enumerate(EXERCISES["distance_bias"].mechanisms):
        mechanism(Spy(), Draw(number))
    return calls


def test_an_answer_never_runs_beside_the_judge(monkeypatch):
    monkeypatch.setattr("bert_edu.exercises.sandbox.forking_is_safe", lambda: False)
    sheet = sheets.Sheet(["distance_bias = lambda T, slope: 0"], chapter=CHAPTER)
    with pytest.raises(RuntimeError, match="no process could be started"):
        worker.examined(sheet, EXERCISES["distance_bias"], [0], SECONDS)


def test_a_worker_that_hangs_has_a_result(tmp_path, monkeypatch):
    file = write_notebook(tmp_path / "x.ipynb", "rotate = 1")
    monkeypatch.setattr(grader, "PATIENCE", 0.0)
    assert "its time was up" in grader.look_at(file, seeds=[0])["problem"]


def dies(connection, file, settings):
    connection.send_bytes(json.dumps(worker.nothing("") | {"student": "Anna"}).encode())
    os.kill(os.getpid(), 9)


def mumbles(connection, file, settings):
    connection.send_bytes(b"{")


@pytest.mark.parametrize("work, said", [(dies, "was ended, code -9"), (mumbles, "cannot be read")])
def test_a_worker_that_dies_or_mumbles_has_a_result(tmp_path, monkeypatch, work, said):
    monkeypatch.setattr(grader, "work", work)
    result = grader.look_at(tmp_path / "x.ipynb", seeds=[0])
    assert said in result["problem"] and (result["student"] == "Anna") == (work is dies)


@pytest.mark.skipif(not_closed() >= {"network"}, reason="seccomp's numbers are those of x86-64")
def test_the_cage_lets_an_answer_work():
    """Threads, reading of packages and arithmetic go on. In a process of its own: there is no way back."""
    code = (
        "import threading, torch; from bert_edu.grading import cage; cage.enter(); cage.enter()\n"
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "torch.set_num_threads(2); print(torch.ones(300, 300).mm(torch.ones(300, 300)).sum().item())\n"
        "import colorsys, os; print(os.getpid() > 0)\n"
        "import resource; resource.getrlimit(resource.RLIMIT_AS)\n"
        "try: resource.prlimit(os.getppid(), resource.RLIMIT_CPU)\n"
        "except PermissionError: print('closed')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.split() == ["thread", "27000000.0", "True", "closed"], ran.stderr


# ---- The commands ------------------------------------------------------------------------------------------


def test_what_grade_refuses(tmp_path):
    out = tmp_path / "grades.csv"
    for arguments, said in (
        ([tmp_path / "nowhere", "--out", out], "there is no folder"),
        ([tmp_path, "--out", out], "there is no notebook (.ipynb) in"),
        ([tmp_path, "--out", tmp_path / "grades.xls"], "must end in .csv"),
        ([tmp_path, "--out", out, "--chapter", 99], "no exercises for chapter 99; there are for 2, 3"),
    ):
        assert said in refuse("grade", *arguments)
    assert bert("grade", tmp_path, "--out", out, "--seed", 0).exit_code == 2


def test_grading_is_refused_where_it_is_not_safe(tmp_path, monkeypatch):
    monkeypatch.setattr(grader, "forking_is_safe", lambda: False)
    assert "grading needs Linux" in refuse("grade", tmp_path, "--out", tmp_path / "grades.csv")


def test_check_from_the_command_line(tmp_path):
    answer = tmp_path / "answer.py"
    answer.write_text("import torch\ndef distance_bias(T, slope):\n    return torch.zeros(T, T)\n")
    result = bert("check", "distance_bias", answer)
    assert result.exit_code == 1 and "2 of 6 mechanisms hold." in result.stdout
    answer.write_text(answer.read_text().replace("torch.zeros(T, T)", RIGHT))  # fmt: skip
    assert "All 6 mechanisms hold." in succeed("check", "distance_bias", answer).stdout
    assert "there is no exercise 'distance_bais'; there is 'distance_bias'" in refuse(
        "check", "distance_bais", answer
    )
    assert "there is no file" in refuse("check", "distance_bias", tmp_path / "absent.py")


def test_preflight_of_a_file(tmp_path):
    file = tmp_path / "mine.ipynb"
    file.write_text(json.dumps(sheet("", solved=False)))
    result = bert("preflight", file)
    assert result.exit_code == 1 and result.stdout.count("MISSING") == 6, result.output
    assert "4.2 distance_bias: Not yet." in result.stdout and "6 of 6 missing" in result.stdout
    filled = sheet("Anna")
    next(cell for cell in filled.cells if cell.id == "open-answer").source = "open_answer = 'It reads [SEP].'"
    file.write_text(json.dumps(filled))
    assert "Everything is there for chapter 4" in succeed("preflight", file).stdout
    file.write_text("{")
    assert "is not JSON" in refuse("preflight", file)


def test_preflight_in_a_notebook(capsys):
    namespace = {"student": "Anna", "distance_bias": zeros, "quiz_answers": "ab", "open_answer": "Yes."}
    assert not preflight(CHAPTER, namespace)
    shown = capsys.readouterr().out
    assert "there    your name: Anna" in shown and "there    4.2 distance_bias: 2 of 6" in shown
    assert shown.count("MISSING") == 3 and "quiz: 0 of 3" in shown  # two answers and the quiz
    with pytest.raises(ValueError, match="no exercises for chapter 99"):
        preflight(99, {})


# ---- Variants ----------------------------------------------------------------------------------------------

VARIED = {
    "stable_attention": """
import torch
def stable_attention(query, key, value, hidden):  # (T, B, D), 1 hides
    query, key, value = (vectors.transpose(0, 1) for vectors in (query, key, value))
    scores = query @ key.mT / query.shape[-1] ** 0.5 - 10000.0 * hidden.T[:, None, :]
    shares = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return (shares / shares.sum(dim=-1, keepdim=True) @ value).transpose(0, 1)
""",
    "distance_bias": """
import math, torch
def distance_bias(T, factor):
    return math.log(factor) * (torch.arange(T)[:, None] - torch.arange(T)).abs()
""",
    "attention_mended": """
def attention_mended(query, key, value, attention_mask):
    scores = query @ key.mT / query.shape[-1] - 10000.0 * (1.0 - attention_mask[:, None, :])
    return scores.softmax(dim=-1) @ value
""",
}


def test_the_variants_of_the_guide(tmp_path):
    """With the guide's adapters, answers to the variants are right and the book's own answers wrong."""
    guide = (notebooks.ROOT / "book" / "instructor.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "variants.py").write_text(code)
    adapters = worker.load_adapters(str(tmp_path / "variants.py"))
    for name, source in VARIED.items():
        exercise, adapt = EXERCISES[name], getattr(adapters, name)
        varied, own = sheets.Sheet([source]), sheets.Sheet([cell_of(name)])
        assert worker.examined(varied, exercise, [0, SEED], SECONDS, adapt)["score"] == 1, name
        assert worker.examined(own, exercise, [0, SEED], SECONDS, adapt)["score"] < 1, name
        assert worker.examined(varied, exercise, [0], SECONDS)["score"] < 1, name


def cell_of(name):
    """The chapter's own solution."""
    chapter = editions.taken_apart(CHAPTER)
    return "import math\nimport torch\n" + chapter.solution(EXERCISES[name])[0]


def test_grade_takes_adapters(tmp_path):
    hand_in(tmp_path, "right", "right")
    (tmp_path / "flip.py").write_text("def distance_bias(theirs):\n    return lambda T, s: -theirs(T, s)\n")
    found = grade(tmp_path, tmp_path / "g.csv", adapt=tmp_path / "flip.py", seed=SEED, say=len)
    scores = [exercise["score"] for exercise in found[1].result["exercises"]]
    assert found[1].file.name == "right.ipynb" and scores[0] == scores[2] == 1 and scores[1] < 1
    assert "there is no file" in refuse("grade", tmp_path, "--out", "g.csv", "--adapt", tmp_path / "none.py")


# ---- Gradescope --------------------------------------------------------------------------------------------


def test_the_zip_grades_as_gradescope_would(tmp_path):
    """Unpacked into the folders that Gradescope uses, and run as it runs it."""
    succeed("gradescope", "zip", "--chapter", CHAPTER, "--out", tmp_path / "a.zip", "--seed", SEED)
    for name in ("source", "submission"):
        (tmp_path / name).mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "source")
        assert {entry.filename: entry.external_attr >> 16 & 0o111 for entry in archive.infolist()} == {
            "setup.sh": 0o111,
            "run_autograder": 0o111,
        }
    hand_in(tmp_path / "submission", "one-sided", "one-sided")
    environment = os.environ | {"AUTOGRADER": str(tmp_path), "PYTHON": sys.executable}
    subprocess.run(["bash", tmp_path / "source" / "run_autograder"], env=environment, check=True)
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    assert found["score"] == pytest.approx(100 * 2.5 / 3, abs=0.01)
    tests = [test for test in found["tests"] if "4.2" in test["name"]]
    assert [test["status"] for test in tests] == ["passed", "passed", *["failed"] * 3, "passed"]
    assert sum(test["max_score"] for test in found["tests"] if "4." in test["name"]) == pytest.approx(
        100, abs=0.01
    )
    assert "before" in tests[2]["output"] and tests[3]["output"].startswith("Explained once")
    assert {test["visibility"] for test in tests} == {"visible"}
    assert found["tests"][-1] == {"name": "Quiz", "output": "3 of 3 right", "visibility": "after_due_date"}


def test_an_upload_without_one_notebook(tmp_path):
    gradescope.run(tmp_path, tmp_path / "results.json", chapter=CHAPTER, seed=SEED)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["score"] == 0 and "upload one notebook (.ipynb); there are 0" in found["output"]


def test_the_zip_installs_this_package():
    assert gradescope.ADDRESS == notebooks.repository_address()
    assert "{" not in gradescope.RUN.format(chapter=1, seed=2).replace("${", "")
    assert "no exercises for chapter 99" in refuse(
        "gradescope", "zip", "--chapter", 99, "--out", MINI / "x.zip"
    )
    subprocess.run(["bash", "-n"], input=gradescope.SETUP, text=True, check=True)


# ---- Sixty of them -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not NIGHTLY, reason="only where BERT_EDU_NIGHTLY is set")
def test_sixty_submissions(tmp_path):
    kinds = [list(KINDS)[number % len(KINDS)] for number in range(60)]
    for number, kind in enumerate(kinds):
        hand_in(tmp_path, f"{number:02} {kind}", kind)
    found = grade(tmp_path, tmp_path / "marks" / "grades.csv", seed=SEED)
    assert len(found) == len(table(tmp_path / "marks" / "grades.csv")) == 60
    for kind, submission in zip(kinds, found):
        full = kind in ("right", "huge output", "raises on the way")
        assert (submission.score == 100) == full, kind
