"""The program `bert-edu`: a function for each command, whose docstring and options are its --help.

What a command prints for further use goes to stdout, progress and complaints to stderr. Exit codes: 0 done,
1 it could not be done, 2 wrong usage, 130 interrupted by Ctrl-C.
"""

import json
import sys
import warnings
from typing import Annotated

import torch
import typer
from safetensors import SafetensorError
from tqdm import tqdm
from typer.core import TyperGroup

from .. import __version__
from ..mini import FOLDER as MINI_FOLDER
from ..training.loop import TrainingError

# Raised with a message that is meant for whoever sits at the keyboard.
EXPECTED = (ValueError, OSError, MemoryError, SafetensorError, TrainingError)


class Program(TyperGroup):
    """Turns the errors that are to be expected into one line on stderr and an exit code."""

    def invoke(self, context):
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *where, **more: complain("warning", message)
                return super().invoke(context)
        except BrokenPipeError:  # whoever read our output has seen enough
            raise
        except EXPECTED as error:
            complain("error", error)
            raise typer.Exit(1) from error
        except torch.cuda.OutOfMemoryError as error:
            complain(
                "error",
                "the GPU's memory is too small: try half the --batch-tokens, or half the --batch-size",
            )
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            complain("interrupted", "by Ctrl-C")
            raise typer.Exit(130) from error


# Plain text: "[MASK]" would be mark-up otherwise, and a narrow terminal would cut the names of options short.
PLAIN = dict(rich_markup_mode=None, no_args_is_help=True, context_settings={"max_content_width": 100})
app = typer.Typer(cls=Program, add_completion=False, pretty_exceptions_enable=False, **PLAIN)
tokenizer_app = typer.Typer(help="Make vocabularies.", **PLAIN)
finetune_app = typer.Typer(help="Train a model for a task of your own.", **PLAIN)
evaluate_app = typer.Typer(help="Measure a model.", **PLAIN)
predict_app = typer.Typer(help="Let a fine-tuned model read new text.", **PLAIN)
app.add_typer(tokenizer_app, name="tokenizer")
app.add_typer(finetune_app, name="finetune")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(predict_app, name="predict")


def _print_version(wanted: bool):
    if wanted:
        print(f"bert-edu {__version__}, PyTorch {torch.__version__}")
        raise typer.Exit()


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print versions.")
    ] = False,
):
    """BERT from the ground up: pre-train a BERT of your own, let it fill gaps, and fine-tune it for a task.

    \b
    A first run, with text that is on your machine already, on any CPU, in a few minutes:
      bert-edu pretrain --out first
      bert-edu evaluate mlm --model first --data pydocs
      bert-edu fill-mask --model first "Return a new [MASK] with the same shape."

    \b
    The model that comes with the book, fine-tuned on your own file of labelled texts, and put to use:
      bert-edu finetune classify --model mini --train train.tsv --dev dev.tsv --out reviews
      bert-edu predict classify --model reviews --data new.tsv
    """


# Options that several commands have

MINI = "mini"  # the name of the model that comes with the book
Model = Annotated[
    str,
    typer.Option(
        metavar="DIR",
        help="A folder with a model and its tokenizer, or a model hub's name; mini is the model that comes "
        "with the book (a folder of that name is ./mini).",
    ),
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="auto (a GPU if there is one), cpu, cuda, cuda:1 ...")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines to read.")]


# ---- What the commands share -------------------------------------------------------------------------------


def folder_of(name: str) -> str:
    """The folder that is meant by --model."""
    return str(MINI_FOLDER) if name == MINI else name


def show(result: dict, as_json: bool):
    """Prints results on stdout: JSON, or a line each."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:23}{value:.4f}" if isinstance(value, float) else f"{name:23}{value}")


def say(line: str):
    """A line for whoever waits, on stderr; a progress bar makes room for it."""
    tqdm.write(line, file=sys.stderr)


def complain(kind: str, message):
    say(f"bert-edu: {kind}: {' '.join(str(message).split())}")
