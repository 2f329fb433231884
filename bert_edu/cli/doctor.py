"""`bert-edu doctor`: is this environment fit for the book?"""

import typer

from ..doctor import report
from .program import app


@app.command("doctor")
def doctor_command():
    """Look at Python, packages, kernel, processor, GPU and folders, and say what to do about what is wrong.

    Ends with exit code 1 if something is wrong. Put its output into a report of a problem. Where something
    is missing without which no command can start, every command says what this one would.

    \b
    Examples:
      bert-edu doctor
    """
    if report():
        raise typer.Exit(1)
