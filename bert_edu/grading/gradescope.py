"""The autograder for Gradescope: a zip to upload, and the results in the form that it reads.

(The form: https://gradescope-autograders.readthedocs.io/en/latest/specs/.)
"""

import json
import secrets
import shlex
import zipfile
from pathlib import Path

from .. import __version__
from ..exercises import CHAPTERS
from .grader import PUBLIC_SEED, known_chapters, look_at
from .worker import nothing

ADDRESS = "https://github.com/bert-edu/bert-edu"  # tests/test_grading.py compares it with _config.yml

# Made for the base image with Ubuntu 24.04, whose Python is 3.12.
SETUP = """\
#!/usr/bin/env bash
set -e
apt-get update
apt-get install -y python3 python3-venv git
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install --no-cache-dir torch{index}
/autograder/venv/bin/pip install --no-cache-dir "bert-edu @ git+{address}@v{version}"
"""

# Where everything is can be set from outside; Gradescope leaves it as it is here.
RUN = """\
#!/usr/bin/env bash
root=${{AUTOGRADER:-/autograder}}
python=${{PYTHON:-$root/venv/bin/python}}
mkdir -p "$root/results"
"$python" -P -m bert_edu gradescope run "$root/submission" --chapter {chapter} --seed {seed} \\
    --out "$root/results/results.json"
"""


def make_zip(out: str | Path, chapter: int, *, seed: int | None = None, index: str | None = None) -> int:
    """Writes the zip to upload as an assignment's autograder. It installs the package's version at hand.

    Args:
        out: the zip.
        chapter: whose exercise sheet the assignment is.
        seed: of the hidden numbers and sizes; none given: a new one.
        index: the address of a package index to take PyTorch from, such as the one without CUDA.

    Returns:
        the seed.

    Raises:
        ValueError: for a chapter without exercises.
    """
    if chapter not in CHAPTERS:
        raise ValueError(f"there are no exercises for chapter {chapter}; there are for {known_chapters()}")
    seed = seed or secrets.randbelow(10**6) + 1
    files = {
        "setup.sh": SETUP.format(
            address=ADDRESS, version=__version__, index=f" --index-url {shlex.quote(index)}" if index else ""
        ),
        "run_autograder": RUN.format(chapter=chapter, seed=seed),
    }
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, content)
    return seed


def run(folder: str | Path, out: str | Path, *, chapter: int, seed: int):
    """Grades what one student has uploaded, and writes Gradescope's results.json."""
    notebooks = sorted(Path(folder).rglob("*.ipynb"))
    if len(notebooks) == 1:
        result = look_at(notebooks[0], seeds=[PUBLIC_SEED, seed], chapter=chapter)
    else:
        result = nothing(f"upload one notebook (.ipynb); there are {len(notebooks)}")
    Path(out).write_text(json.dumps(results(result), indent=2), encoding="utf-8")


def results(result: dict) -> dict:
    """What Gradescope reads: 100 points, shared by the exercises, and in each by its mechanisms."""
    tests = []
    for entry in result["exercises"]:
        points, explained = 100 / len(result["exercises"]) / len(entry["findings"]), False
        for finding in entry["findings"]:
            holds = finding["message"] is None
            output = "" if holds else finding["message"]
            if explained and not holds:
                output = "Explained once everything before it holds."
            explained = explained or not holds
            tests.append(
                {
                    "name": f"{entry['number']} {entry['name']}: {finding['mechanism']}",
                    "score": round(points * holds, 4),
                    "max_score": round(points, 4),
                    "status": "passed" if holds else "failed",
                    "output": output,
                    "visibility": "visible",
                }
            )
    if quiz := result.get("quiz"):  # after the due date: before it, one could try all letters
        output = f"{quiz['right']} of {quiz['questions']} right"
        tests.append({"name": "Quiz", "output": output, "visibility": "after_due_date"})
    if result.get("open_answer"):
        tests.append({"name": "Open question", "output": result["open_answer"], "visibility": "hidden"})
    total = sum(entry["score"] for entry in result["exercises"]) / max(1, len(result["exercises"]))
    problem = f"Not graded: {result['problem']}." if result["problem"] else ""
    return {
        "score": round(100 * total, 2),
        "output": " ".join([problem, *result["notes"]]).strip(),
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }
