"""`bert-edu grade`: a folder of notebooks in; a table of marks, and a page for each student, out."""

import contextlib
import csv
import json
import multiprocessing
import os
import re
import secrets
import signal
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..exercises import CHAPTERS
from ..exercises.sandbox import forking_is_safe
from . import cage
from .feedback import page
from .worker import load_adapters, nothing, work

PUBLIC_SEED = 0  # the numbers and sizes that `check` uses
SECONDS = 10.0  # for an answer, the cells of the notebook that come before it included
LONGEST = 1 << 20  # bytes of a worker's message
PATIENCE = 30.0  # how many times that for the whole notebook, on a machine that may be busy

# Workers are forked from a process that has loaded everything and runs nothing: they start in no time.
WORKERS = multiprocessing.get_context("forkserver" if forking_is_safe() else "spawn")
WORKERS.set_forkserver_preload(["bert_edu.grading.worker"])


@dataclass
class Submission:
    """One file that was handed in, and what became of it.

    Attributes:
        file: the file, or the folder of a student who handed in no notebook.
        owner: whose it is as far as its place in the folder says.
        result: what the worker found, as `worker.results` gives it.
        notes: what the instructor should know.
    """

    file: Path
    owner: str
    result: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def student(self) -> str:
        return self.result.get("student") or self.owner

    @property
    def score(self) -> float:
        """The mean over the exercises, 0 to 100."""
        scores = [exercise["score"] for exercise in self.result["exercises"]]
        return 100 * sum(scores) / len(scores) if scores else 0.0


def grade(
    folder: str | Path,
    out: str | Path,
    *,
    chapter: int | None = None,
    seed: int | None = None,
    jobs: int | None = None,
    seconds: float = SECONDS,
    adapt: str | Path | None = None,
    say=print,
) -> list[Submission]:
    """Grades every notebook in a folder.

    Writes `out`, a row for each submission; beside it, for grades.csv, grades_mechanisms.csv with a row for
    each mechanism, and the folder grades_feedback with a page for each submission.

    Args:
        folder: the submissions: notebooks, and a folder for each student who hands in several.
        out: the table to write.
        chapter: whose exercises they answer; none given: each notebook says so by what it defines.
        seed: of the hidden numbers and sizes, the same for all; none given: a new one.
        jobs: how many notebooks at a time.
        seconds: the time for one answer, the cells before it included.
        adapt: a Python file for variants of exercises: a function with an exercise's name in it takes a
            student's answer and gives one to the book's own specification.
        say: called with a line for each notebook.

    Raises:
        ValueError: when there is nothing to grade, or no way to do it safely here.
    """
    folder, out = Path(folder), Path(out)
    seed = check_arguments(folder, out, chapter, seed)
    load_adapters(adapt and str(adapt))  # complains now, and not once for each notebook
    submissions = collect(folder, leave=written_files(out))
    if not submissions:
        raise ValueError(f"there is no notebook (.ipynb) in {folder}")

    def one(submission: Submission):
        if not submission.result:
            submission.result = look_at(
                submission.file, seeds=[PUBLIC_SEED, seed], chapter=chapter, seconds=seconds, adapt=adapt
            )
        say(f"{submission.score:5.1f}  {submission.file}  {submission.result['problem']}".rstrip())

    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        list(pool.map(one, submissions))
    note_doubles(submissions)
    write(submissions, folder, out)
    missing = {"network", "other processes", "writing", "reading"} - set(cage.closed())
    if missing:
        say(f"Not closed to the students' code on this machine: {', '.join(sorted(missing))}.")
    say(f"{len(submissions)} submissions, hidden seed {seed}; marks in {out}.")
    return submissions


def check_arguments(folder: Path, out: Path, chapter: int | None, seed: int | None) -> int:
    """Complains about what cannot be done; the seed to use."""
    if not forking_is_safe():
        raise ValueError(
            "grading needs Linux, where an answer runs in a child of its own: use WSL, a container or Colab"
        )
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    if chapter is not None and chapter not in CHAPTERS:
        raise ValueError(f"there are no exercises for chapter {chapter}; there are for {known_chapters()}")
    if seed == PUBLIC_SEED:
        raise ValueError("--seed 0 is what `check` uses itself: take another number")
    if out.suffix != ".csv":
        raise ValueError(f"--out must end in .csv, not {out.name!r}")
    out.parent.mkdir(parents=True, exist_ok=True)
    return seed or secrets.randbelow(10**6) + 1


def known_chapters() -> str:
    return ", ".join(map(str, CHAPTERS))


def written_files(out: Path) -> list[Path]:
    """The table, the table of mechanisms, and the folder of pages."""
    return [out, out.with_name(f"{out.stem}_mechanisms.csv"), out.with_name(f"{out.stem}_feedback")]


def collect(folder: Path, leave: list[Path]) -> list[Submission]:
    """What was handed in: each notebook, and each file or folder that should have held one."""
    leave = [path.absolute() for path in leave]
    found = []
    for place in sorted(folder.iterdir()):
        if place.name.startswith(".") or place.name == "__MACOSX" or place.absolute() in leave:
            continue
        if place.is_symlink():
            found.append(not_graded(place, place.stem, "this is a link, not a file"))
        elif place.suffix == ".ipynb" and place.is_file():
            found.append(Submission(place, place.stem))
        elif place.is_dir():
            inside = [
                file
                for file in sorted(place.rglob("*.ipynb"))
                if file.is_file() and not file.is_symlink() and ".ipynb_checkpoints" not in file.parts
            ]
            found += [Submission(file, place.name) for file in inside]
            if not inside:
                found.append(not_graded(place, place.name, "there is no notebook (.ipynb) in this folder"))
        else:
            found.append(not_graded(place, place.stem, "this is no notebook (.ipynb)"))
    if all(submission.result for submission in found):
        return []
    return found


def not_graded(file: Path, owner: str, problem: str) -> Submission:
    return Submission(file, owner, nothing(problem))


def look_at(
    file: Path,
    *,
    seeds: list[int],
    chapter: int | None = None,
    seconds: float = SECONDS,
    adapt: str | Path | None = None,
) -> dict:
    """What a worker finds in one notebook, in a process of its own: see `worker.results`."""
    receiver, sender = WORKERS.Pipe(duplex=False)
    settings = {"seeds": seeds, "seconds": seconds, "chapter": chapter, "adapt": adapt and str(adapt)}
    process = WORKERS.Process(target=work, args=(sender, str(Path(file).absolute()), settings))
    process.start()
    sender.close()
    result, end_of_time = nothing("it was ended before it began"), time.monotonic() + PATIENCE * seconds
    try:
        while receiver.poll(max(0.0, end_of_time - time.monotonic())):
            result = json.loads(receiver.recv_bytes(LONGEST))
        result["problem"] = f"its time was up, {PATIENCE * seconds:g} seconds for the notebook"
    except EOFError:
        process.join(5)
        if process.exitcode:
            result["problem"] = f"the process that graded it was ended, code {process.exitcode}"
    except (OSError, ValueError) as error:
        result["problem"] = f"what the process that graded it says cannot be read: {error}"
    finally:
        end(process)
        receiver.close()
    return result


def end(process):
    """Ends a worker, and what it may have started and left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def note_doubles(submissions: list[Submission]):
    """A note on each of several submissions of a student for a chapter. Which one counts, people must say."""
    groups = defaultdict(list)
    for submission in submissions:
        groups[submission.student.casefold(), submission.result["chapter"]].append(submission)
    for group in groups.values():
        for submission in group if len(group) > 1 else ():
            others = ", ".join(str(other.file.name) for other in group if other is not submission)
            submission.notes.append(
                f"one of {len(group)} submissions of this student for this chapter: {others}"
            )


# ---- What is written ---------------------------------------------------------------------------------------


def write(submissions: list[Submission], folder: Path, out: Path):
    """The table, the table of mechanisms, and the pages."""
    exercises = list(
        dict.fromkeys(
            f"{exercise['number']} {exercise['name']}"
            for submission in sorted(submissions, key=lambda one: one.result["chapter"] or 0)
            for exercise in submission.result["exercises"]
        )
    )
    out, mechanism_table, pages = written_files(out)
    pages.mkdir(exist_ok=True)
    rows, mechanisms = [], []
    for number, submission in enumerate(submissions, start=1):
        result, relative = submission.result, submission.file.relative_to(folder)
        name = f"{number:03}_{re.sub(r'[^A-Za-z0-9]+', '_', str(relative.with_suffix('')))[:80]}.html"
        (pages / name).write_text(page(submission.student, result), encoding="utf-8")
        scores = {f"{entry['number']} {entry['name']}": entry["score"] for entry in result["exercises"]}
        rows.append(
            {
                "student": submission.student,
                "file": relative,
                "chapter": result["chapter"],
                "status": result["problem"] or "graded",
                "score": round(submission.score, 1),
                **{name: round(score, 3) for name, score in scores.items()},
                "quiz right": result.get("quiz", {}).get("right"),
                "quiz questions": result.get("quiz", {}).get("questions"),
                "open answer, words": len(result.get("open_answer", "").split()),
                "notes": "; ".join([*result["notes"], *submission.notes]),
                "feedback": f"{pages.name}/{name}",
            }
        )
        mechanisms += [
            {
                "student": submission.student,
                "file": relative,
                "exercise": f"{entry['number']} {entry['name']}",
                "mechanism": finding["mechanism"],
                "holds": int(finding["message"] is None),
                "message": finding["message"],
            }
            for entry in result["exercises"]
            for finding in entry["findings"]
        ]
    columns = ["student", "file", "chapter", "status", "score", *exercises]
    columns += ["quiz right", "quiz questions", "open answer, words", "notes", "feedback"]
    write_table(out, columns, rows)
    write_table(
        mechanism_table,
        ["student", "file", "exercise", "mechanism", "holds", "message"],
        mechanisms,
    )


def write_table(file: Path, columns: list[str], rows: list[dict]):
    # With a byte order mark, so that spreadsheets read it as UTF-8.
    with open(file, "w", newline="", encoding="utf-8-sig", errors="replace") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)


def harmless(value):
    """Text that a spreadsheet would take for a formula, with an apostrophe before it."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
