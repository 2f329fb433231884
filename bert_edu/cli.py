"""The program `bert-edu`: a function for each command, whose docstring and options are its --help.

What a command prints for further use goes to stdout, progress and complaints to stderr. Exit codes: 0 done,
1 it could not be done, 2 wrong usage, 130 interrupted by Ctrl-C.
"""

import json
import sys
import warnings
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from safetensors import SafetensorError
from tqdm import tqdm
from typer.core import TyperGroup

from . import __version__
from .config import PRESETS, BertConfig
from .data.corpus import DOWNLOADS, SPLITS, load
from .data.pretraining import PreTrainingBatch, TokenStore
from .data.tasks import read_squad, read_tagged, read_tsv
from .data.vocabulary import METHODS, MIN_COUNTS, train_vocabulary
from .embeddings import repeat_positions, start_from_sinusoids
from .finetuning import engine
from .finetuning.models import tokenizer_of
from .heads import BertForPreTraining
from .mini import FOLDER as MINI_FOLDER
from .pretrained import CONFIG_FILE, WEIGHTS_FILE, read_json, replacing, resolve_folder
from .tokenization import BACKEND_FILE, MASK, VOCABULARY_FILE, BertTokenizer
from .training.checkpoint import list_checkpoints
from .training.loop import METRICS_FILE, OPTIMIZERS, SCHEDULES, Recipe, TrainingError, choose_device, pretrain
from .training.metrics import evaluate_pretraining
from .training.preparation import (
    RUN_FILE,
    Joined,
    Prepared,
    held_out_batches,
    is_path,
    open_prepared,
    prepare,
    versions,
)
from .training.reproducibility import seed_everything

# Raised with a message that is meant for whoever sits at the keyboard.
EXPECTED = (ValueError, OSError, SafetensorError, TrainingError)


class Program(TyperGroup):
    """Turns the errors that are to be expected into one line on stderr and an exit code."""

    def invoke(self, context):
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *where, **more: _complain("warning", message)
                return super().invoke(context)
        except BrokenPipeError:  # whoever read our output has seen enough
            raise
        except EXPECTED as error:
            _complain("error", error)
            raise typer.Exit(1) from error
        except torch.cuda.OutOfMemoryError as error:
            _complain(
                "error",
                "the GPU's memory is too small: try half the --batch-tokens, or half the --batch-size",
            )
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            _complain("interrupted", "by Ctrl-C")
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


def main():
    """The entry point."""
    app(prog_name="bert-edu")


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

CORPUS_HELP = (
    "Text to read: pydocs (the documentation in Python and its libraries); or a file or folder of .txt, "
    ".txt.gz or .txt.xz, in which a blank line ends a document; or what is fetched once by its name: "
    + ", ".join(f"{name} ({entry.size / 1e6:.0f} MB)" for name, entry in DOWNLOADS.items())
    + ". Again for more."
)
Corpora = Annotated[list[str], typer.Option("--corpus", metavar="NAME|PATH", help=CORPUS_HELP)]
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


# ---- pretrain ----------------------------------------------------------------------------------------------

DEFAULT_SECONDS = 180.0
DEFAULT_VOCABULARY = 4096
EVALUATED_ROWS = 500  # inputs that are measured while a run goes on
# What may change when a run resumes; everything else must stay what it was.
MAY_CHANGE = {
    "max_steps",
    "max_seconds",
    "precision",
    "device",
    "checkpoint_every",
    "evaluate_every",
    "tensorboard",
}


@app.command("pretrain")
def pretrain_command(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The run's folder: model, tokenizer, metrics, checkpoints.")
    ],
    corpus: Corpora = ["pydocs"],  # noqa: B006 - typer reads it and never changes it
    valid: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Held-out text to measure on. Without it pydocs holds out a tenth, and files hold out "
            "a hundredth of their documents.",
        ),
    ] = None,
    preset: Annotated[
        Literal[tuple(PRESETS)] | None,
        typer.Option(
            help="Size of a new model: layers and width are 2 x 128, 4 x 256, 4 x 512, 8 x 512, 12 x 768, "
            "24 x 1024.",
            show_default="tiny",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Start from this model (mini: the book's), with its tokenizer, not from a new one.",
        ),
    ] = None,
    repeat_positions: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="With --init: its inputs had N tokens so far, and now they become longer; later positions "
            "begin as copies of the first N.",
        ),
    ] = None,
    vocab_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Tokens in the vocabulary that is made from the corpora, by frequency "
            "(see: bert-edu tokenizer train --help).",
            show_default=str(DEFAULT_VOCABULARY),
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="DIR", help="Use this tokenizer instead of making a vocabulary.")
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop after so many steps: can be repeated exactly."),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            metavar="S",
            help="Stop after so many seconds of training, all resumes together.",
            show_default=f"{DEFAULT_SECONDS:g}, if --max-steps is not given",
        ),
    ] = None,
    max_length: Annotated[
        int, typer.Option(min=5, metavar="N", help="The most tokens of an input (two sentences).")
    ] = Recipe.max_length,
    batch_tokens: Annotated[
        int, typer.Option(min=5, metavar="N", help="Tokens in one forward and backward pass.")
    ] = Recipe.batch_tokens,
    accumulate: Annotated[
        int, typer.Option(min=1, metavar="N", help="Such passes that make one step of the optimiser.")
    ] = Recipe.accumulate,
    learning_rate: Annotated[
        float, typer.Option(metavar="X", help="The highest one.")
    ] = Recipe.learning_rate,
    warmup: Annotated[
        float, typer.Option(metavar="X", help="Share of the run, 0 to 1, in which the learning rate rises.")
    ] = Recipe.warmup,
    schedule: Annotated[
        Literal[tuple(SCHEDULES)],
        typer.Option(help="Learning rate: up and down in a triangle, or with the jump of Google's code."),
    ] = Recipe.schedule,
    optimizer: Annotated[
        Literal[tuple(OPTIMIZERS)],
        typer.Option(help="adamw is BERT's; muon (for the layers' matrices) learns more in a short run."),
    ] = Recipe.optimizer,
    beta2: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.9999,
            metavar="X",
            help="How long AdamW remembers squared gradients; short runs do well with 0.98.",
        ),
    ] = Recipe.betas[1],
    mlm_probability: Annotated[
        float, typer.Option(metavar="X", help="Share of the tokens that are hidden and predicted, 0 to 1.")
    ] = Recipe.mlm_probability,
    whole_words: Annotated[
        bool, typer.Option("--whole-words", help="Hide whole words, not single pieces of them.")
    ] = Recipe.whole_words,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.99,
            metavar="X",
            help="Probability of dropout, in every place. BERT's is 0.1; short runs learn faster without.",
            show_default="0, or that of --init",
        ),
    ] = None,
    initializer_range: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            metavar="X",
            help="Spread of a new model's weights.",
            show_default="BERT's 0.02 at width 768, more for narrower models",
        ),
    ] = None,
    sinusoids: Annotated[
        bool,
        typer.Option("--sinusoids", help="Start a new model's position table from sines, not from chance."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides all that is random.")] = Recipe.seed,
    precision: Annotated[
        Literal["auto", "float32", "bf16", "fp16"],
        typer.Option(help="auto: bf16 where the device gains from it, fp16 on older GPUs, else float32."),
    ] = Recipe.precision,
    device: Device = Recipe.device,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Steps between two checkpoints; the last two are kept.")
    ] = Recipe.checkpoint_every,
    evaluate_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Steps between two measurements on held-out text.")
    ] = Recipe.evaluate_every,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard", help="Write the metrics for TensorBoard too (tensorboard --logdir DIR)."
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where the run in --out stopped, with its own options; begin it if there is none.",
        ),
    ] = False,
):
    """Pre-train a model: hidden words (MLM) and next sentences (NSP).

    With --out alone it trains a tiny model on pydocs for a few minutes, on whatever computes here.

    Held-out text is measured on positions that show [MASK] and nothing else. Ctrl-C stops after the running
    step and saves; --resume goes on from there, or from the last checkpoint if the program was killed. A run
    by --max-steps that was interrupted ends with the same weights, bit by bit, as one that was not.

    \b
    Examples:
      bert-edu pretrain --out first
      bert-edu pretrain --out first --resume
      bert-edu pretrain --out novels --corpus novels/ --preset mini --vocab-size 8192 --max-steps 20000
      bert-edu pretrain --out longer --init novels --corpus novels/ --max-length 512 --batch-tokens 8192 \\
          --max-steps 2000 --learning-rate 0.0003

    \b
    What the folder holds at the end:
      config.json, model.safetensors, vocab.txt ...  the model and its tokenizer, in the published format
      metrics.jsonl      a line for each step: losses, accuracies, learning rate, gradient norm, tokens/s
      run.json           the command, versions, and the fingerprint of each text
      checkpoints/, ids/ what --resume needs
    """
    options = {name: value for name, value in context.params.items() if name not in ("out", "resume")}
    resume = resume and (out / RUN_FILE).is_file()
    if resume:
        prepared = open_prepared(out)
        options = _resumed_options(context, options, prepared)
    else:
        _refuse_to_replace(out)
        _refuse_contradictions(options)
    if options["max_steps"] is None and options["max_seconds"] is None:
        options["max_seconds"] = DEFAULT_SECONDS
    chosen = {field.name: options[field.name] for field in fields(Recipe) if field.name in options}
    recipe = Recipe(betas=(Recipe.betas[0], options["beta2"]), **chosen)
    if not resume:
        prepared = _prepare_new_run(out, options)

    seed_everything(recipe.seed)
    model = _initial_model(options, len(prepared.tokenizer))
    valid_batches = _held_out(prepared, options)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    _say(f"training {parameters:,} parameters on {choose_device(recipe.device)}; Ctrl-C stops and saves")
    with _progress_bar(recipe) as progress:
        evaluation = pretrain(
            model,
            prepared.tokenizer,
            prepared.train,
            out,
            recipe,
            valid=valid_batches,
            resume=resume,
            tensorboard=options["tensorboard"],
            report=_say,
            progress=progress,
        )
    if valid_batches and not evaluation:  # it was over already
        evaluation = evaluate_pretraining(model, valid_batches, prepared.tokenizer)
    _show({"model": str(out)} | evaluation | {"vocab_size": len(prepared.tokenizer)}, as_json=False)


def _resumed_options(context: typer.Context, options: dict, prepared: Prepared) -> dict:
    """The options that the run was started with, and of those given now what may change."""
    started = options | prepared.record["options"]  # an option that is newer than the run has its default
    given = {name for name in options if context.get_parameter_source(name).name == "COMMANDLINE"}
    for name in given - MAY_CHANGE:
        if options[name] != started[name]:
            raise ValueError(
                f"this run was started with {_option(name)} {_written(started[name])}, and with "
                f"{_written(options[name])} it would be another run: leave the option out, or begin anew in "
                f"another folder"
            )
    if given & {"max_steps", "max_seconds"}:
        started = started | {"max_steps": None, "max_seconds": None}
    return started | {name: options[name] for name in given}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _written(value) -> str:
    return ", ".join(value) if isinstance(value, list) else "its default" if value is None else str(value)


def _refuse_to_replace(out: Path):
    """Raises when the folder holds what a new run would write over; what is only prepared may go."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")
    if (out / METRICS_FILE).exists() or list_checkpoints(out):
        raise ValueError(f"{out} holds a run already: go on with it (--resume), or name another folder")
    for file in (WEIGHTS_FILE, VOCABULARY_FILE):
        if (out / file).exists() and not (out / RUN_FILE).exists():
            raise ValueError(f"{out} holds a {file} that a new run would replace: name another folder")


def _refuse_contradictions(options: dict):
    """Raises for what cannot be meant, before any work is done."""
    if options["max_steps"] is not None and options["max_seconds"] is not None:
        raise ValueError("give --max-steps or --max-seconds, not both")
    if options["tokenizer"] is not None and options["vocab_size"] is not None:
        raise ValueError("give --vocab-size to make a vocabulary, or --tokenizer to use one; not both")
    for name in ("preset", "vocab_size", "initializer_range", "sinusoids"):
        if options["init"] is not None and options[name] not in (None, False):
            raise ValueError(f"{_option(name)} is for a new model, and --init starts from one that is there")
    if options["repeat_positions"] is not None and options["init"] is None:
        raise ValueError("--repeat-positions is for a model that is there: give --init too")
    choose_device(options["device"])


def _prepare_new_run(out: Path, options: dict) -> Prepared:
    """Makes the folder ready, with the tokenizer that the options ask for."""
    tokenizer = None
    if options["tokenizer"] is not None:
        tokenizer = BertTokenizer.from_pretrained(options["tokenizer"])
    if options["init"] is not None:
        network, own = _load_model(options["init"])
        if tokenizer is not None and tokenizer.vocab != own.vocab:
            raise ValueError(
                f"the vocabulary of --tokenizer {options['tokenizer']} is not that of --init "
                f"{options['init']}: leave --tokenizer out, and the model keeps its own"
            )
        tokenizer = own
        _check_length(options["max_length"], network)
    return prepare(
        out,
        options["corpus"],
        valid=options["valid"],
        tokenizer=tokenizer,
        vocab_size=options["vocab_size"] or DEFAULT_VOCABULARY,
        record={"command": ["bert-edu", *sys.argv[1:]], "options": options},
        report=_say,
    )


def _held_out(prepared: Prepared, options: dict) -> list[PreTrainingBatch] | None:
    """The batches to measure on; None when a part that was held out by itself is too small for that."""
    if prepared.valid is None:
        return None
    try:
        return held_out_batches(
            prepared.valid, prepared.tokenizer, max_length=options["max_length"], rows=EVALUATED_ROWS
        )
    except ValueError as error:
        if options["valid"] is not None:
            raise
        _say(f"nothing is measured on held-out text: {error}")
        return None


def _initial_model(options: dict, vocab_size: int) -> BertForPreTraining:
    """A new model, or that of --init, as it is before the first step."""
    dropout = options["dropout"]
    if options["init"] is not None:
        model = BertForPreTraining.from_pretrained(_folder_of(options["init"]))
        if options["repeat_positions"] is not None:
            repeat_positions(model.bert.embeddings, options["repeat_positions"])
        if dropout is None:
            return model
        config = replace(model.config, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
        with_dropout = BertForPreTraining(config)
        with_dropout.load_state_dict(model.state_dict())
        return with_dropout
    config = BertConfig.preset(
        options["preset"] or "tiny",
        vocab_size=vocab_size,
        hidden_dropout_prob=dropout or 0.0,
        attention_probs_dropout_prob=dropout or 0.0,
        max_position_embeddings=max(512, options["max_length"]),
    )
    # The spread that keeps a layer's output about as large as its input shrinks with the root of the width.
    spread = options["initializer_range"] or round(0.02 * (768 / config.hidden_size) ** 0.5, 4)
    config = replace(config, initializer_range=spread)
    model = BertForPreTraining(config)
    if options["sinusoids"]:
        start_from_sinusoids(model.bert.embeddings, spread)
    return model


@contextmanager
def _progress_bar(recipe: Recipe):
    """Gives what `pretrain` calls after every step; it draws a bar on a terminal and nothing elsewhere."""
    by_steps = recipe.max_steps is not None
    total = recipe.max_steps if by_steps else round(recipe.max_seconds)
    unit = "steps" if by_steps else "s"
    form = f"{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}} {unit}, {{remaining}} left"
    # disable=None: where stderr is no terminal
    with tqdm(total=total, bar_format=form, disable=None, leave=False) as bar:

        def progress(steps: int, seconds: float):
            bar.update(min(steps if by_steps else int(seconds), total) - bar.n)

        yield progress


# ---- finetune ----------------------------------------------------------------------------------------------

TASK_LENGTHS = {"classify": 128, "tag": 128, "qa": 384}  # tokens of an input, unless the model takes fewer
RESULT_FILE, SCORES_FILE = "result.json", "scores.json"

TEXTS_HELP = (
    "a table with tabs between its columns (TSV) and a header: sentence and label; for pairs of texts "
    "sentence1, sentence2 and label. Labels with a decimal point are numbers to predict (regression), all "
    "others names of classes"
)
TAGS_HELP = "CoNLL-U (its column upos), or a word and its tag a line with a blank line after each sentence"
QUESTIONS_HELP = "SQuAD's JSON, version 1.1, or 2.0 with questions that the text does not answer"


def _file(help_text: str, required: str):
    return Annotated[Path, typer.Option(metavar="FILE", help=f"{required}: {help_text}.")]


NewFolder = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="A new or empty folder for the best model, scores.json, and seed-N/ of each run."
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="How often each example is seen; the model of the best one is kept.",
        show_default=f"{engine.Recipe.epochs}, or {engine.HEAD_ALONE['epochs']} with --frozen",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Examples in a step.")]
LearningRate = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="The highest one; large models want about a tenth of what small ones do.",
        show_default=f"{engine.Recipe.learning_rate}, or {engine.HEAD_ALONE['learning_rate']} with --frozen",
    ),
]


def _length(task: str):
    default = f"{TASK_LENGTHS[task]}, or what the model takes"
    help_text = {
        "classify": "The most tokens of an input; what is longer is cut off.",
        "tag": "The most tokens of an input; longer sentences are read in parts.",
        "qa": "The most tokens of an input; longer texts are read in windows that overlap.",
    }
    return Annotated[int | None, typer.Option(min=5, metavar="N", help=help_text[task], show_default=default)]


Frozen = Annotated[
    bool,
    typer.Option(
        "--frozen", help="Train the head alone, on an encoder that stays as it is. It is computed only once."
    ),
]
LayerDecay = Annotated[
    float,
    typer.Option(metavar="X", help="Each layer learns X times as fast as the one above it; 1 is all alike."),
]
Dropout = Annotated[
    float,
    typer.Option(
        min=0.0, max=0.99, metavar="X", help="Probability of dropout, however the model was pre-trained."
    ),
]
Seeds = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Train N times, with seeds that count up; prints the mean and the spread."
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="The first seed: it decides the head's first weights, order, and dropout."
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bf16", "fp16"],
    typer.Option(help="auto: bf16 where the device gains from it, fp16 on older GPUs, else float32."),
]
MaxSteps = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Stop after so many steps, though the epochs are not over."),
]
InitRandom = Annotated[
    bool,
    typer.Option(
        "--init-random",
        help="Forget the pre-trained weights: an encoder of the same shape, as a control.",
    ),
]


@finetune_app.command("classify")
def finetune_classify(
    context: typer.Context,
    model: Model,
    train: _file(TEXTS_HELP, "Texts to learn from"),
    dev: _file("as --train", "Other texts, to measure on after every epoch"),
    out: NewFolder,
    epochs: Epochs = None,
    batch_size: BatchSize = engine.Recipe.batch_size,
    learning_rate: LearningRate = None,
    max_length: _length("classify") = None,
    frozen: Frozen = False,
    layer_decay: LayerDecay = engine.Recipe.layer_decay,
    class_weights: Annotated[
        bool,
        typer.Option("--class-weights", help="Let rare classes weigh as much in training as frequent ones."),
    ] = False,
    dropout: Dropout = engine.Recipe.dropout,
    seeds: Seeds = 1,
    seed: Seed = engine.Recipe.seed,
    precision: Precision = engine.Recipe.precision,
    device: Device = engine.Recipe.device,
    max_steps: MaxSteps = None,
    init_random: InitRandom = False,
):
    """Train a model to give texts, or pairs of texts, a class or a number.

    It prints what the simplest methods reach (the most frequent class; a linear model of words), then the
    scores of each run at its best epoch, then their mean and standard deviation. accuracy is the share of
    right classes, macro_f1 the mean of the classes' F1; for numbers pearson and spearman are correlations.

    \b
    Examples:
      bert-edu finetune classify --model mini --train train.tsv --dev dev.tsv --out reviews --seeds 3
      bert-edu finetune classify --model mini --train train.tsv --dev dev.tsv --out frozen --frozen
      bert-edu finetune classify --model mini --train train.tsv --dev dev.tsv --out control --init-random

    \b
    What the folder holds at the end:
      config.json, model.safetensors, vocab.txt ...  the best run's model, for evaluate and predict
      result.json   of each score the mean, the standard deviation sd, and the value of each seed
      scores.json   the same with the baselines, each epoch of each run, the recipe, command and versions
      seed-0/ ...   each run's model, metrics.jsonl (a line an epoch) and recipe.json
    """
    _finetune("classify", context.params)


@finetune_app.command("tag")
def finetune_tag(
    context: typer.Context,
    model: Model,
    train: _file(TAGS_HELP, "Sentences to learn from"),
    dev: _file("as --train", "Other sentences, to measure on after every epoch"),
    out: NewFolder,
    epochs: Epochs = None,
    batch_size: BatchSize = engine.Recipe.batch_size,
    learning_rate: LearningRate = None,
    max_length: _length("tag") = None,
    frozen: Frozen = False,
    layer_decay: LayerDecay = engine.Recipe.layer_decay,
    dropout: Dropout = engine.Recipe.dropout,
    seeds: Seeds = 1,
    seed: Seed = engine.Recipe.seed,
    precision: Precision = engine.Recipe.precision,
    device: Device = engine.Recipe.device,
    max_steps: MaxSteps = None,
    init_random: InitRandom = False,
):
    """Train a model to give each word of a sentence a tag: a part of speech, or a name's B-, I- and O.

    It prints what each word's most frequent tag reaches, then the scores of each run at its best epoch, then
    their mean and standard deviation. accuracy is the share of right words. f1 is that of whole names where
    all tags are B-type, I-type or O; for other tags it is the mean of the tags' F1.

    \b
    Examples:
      bert-edu finetune tag --model mini --train train.conllu --dev dev.conllu --out tagger --seeds 3
      bert-edu finetune tag --model mini --train names-train.txt --dev names-dev.txt --out names --epochs 8

    The folder holds the same files as that of: bert-edu finetune classify --help
    """
    _finetune("tag", context.params)


@finetune_app.command("qa")
def finetune_qa(
    context: typer.Context,
    model: Model,
    train: _file(QUESTIONS_HELP, "Questions to learn from"),
    dev: _file("as --train", "Other questions, to measure on after every epoch"),
    out: NewFolder,
    epochs: Epochs = None,
    batch_size: BatchSize = engine.Recipe.batch_size,
    learning_rate: LearningRate = None,
    max_length: _length("qa") = None,
    stride: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens from a window's beginning to that of the next.")
    ] = 128,
    frozen: Frozen = False,
    layer_decay: LayerDecay = engine.Recipe.layer_decay,
    dropout: Dropout = engine.Recipe.dropout,
    seeds: Seeds = 1,
    seed: Seed = engine.Recipe.seed,
    precision: Precision = engine.Recipe.precision,
    device: Device = engine.Recipe.device,
    max_steps: MaxSteps = None,
    init_random: InitRandom = False,
):
    """Train a model to find the answers to questions in texts, or to say that there is none.

    It prints what a whole sentence as the answer reaches (the first one; the one with most of the question's
    words), then the scores of each run at its best epoch, then their mean and standard deviation. exact_match
    is the share of answers that are right to the letter, f1 counts the words that are shared with the right
    answer; both by SQuAD's official rules.

    \b
    Examples:
      bert-edu finetune qa --model mini --train train-v1.1.json --dev dev-v1.1.json --out answers
      bert-edu finetune qa --model mini --train train-v2.0.json --dev dev-v2.0.json --out answers --seeds 3

    The folder holds the same files as that of: bert-edu finetune classify --help
    """
    _finetune("qa", context.params)


def _finetune(name: str, options: dict):
    """What the three commands do."""
    folder, out = _folder_of(options["model"]), options["out"]
    engine.refuse_to_write_over(out)
    recipe = _fine_tuning_recipe(options)
    choose_device(recipe.device)
    tokenizer = tokenizer_of(folder)
    train = _read(name, options["train"])
    settings = {"max_length": options["max_length"] or min(TASK_LENGTHS[name], _positions(folder))}
    settings |= {"balanced": options["class_weights"]} if name == "classify" else {}
    settings |= {"stride": options["stride"]} if name == "qa" else {}
    task = _task_class(name).of(tokenizer, train, **settings)
    dev = _read(name, options["dev"], task)
    _say(f"{len(train):,} examples to learn from, {len(dev):,} to measure on")

    from .finetuning.baselines import baselines  # scikit-learn is slow to import, and most commands need none

    simple = {}
    for baseline in baselines(train, dev):
        simple[baseline.name] = baseline.scores
        _show_scores(baseline.name, baseline.scores)
    with _bar_of_steps() as progress:
        found = engine.several_seeds(
            task,
            folder,
            train,
            dev,
            recipe,
            options["seeds"],
            out=out,
            report=_say,
            progress=progress,
            after_each=lambda run: _show_scores(f"seed {run['seed']}", run["scores"]),
        )
    if options["seeds"] > 1:
        spread = [f"{name} {mean:.4f} +- {found.sd[name]:.4f}" for name, mean in found.mean.items()]
        print(f"{'mean +- sd':23}{'  '.join(spread)}")
    print(f"{'model':23}{out}")
    _write_scores(name, options, task, found, simple)


def _fine_tuning_recipe(options: dict) -> engine.Recipe:
    """The recipe that the options ask for; a head alone has defaults of its own."""
    names = [field.name for field in fields(engine.Recipe) if field.name in options]
    chosen = {name: options[name] for name in names}
    usual = engine.HEAD_ALONE if options["frozen"] else {}
    for name in ("epochs", "learning_rate"):
        if chosen[name] is None:
            chosen[name] = usual.get(name, getattr(engine.Recipe, name))
    return engine.Recipe(**chosen)


def _write_scores(name: str, options: dict, task: engine.Task, found: engine.SeveralSeeds, simple: dict):
    """result.json, short, and scores.json, with all that is needed to judge it and to do it again."""
    result = {
        score: {"mean": mean, "sd": found.sd[score], "values": [run["scores"][score] for run in found.runs]}
        for score, mean in found.mean.items()
    }
    record = {
        "task": name,
        "main_metric": task.main_metric,
        "scores": result,
        "baselines": simple,
        "best_seed": found.best_seed,
        "runs": found.runs,
        "recipe": asdict(found.recipe),
        "max_length": task.max_length,
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in options.items()},
        "command": ["bert-edu", *sys.argv[1:]],
        "versions": versions() | {"scikit-learn": metadata.version("scikit-learn")},
    }
    for file, content in ((RESULT_FILE, result), (SCORES_FILE, record)):
        with replacing(options["out"] / file) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _bar_of_steps():
    """Gives what `finetune` calls after every step; it draws a bar on a terminal and nothing elsewhere."""
    form = "{l_bar}{bar}| {n_fmt}/{total_fmt} steps, {remaining} left"
    with tqdm(total=1, bar_format=form, disable=None, leave=False) as bar:

        def progress(done: int, total: int):
            if done < bar.n:  # the next seed
                bar.reset()
            bar.total = total
            bar.update(done - bar.n)

        yield progress


# ---- tokenizer ---------------------------------------------------------------------------------------------


@tokenizer_app.command("train")
def train_tokenizer(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write vocab.txt, tokenizer.json ...")],
    corpus: Corpora = ["pydocs"],  # noqa: B006
    vocab_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many tokens; a small text may give fewer.")
    ] = DEFAULT_VOCABULARY,
    method: Annotated[
        Literal[METHODS],
        typer.Option(help="Which pair of pieces to merge next: the most frequent, or the best by score."),
    ] = METHODS[0],
    min_count: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Never merge pairs that occur less often.",
            show_default=", ".join(f"{count} by {name}" for name, count in MIN_COUNTS.items()),
        ),
    ] = None,
):
    """Make a lower-case WordPiece vocabulary from text (the training split of pydocs, files as a whole).

    By frequency, with the `tokenizers` library, common words soon are tokens of their own; it takes a second
    or two a megabyte, and `bert-edu pretrain` does the same. By score (merge-score), with the book's own code
    of chapter 2, pieces are merged that seldom occur apart; it is several times as slow.

    \b
    Examples:
      bert-edu tokenizer train --out words
      bert-edu tokenizer train --out words --corpus novels.txt --vocab-size 8192 --method merge-score
    """
    if (out / VOCABULARY_FILE).exists() or (out / BACKEND_FILE).exists():
        raise ValueError(f"{out} holds a tokenizer already: name another folder")
    texts = [load(name, "all" if is_path(name) else "train") for name in corpus]
    documents = Joined(texts)
    made = BertTokenizer(train_vocabulary(documents, vocab_size, method, min_count))
    made.save_pretrained(out)
    _show({"tokenizer": str(out), "vocab_size": len(made), "method": method}, as_json=False)


# ---- evaluate ----------------------------------------------------------------------------------------------


@evaluate_app.command("mlm")
def evaluate_mlm(
    model: Model,
    data: Annotated[str, typer.Option(metavar="NAME|PATH", help="A corpus, as pretrain's --corpus.")],
    split: Annotated[
        Literal[SPLITS] | None,
        typer.Option(help="Which documents.", show_default="all of a file or folder, valid of pydocs"),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=5, metavar="N", help="The most tokens of an input.", show_default="as in training, or 128"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides which words are hidden.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
):
    """Measure how well a model fills gaps: 15 % of the tokens are hidden, each behind a [MASK].

    \b
    mask_accuracy       share of hidden tokens that the model names first
    mlm_loss            surprise at the hidden tokens, in nats a token; perplexity is e to that power
    bits_per_character  the same per character, to compare models with different vocabularies
    nsp_accuracy        share of pairs for which it tells a next sentence from a random one; more than half
                        of them are random, so nsp_balanced_accuracy weighs both kinds alike (guessing: 0.5)
    scored              hidden tokens that this rests on

    \b
    Examples:
      bert-edu evaluate mlm --model first --data pydocs
      bert-edu evaluate mlm --model first --data article.txt --json
    """
    network, tokenizer = _load_model(model)
    network.to(choose_device(device))
    if max_length is None:
        max_length = min(_length_in_training(model), network.config.max_position_embeddings)
    _check_length(max_length, network)
    text = load(data, split or ("all" if is_path(data) else "valid"))
    store = TokenStore.build(text, tokenizer)
    batches = held_out_batches(store, tokenizer, max_length=max_length, seed=seed)
    measured = evaluate_pretraining(network, batches, tokenizer)
    if any(name.startswith("cls.seq_relationship") for name in network.load_report.missing):
        measured |= {"nsp_accuracy": None, "nsp_balanced_accuracy": None}
    about_text = {"data": text.name, "split": text.split, "fingerprint": text.fingerprint()}
    _show(
        measured | {"vocab_size": len(tokenizer), "max_length": max_length} | about_text,
        as_json,
    )


def _length_in_training(folder: str) -> int:
    run = Path(folder) / RUN_FILE
    return read_json(run)["options"]["max_length"] if run.is_file() else 128


FineTuned = Annotated[
    str, typer.Option(metavar="DIR", help="A folder that bert-edu finetune made, or one like it.")
]


@evaluate_app.command("classify")
def evaluate_classify(
    model: FineTuned,
    data: _file(TEXTS_HELP, "Texts to measure on"),
    device: Device = "auto",
    as_json: AsJson = False,
):
    """Measure how well a fine-tuned model classifies texts, or predicts numbers.

    \b
    accuracy, macro_f1  share of right classes; mean of the classes' F1
    pearson, spearman   instead of them for numbers: correlation with the right ones, and of the ranks

    \b
    Example:
      bert-edu evaluate classify --model reviews --data test.tsv
    """
    _evaluate("classify", model, data, device, as_json)


@evaluate_app.command("tag")
def evaluate_tag(
    model: FineTuned,
    data: _file(TAGS_HELP, "Sentences to measure on"),
    device: Device = "auto",
    as_json: AsJson = False,
):
    """Measure how well a fine-tuned model tags words.

    \b
    accuracy  share of words with the right tag
    f1        of whole names where tags are B-type, I-type and O; else the mean of the tags' F1

    \b
    Example:
      bert-edu evaluate tag --model tagger --data test.conllu
    """
    _evaluate("tag", model, data, device, as_json)


@evaluate_app.command("qa")
def evaluate_qa(
    model: FineTuned,
    data: _file(QUESTIONS_HELP, "Questions to measure on"),
    device: Device = "auto",
    as_json: AsJson = False,
):
    """Measure how well a fine-tuned model answers questions, by SQuAD's official rules.

    \b
    exact_match  share of answers that are right to the letter, but for case, punctuation and articles
    f1           mean overlap of words with the right answer

    \b
    Example:
      bert-edu evaluate qa --model answers --data dev-v1.1.json
    """
    _evaluate("qa", model, data, device, as_json)


def _evaluate(name: str, model: str, data: Path, device: str, as_json: bool):
    """What these three commands do."""
    choose_device(device)
    task, network = _task_class(name).load(_folder_of(model))
    examples = _read(name, data, task)
    scores = engine.evaluate(task, network, examples, device=device)
    _show(scores | {"examples": len(examples), "data": str(data)}, as_json)


# ---- predict -----------------------------------------------------------------------------------------------

NewFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A new file to write to.", show_default="what you see on the screen"),
]


@predict_app.command("classify")
def predict_classify(
    model: FineTuned,
    data: _file("as for finetune classify; labels are not needed, and not looked at", "Texts"),
    out: NewFile = None,
    device: Device = "auto",
):
    """Print the class of each text with the probabilities of all, or its number: a line of JSON each.

    \b
    Examples:
      bert-edu predict classify --model reviews --data new.tsv
      bert-edu predict classify --model reviews --data new.tsv --out predictions.jsonl
    """
    _predict("classify", model, data, out, device)


@predict_app.command("tag")
def predict_tag(
    model: FineTuned,
    data: _file("as for finetune tag; tags are not needed, and not looked at", "Sentences"),
    out: NewFile = None,
    device: Device = "auto",
):
    """Print each sentence's words, their tags, and how probable each tag is: a line of JSON each.

    A word of which the tokenizer leaves nothing, such as a control character, gets the most frequent tag and
    no probability.

    \b
    Example:
      bert-edu predict tag --model tagger --data new.txt --out tagged.jsonl
    """
    _predict("tag", model, data, out, device)


@predict_app.command("qa")
def predict_qa(
    model: FineTuned,
    data: _file("as for finetune qa; answers are not needed, and not looked at", "Questions"),
    out: NewFile = None,
    device: Device = "auto",
):
    """Print the answer to each question, where it stands, and the next best ones: a line of JSON each.

    \b
    Example:
      bert-edu predict qa --model answers --data questions.json --out answers.jsonl
    """
    _predict("qa", model, data, out, device)


def _predict(name: str, model: str, data: Path, out: Path | None, device: str):
    """What these three commands do."""
    if out is not None and out.exists():
        raise ValueError(f"{out} is there already, and nothing is written over: name another file")
    choose_device(device)
    task, network = _task_class(name).load(_folder_of(model))
    examples = _unlabelled(name, data)
    found = engine.predict(task, network, examples, device=device)
    lines = [json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in found]
    if out is None:
        print("".join(lines), end="")
        return
    with out.open("x", encoding="utf-8") as file:
        file.writelines(lines)
    _say(f"{len(lines):,} predictions are in {out}")


# ---- fill-mask ---------------------------------------------------------------------------------------------


@app.command("fill-mask")
def fill_mask(
    model: Model,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A text with at least one [MASK], in quotes.")],
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many words to print for a gap.")] = 5,
    device: Device = "auto",
    as_json: AsJson = False,
):
    """Print the words that a model expects in each gap of a text, with their probabilities.

    \b
    Examples:
      bert-edu fill-mask --model first "Return a new [MASK] with the same shape."
      bert-edu fill-mask --model first "The [MASK] of the [MASK] is returned." --top 3 --json
    """
    place = choose_device(device)
    network, tokenizer = _load_model(model)
    network.to(place)
    encoding = tokenizer(text)
    gaps = [at for at, number in enumerate(encoding.input_ids) if number == tokenizer.mask_token_id]
    if not gaps:
        raise ValueError(
            f'there is no {MASK} in the text: write one where a word is to be filled in, "a {MASK} b"'
        )
    positions = network.config.max_position_embeddings
    if len(encoding.input_ids) > positions:
        raise ValueError(
            f"the text has {len(encoding.input_ids)} tokens, and the model {positions} positions"
        )
    with torch.inference_mode():
        logits = network(torch.tensor([encoding.input_ids], device=place)).prediction_logits  # (1, T, V)
    probabilities, numbers = logits[0, gaps].float().softmax(-1).topk(min(top, len(tokenizer)))  # (gaps, top)
    filled = [
        [
            {"token": tokenizer.id_to_token(number), "probability": probability}
            for number, probability in zip(*row)
        ]
        for row in zip(numbers.tolist(), probabilities.tolist())
    ]
    if as_json:
        print(json.dumps({"text": text, "masks": filled}, indent=2, ensure_ascii=False))
        return
    for number, candidates in enumerate(filled, start=1):
        if len(filled) > 1:
            print(f"{MASK} {number}")
        for candidate in candidates:
            print(f"{candidate['probability']:7.1%}  {candidate['token']}")


# ---- What the commands share -------------------------------------------------------------------------------


def _load_model(folder: str) -> tuple[BertForPreTraining, BertTokenizer]:
    """A pre-trained model with its tokenizer, ready to predict words."""
    folder = _folder_of(folder)
    if (Path(folder) / RUN_FILE).is_file() and not (Path(folder) / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(
            f"the run in {folder} has not come to its end: bert-edu pretrain --out {folder} --resume"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is missing is looked at here
        network = BertForPreTraining.from_pretrained(folder)
    tokenizer = BertTokenizer.from_pretrained(folder)
    if len(tokenizer) != network.config.vocab_size:
        raise ValueError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens and the model there "
            f"{network.config.vocab_size}: one of them is from somewhere else"
        )
    if any(name.startswith("cls.predictions") for name in network.load_report.missing):
        raise ValueError(f"the model in {folder} has no head for masked words: it was not stored with one")
    return network, tokenizer


def _folder_of(name: str) -> str:
    """The folder that is meant by --model."""
    return str(MINI_FOLDER) if name == MINI else name


def _check_length(max_length: int, network: BertForPreTraining):
    positions = network.config.max_position_embeddings
    if max_length > positions:
        raise ValueError(f"--max-length is {max_length}, but the model has {positions} positions")


def _task_class(name: str) -> type[engine.Task]:
    """The class of a command's task; imported when it is wanted, because scikit-learn is slow to import."""
    if name == "classify":
        from .finetuning.classification import Classification as Wanted
    elif name == "tag":
        from .finetuning.tagging import Tagging as Wanted
    else:
        from .finetuning.question_answering import QuestionAnswering as Wanted
    return Wanted


def _read(name: str, path: Path, task: engine.Task | None = None) -> list:
    """The labelled examples in a file; with a task, only labels that it knows."""
    if name == "qa":
        return read_squad(path, labelled=True, report=_say)
    if name == "tag":
        sentences = read_tagged(path, labelled=True)
        if task is not None:
            with _about(path):
                task.features(sentences)
        return sentences
    texts = read_tsv(path, labelled=True, regression=None if task is None else task.is_regression)
    if task is not None and not task.is_regression:
        for line, example in enumerate(texts, start=2):
            if example.label not in task.label_names:
                raise ValueError(
                    f"{path}, line {line}: the label {example.label!r} never occurred in training; there "
                    f"it was one of {', '.join(task.label_names)}"
                )
    return texts


def _unlabelled(name: str, path: Path) -> list:
    """The examples in a file, without their labels."""
    if name == "qa":
        examples = read_squad(path, report=_say)
        return [example._replace(answers=[], labelled=False) for example in examples]
    if name == "tag":
        return [sentence._replace(tags=None) for sentence in read_tagged(path)]
    return [example._replace(label=None) for example in read_tsv(path, regression=False)]


@contextmanager
def _about(path: Path):
    """Says in an error's message which file it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _positions(folder: str) -> int:
    """How many tokens the model in a folder takes."""
    file = resolve_folder(folder, [CONFIG_FILE]) / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG_FILE}: it holds no model")
    return BertConfig.from_json(file).max_position_embeddings


def _show_scores(name: str, scores: dict[str, float]):
    """A line of scores on stdout."""
    print(f"{name:23}{engine.shown(scores)}", flush=True)


def _show(result: dict, as_json: bool):
    """Prints results on stdout: JSON, or a line each."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:23}{value:.4f}" if isinstance(value, float) else f"{name:23}{value}")


def _say(line: str):
    """A line for whoever waits, on stderr; a progress bar makes room for it."""
    tqdm.write(line, file=sys.stderr)


def _complain(kind: str, message):
    _say(f"bert-edu: {kind}: {' '.join(str(message).split())}")
