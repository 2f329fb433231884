"""`bert-edu doctor`: is this environment fit for the book?"""

import typer

from .. import __version__
from ..doctor import WRONG, examination
from .program import app


@app.command("doctor")
def doctor_command():
    """Look at Python, packages, kernel, processor, GPU and folders, and say what to do about what is wrong.

    Ends with exit code 1 if something is wrong. Put its output into a report of a problem.

    \b
    Examples:
      bert-edu doctor
    """
    print(f"bert-edu {__version__}")
    wrong = 0
    for finding in examination():
        print(finding, flush=True)
        wrong += finding.state == WRONG
    if wrong:
        print(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong: see the lines above")
        raise typer.Exit(1)
    print("nothing is wrong")
