"""The program `bert-edu`."""

import sys

from .. import environment
from ..doctor import report

lacking = None
try:
    environment.check()
    from . import bench, doctor, finetuning, grading, pretraining  # noqa: F401 -- they add their commands
    from .program import app
except (ImportError, OSError) as error:  # in a broken environment there is no `app`
    lacking = error


def main():
    """The entry point. Where the program cannot start, it says why, and all else that the doctor finds."""
    if lacking is None:
        app(prog_name="bert-edu")
    print(f"bert-edu cannot start: {lacking}", file=sys.stderr)
    report()
    sys.exit(1)
