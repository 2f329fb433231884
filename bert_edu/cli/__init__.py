"""The program `bert-edu`."""

from . import bench, doctor, finetuning, grading, pretraining  # noqa: F401 -- they add their commands
from .program import app


def main():
    """The entry point."""
    app(prog_name="bert-edu")
