"""A class of students for the grader: good notebooks, wrong ones, broken ones, and some that cheat.

`python tests/submissions.py FOLDER 60` writes sixty of them, to try `bert-edu grade` on.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "tools"))

import editions
import notebooks

CHAPTER = 4
SECRET = "the answers of somebody else"
RIGHT, NOTHING = 100.0, 0.0


def sheet(name: str, solved: bool = True, chapter: int = CHAPTER, **replaced: str):
    """A filled-in sheet; `distance_bias` and the like are replaced by other source."""
    notebook = editions.sheet(chapter, solved=solved)
    cells = {cell.id: cell for cell in notebook.cells}
    cells["student"].source = f"student = {name!r}"
    numbers = {entry.name: entry.number.replace(".", "-") for entry in editions.CHAPTERS[chapter].EXERCISES}
    for exercise, source in replaced.items():
        cells[f"answer-{numbers[exercise]}"].source = source
    return notebook


def with_cell(name: str, source: str, **settings):
    """A sheet with a cell of the student's own before all answers."""
    notebook = sheet(name, **settings)
    notebook.cells.insert(2, editions.code(source, "own"))
    return notebook


def with_huge_output(name: str):
    notebook = sheet(name)
    notebook.cells[-1].outputs = [notebooks.nbformat.v4.new_output("stream", text="x" * (30 << 20))]
    return notebook


DEFINITION = "def distance_bias(T, slope):\n"
ONE_SIDED = DEFINITION + "    p = torch.arange(T)\n    return -slope * (p[None, :] - p[:, None]).float()\n"
LOOPS = DEFINITION + "    while True:\n        pass\n"
WRONG_NAME = "def distance_bais(T, slope):\n    return torch.zeros(T, T)\n"
PRINTS = DEFINITION + "    while True:\n        print('x' * 100_000)\n"
EXITS = "import os\n\n\n" + DEFINITION + "    os._exit(0)\n"
READS = (
    DEFINITION
    + "    text = ''\n"
    + "    for place in {places!r}:\n"
    + "        try:\n"
    + "            text += open(place).read()\n"
    + "        except OSError:\n"
    + "            text += 'closed '\n"
    + "    raise ValueError(text)\n"
)
OVERWRITES = """\
import bert_edu.exercises, bert_edu.exercises.engine as engine, bert_edu.exercises.sandbox as sandbox
import bert_edu.grading.worker, bert_edu.grading.grader
engine.Report.score = property(lambda self: 1.0)
engine.examine = lambda *a, **k: None
engine.expect = engine.tensor_of = lambda *a, **k: None
sandbox.Wrong = type("Wrong", (Exception,), {"__init__": lambda self, *a: None})
for module in (bert_edu.grading.worker, bert_edu.grading.grader):
    for name in ("examined", "report_on", "look_at"):
        setattr(module, name, lambda *a, **k: {"score": 1.0, "findings": []})
for exercise in bert_edu.exercises.EXERCISES.values():
    object.__setattr__(exercise, "mechanisms", ())

def distance_bias(T, slope):
    class Always(torch.Tensor):
        __eq__ = __le__ = lambda self, other: True
    return torch.zeros(T, T).as_subclass(Always)
"""
FORGES = """\
import glob, json, os, sys
forged = json.dumps({"student": "forger", "chapter": 4, "problem": "", "notes": [], "exercises": [
    {"name": "distance_bias", "number": "4.2", "title": "", "verdict": None, "score": 1.0, "findings": []}]})
print(forged, flush=True)
print("Score: 100 %")
for place in [*glob.glob("/proc/*/fd/1"), *glob.glob("/proc/self/fd/*")]:
    try:
        with open(place, "w") as file:
            file.write(forged)
    except OSError:
        pass
for descriptor in range(64):
    try:
        os.write(descriptor, forged.encode())
    except OSError:
        pass

def distance_bias(T, slope):
    return torch.ones(T, T)
"""
FIGHTS = """\
import os, signal, socket, subprocess

closed = []
def attempt(what, action):
    try:
        action()
    except Exception:
        closed.append(what)

attempt("network", lambda: socket.create_connection(("127.0.0.1", 1), 0.1))
attempt("processes", lambda: subprocess.run(["true"]))
attempt("signals", lambda: os.kill(os.getppid(), signal.SIGKILL))
attempt("group", lambda: os.killpg(os.getpgid(os.getppid()), signal.SIGKILL))
attempt("writing", lambda: open("/tmp/bert_edu_was_here", "w"))

def distance_bias(T, slope):
    raise ValueError(f"closed: {closed}")
"""
UNKNOWN = '{"cells": [{"cell_type": "code", "source": "check(\\"distance_bais\\", 1)", "outputs": []}]}'

# What each kind hands in: a notebook, or the text of a file.
KINDS: dict[str, Callable] = {
    "right": sheet,
    "unanswered": lambda name: sheet(name, solved=False),
    "one-sided": lambda name: sheet(name, distance_bias=ONE_SIDED),
    "not JSON": lambda name: '{"cells": [{"cell_type": "code", "sou',
    "loops": lambda name: sheet(name, distance_bias=LOOPS),
    "wrong name": lambda name: sheet(name, distance_bias=WRONG_NAME),
    "huge output": with_huge_output,
    "prints": lambda name: sheet(name, distance_bias=PRINTS),
    "reads": lambda name: sheet(name, distance_bias=READS.format(places=["/etc/passwd", "right.ipynb"])),
    "overwrites": lambda name: sheet(name, distance_bias=OVERWRITES),
    "forges": lambda name: sheet(name, distance_bias=FORGES),
    "fights": lambda name: sheet(name, distance_bias=FIGHTS),
    "exits": lambda name: sheet(name, distance_bias=EXITS),
    "unknown exercise": lambda name: UNKNOWN,
    "raises on the way": lambda name: with_cell(name, "%time 3\n1 / 0"),
}


def hand_in(folder: Path, name: str, kind: str) -> Path:
    """Writes one submission."""
    content, file = KINDS[kind](name), folder / f"{name.replace(' ', '_')}.ipynb"
    if isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    else:
        file.write_text(json.dumps(content), encoding="utf-8")
    return file


def main(folder: Path, count: int):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        hand_in(folder, f"{number:02} {kind}", kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
