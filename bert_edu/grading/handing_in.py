"""What is missing from a notebook before it is handed in."""

from pathlib import Path

from ..exercises import CHAPTERS, examine
from ..exercises.engine import indented
from ..exercises.quizzes import QUIZZES
from .sheets import OPEN_ANSWER, clean_line


def preflight(chapter: int, namespace: dict) -> bool:
    """Says what a notebook still lacks; to be called in it, `preflight(4, globals())`.

    Args:
        chapter: whose exercise sheet the notebook is.
        namespace: the notebook's variables.

    Returns:
        whether everything is there. What is there need not be right.

    Raises:
        ValueError: for a chapter without exercises.
    """
    if chapter not in CHAPTERS:
        raise ValueError(f"there are no exercises for chapter {chapter!r}; there are for {numbers()}")
    answers = []
    for entry in CHAPTERS[chapter].EXERCISES:
        report = examine(entry, lambda name=entry.name: namespace.get(name))
        messages = [finding.message for finding in report.findings]
        answers.append(state(entry.number, entry.name, report.verdict, messages))
    open_answer = str(namespace.get("open_answer", "")).strip()
    return say(
        chapter,
        student=clean_line(str(namespace.get("student", ""))),
        answers=answers,
        quiz_answers=str(namespace.get("quiz_answers", "")),
        open_answer="" if open_answer == OPEN_ANSWER else open_answer,
    )


def preflight_file(file: str | Path) -> bool:
    """The same for a notebook file, which is run from top to bottom as the grader would.

    Raises:
        ValueError: when the grader could not read the file.
    """
    from .grader import look_at  # the grader is needed here alone

    result = look_at(Path(file), seeds=[0])
    if result["problem"]:
        raise ValueError(f"{file}: {result['problem']}")
    answers = [
        state(
            entry["number"],
            entry["name"],
            entry["verdict"],
            [finding["message"] for finding in entry["findings"]],
        )
        for entry in result["exercises"]
    ]
    for note in result["notes"]:
        print(f"  note     {note}")
    return say(
        result["chapter"],
        student=result["student"],
        answers=answers,
        quiz_answers=result["quiz"]["letters"],
        open_answer=result["open_answer"],
    )


def state(number: str, name: str, verdict: str | None, messages: list[str | None]) -> tuple[bool, str]:
    """Whether there is an answer to an exercise, and a line about it."""
    there = not (verdict or "").startswith(("Not yet", "The notebook does not"))
    held = f"{messages.count(None)} of {len(messages)} mechanisms hold"
    return there, f"{number} {name}: {verdict or held}"


def say(
    chapter: int, *, student: str, answers: list[tuple[bool, str]], quiz_answers: str, open_answer: str
) -> bool:
    """Prints a line for each thing that should be there; whether all are."""
    questions, words = len(QUIZZES[chapter]), len(open_answer.split())
    answered = len(quiz_answers.replace("-", "")) if len(quiz_answers) == questions else 0
    lines = [
        (bool(student), f"your name: {student}" if student else 'your name, in the cell `student = ""`'),
        *answers,
        (answered == questions, f"quiz: {answered} of {questions} questions answered"),
        (words > 0, f"open question: {words} words"),
    ]
    for there, text in lines:
        print(indented(f"{'there  ' if there else 'MISSING'}  {text}", by=2))
    missing = [text for there, text in lines if not there]
    if missing:
        print(f"{len(missing)} of {len(lines)} missing.")
    else:
        print(f"Everything is there for chapter {chapter}: save the notebook and hand it in.")
    return not missing


def numbers() -> str:
    return ", ".join(map(str, CHAPTERS))
