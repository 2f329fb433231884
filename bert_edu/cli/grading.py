"""check, preflight, grade, gradescope: the exercises outside a notebook."""

from pathlib import Path
from typing import Annotated

import typer

from ..exercises import check_file
from ..grading import grader, gradescope, preflight_file
from .program import PLAIN, app, say

gradescope_app = typer.Typer(help="An autograder for Gradescope.", **PLAIN)
app.add_typer(gradescope_app, name="gradescope")

Chapter = Annotated[int, typer.Option(metavar="N", help="Whose exercises are answered.")]
Seed = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Of the hidden numbers and sizes, which come after those that `check` uses.",
        show_default="a new one",
    ),
]


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The exercise's name, such as distance_bias.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Python file that defines it.")],
):
    """Check an answer to an exercise of the book: what holds, and why the first thing that does not.

    Exit code 0: everything holds; 1: not yet.

    \b
    Example:
      bert-edu check distance_bias answer.py
    """
    report = check_file(name, file)
    print(report)
    if report.score < 1:
        raise typer.Exit(1)


@app.command()
def preflight(
    notebook: Annotated[Path, typer.Argument(metavar="NOTEBOOK", help="An exercise sheet, filled in.")],
):
    """Say what a notebook still lacks before it is handed in. Exit code 0: nothing; 1: something.

    The notebook is run as the grader will run it, from top to bottom, in a process of its own.

    \b
    Example:
      bert-edu preflight 04_attention.ipynb
    """
    if not preflight_file(notebook):
        raise typer.Exit(1)


@app.command()
def grade(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="The submissions: notebooks, or a folder with notebooks for each student."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The table to write, a row for each submission. For grades.csv, grades_mechanisms.csv and "
            "the pages in grades_feedback/ stand beside it.",
        ),
    ],
    chapter: Annotated[
        int | None,
        typer.Option(metavar="N", help="Whose exercises they answer.", show_default="as each notebook says"),
    ] = None,
    seed: Seed = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Notebooks at a time.", show_default="one a processor"),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(min=1, metavar="X", help="The time for an answer, the cells before it included."),
    ] = grader.SECONDS,
    adapt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For variants of exercises: Python functions, each named like an exercise, that turn a "
            "student's answer into one to the book's specification.",
            show_default="none",
        ),
    ] = None,
):
    """Grade the notebooks that students have handed in.

    Each notebook has a process of its own with limits of time and memory. Read in the book's instructor guide
    what is and what is not closed to the students' code.

    \b
    Example:
      bert-edu grade submissions --out grades.csv
    """
    if adapt is not None and not adapt.is_file():
        raise FileNotFoundError(f"there is no file {adapt}")
    grader.grade(folder, out, chapter=chapter, seed=seed, jobs=jobs, seconds=seconds, adapt=adapt, say=say)


@gradescope_app.command("zip")
def gradescope_zip(
    chapter: Chapter,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The zip to write.")],
    seed: Seed = None,
    index: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where pip takes PyTorch from. Its page Start Locally names the index without CUDA, which "
            "makes the container far smaller.",
            show_default="pip's own",
        ),
    ] = None,
):
    """Write the zip to upload as an assignment's autograder.

    \b
    Example:
      bert-edu gradescope zip --chapter 4 --out chapter_4.zip
    """
    seed = gradescope.make_zip(out, chapter, seed=seed, index=index)
    say(f"{out}: chapter {chapter}, hidden seed {seed}.")


@gradescope_app.command("run")
def gradescope_run(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with one notebook to grade.")],
    chapter: Chapter,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    seed: Annotated[int, typer.Option(min=1, metavar="N", help="Of the hidden numbers and sizes.")],
):
    """Grade one upload and write Gradescope's results.json: what the zip's run_autograder calls.

    \b
    Example:
      bert-edu gradescope run submission --chapter 4 --seed 7 --out results.json
    """
    gradescope.run(folder, out, chapter=chapter, seed=seed)
