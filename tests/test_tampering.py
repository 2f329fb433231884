"""Tampering is caught: a copy of the project is changed in one place, and the test made for it fails.

In each case the other tests of the same run pass, so it is the change that is caught and nothing else.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

import notebooks

CHAPTER = "notebooks/04_attention.ipynb"


@pytest.fixture
def project(tmp_path):
    """What tests and notebooks need of the project, in a folder of its own."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("bert_edu", "benchmarks", "results", "tests"):
        shutil.copytree(
            notebooks.ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "exercise_bank")
        )
    for name in (
        "conftest.py",
        "pyproject.toml",
        "requirements.txt",
        "_config.yml",
        "README.md",
        "book/results.md",
        "book/tools/notebooks.py",
        CHAPTER,
        "notebooks/05_multi_head.ipynb",
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(notebooks.ROOT / name, copy / name)
    return copy


def outcomes(project, *tests) -> tuple[set, set]:
    """The names of the tests that passed and of those that failed in the copy."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rpfE", "--color=no", "-p", "no:cacheprovider", *tests],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},  # the copy's bert_edu
        capture_output=True,
        text=True,
    )
    assert run.returncode in (0, 1), run.stdout[-3000:] + run.stderr  # 2 and above: the run itself went wrong
    found = {outcome: set() for outcome in ("PASSED", "FAILED", "ERROR")}
    for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) \S+?::(.+?)(?: - .*)?$", run.stdout, re.M):
        found[outcome].add(name)
    assert not found["ERROR"], run.stdout[-3000:]
    return found["PASSED"], found["FAILED"]


def replace(file, before, after):
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{file.name} has {text.count(before)} times {before!r}"
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_a_number_of_the_results_page_is_caught(project):
    """On the page, where a reader sees it; then in the file that page and README are made from."""
    page, source = project / "book/results.md", project / "results/live_run.json"
    original = page.read_text(encoding="utf-8")
    number = re.search(r"\d+\.\d ± \d+\.\d", original)[0]
    page.write_text(original.replace(number, "99.9 ± 0.1", 1), encoding="utf-8")
    passed, failed = outcomes(project, "tests/test_results.py")
    assert failed == {"test_the_page_is_made_from_the_files"} and passed
    page.write_text(original, encoding="utf-8")
    result = json.loads(source.read_text(encoding="utf-8"))
    result["figures"]["runs"][0]["mask_accuracy"] += 0.05
    source.write_text(json.dumps(result), encoding="utf-8")
    passed, failed = outcomes(project, "tests/test_results.py")
    assert (
        failed == {"test_the_page_is_made_from_the_files", "test_the_readme_has_the_same_figures"} and passed
    )


def test_a_shape_in_the_package_is_caught(project):
    """Heads that take every A-th component instead of D in a row: (B, A, T, D) all the same, and no error."""
    replace(
        project / "bert_edu/attention.py",
        "hidden.view(B, T, self.num_heads, self.head_size).transpose(1, 2)",
        "hidden.view(B, T, self.head_size, self.num_heads).permute(0, 3, 1, 2)",
    )
    passed, failed = outcomes(
        project,
        "tests/test_no_drift.py::test_chapter_4_attention",
        "tests/test_no_drift.py::test_chapter_5_heads",
        "tests/test_model.py::test_attention_by_hand",
        "tests/test_model.py::test_multi_head_attention_against_torch",
    )
    assert failed == {"test_chapter_5_heads", "test_multi_head_attention_against_torch"}
    assert passed == {"test_chapter_4_attention", "test_attention_by_hand"}


def test_a_stored_output_is_caught(project):
    """One digit in what a cell of a chapter printed; pytest runs the chapter and finds this cell."""
    path = project / CHAPTER
    notebook = notebooks.read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    number, output = next(
        (number, output)
        for number, cell in enumerate(code)
        if "nbval-ignore-output" not in cell.metadata.get("tags", [])
        for output in cell.outputs
        if output.output_type == "stream" and re.search(r"\d\.\d\d", output.text)
    )
    digit = re.search(r"\d\.\d(\d)", output.text)
    other = str((int(digit[1]) + 1) % 10)
    output.text = output.text[: digit.start(1)] + other + output.text[digit.end(1) :]
    notebooks.write(notebook, path)
    passed, failed = outcomes(project, CHAPTER, "--notebook-outputs=strict")
    assert failed == {f"Cell {number}"}
    assert passed == {f"Cell {other}" for other in range(len(code))} - failed
