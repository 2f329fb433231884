"""The program `bert-edu`."""

from . import finetuning, pretraining  # noqa: F401 -- they add their commands to the program
from .program import app


def main():
    """The entry point."""
    app(prog_name="bert-edu")
