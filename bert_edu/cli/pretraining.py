"""pretrain, tokenizer, evaluate mlm, fill-mask: from raw text to a model that fills gaps (chapters 2, 11)."""

import json
import os
import sys
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from tqdm import tqdm

from ..config import PRESETS, BertConfig
from ..data.corpus import DOWNLOADS, SPLITS, load
from ..data.pretraining import PreTrainingBatch, TokenStore
from ..data.vocabulary import METHODS, MIN_COUNTS, train_vocabulary
from ..embeddings import repeat_positions, start_from_sinusoids
from ..heads import BertForPreTraining
from ..pretrained import WEIGHTS_FILE, read_json
from ..tokenization import BACKEND_FILE, MASK, VOCABULARY_FILE, BertTokenizer
from ..training import distributed, started
from ..training.checkpoint import list_checkpoints
from ..training.loop import (
    METRICS_FILE,
    OPTIMIZERS,
    SCHEDULES,
    Recipe,
    TrainingError,
    choose_device,
    pretrain,
)
from ..training.metrics import evaluate_pretraining
from ..training.preparation import (
    RUN_FILE,
    Joined,
    Prepared,
    held_out_batches,
    is_path,
    open_prepared,
    prepare,
)
from ..training.reproducibility import seed_everything
from .program import AsJson, Device, Model, app, evaluate_app, folder_of, say, show, tokenizer_app

CORPUS_HELP = (
    "Text to read: pydocs (the documentation in Python and its libraries); or a file or folder of .txt, "
    ".txt.gz or .txt.xz, in which a blank line ends a document; or what is fetched once by its name: "
    + ", ".join(f"{name} ({entry.size / 1e6:.0f} MB)" for name, entry in DOWNLOADS.items())
    + ". Again for more."
)
Corpora = Annotated[list[str], typer.Option("--corpus", metavar="NAME|PATH", help=CORPUS_HELP)]


# ---- pretrain ----------------------------------------------------------------------------------------------

DEFAULT_SECONDS = 180.0
DEFAULT_VOCABULARY = 4096
EVALUATED_ROWS = 500  # inputs that are measured while a run goes on
MAY_CHANGE = started.MAY_CHANGE | {"tensorboard"}  # when a run resumes


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
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Such passes that make one step of the optimiser, over all processes.",
            show_default="1, or one for each shard",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Parts that the text is dealt into, so that up to N processes can share it (torchrun).",
            show_default="as many as there are processes",
        ),
    ] = None,
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
    workers: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Other processes that make the batches; for a fast GPU."),
    ] = Recipe.workers,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the model: a minute at the start, then faster on a GPU. All batches get one shape.",
        ),
    ] = Recipe.compile,
    checkpointing: Annotated[
        bool,
        typer.Option(
            "--checkpointing",
            help="Less memory for a third more work: part of a step is computed twice instead of being kept.",
        ),
    ] = Recipe.checkpointing,
    shard_model: Annotated[
        bool,
        typer.Option(
            "--shard-model",
            help="Under torchrun, split the model among the processes, when it does not fit one device. "
            "Slower, since each layer is fetched when its turn comes.",
        ),
    ] = Recipe.shard_model,
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

    Several GPUs or machines share a run under PyTorch's torchrun; --batch-tokens times --accumulate is a step
    of all of them together. A process that dies ends the others; with --max-restarts N and --resume they
    start again from the last checkpoint. One that only stalls is given up after 10 minutes. Each process
    holds the whole model, or with --shard-model a part of it.

    \b
    Examples:
      bert-edu pretrain --out first
      bert-edu pretrain --out first --resume
      bert-edu pretrain --out novels --corpus novels/ --preset mini --vocab-size 8192 --max-steps 20000
      bert-edu pretrain --out longer --init novels --corpus novels/ --max-length 512 --batch-tokens 8192 \\
          --max-steps 2000 --learning-rate 0.0003
      torchrun --nproc-per-node 8 --max-restarts 3 -m bert_edu pretrain --out large --resume \\
          --corpus novels/ --preset base --shards 16 --batch-tokens 8192 --max-steps 20000
      torchrun --nproc-per-node 2 -m bert_edu pretrain --out split --preset large --shard-model

    \b
    What the folder holds at the end:
      config.json, model.safetensors, vocab.txt ...  the model and its tokenizer, in the published format
      metrics.jsonl      a line for each step: losses, accuracies, learning rate, gradient norm, tokens/s
      run.json           the command, versions, and the fingerprint of each text
      checkpoints/, ids/ what --resume needs
    """
    options = {name: value for name, value in context.params.items() if name not in ("out", "resume")}
    with distributed.together(device):
        _pretrain(context, out, options, resume)


def _pretrain(context: typer.Context, out: Path, options: dict, resume: bool):
    """What each process does; under `torchrun` the first one alone reads the text, writes and speaks."""
    resume, options, recipe = distributed.once(lambda: _begin(context, out, options, resume))
    with distributed.all_or_none():
        if not (out / RUN_FILE).is_file():
            raise FileNotFoundError(
                f"process {distributed.rank()} sees no {RUN_FILE} in {out}, where process 0 wrote it: all "
                f"machines must see the same folder"
            )
        prepared = open_prepared(out)
    seed_everything(recipe.seed)
    model = _initial_model(options, len(prepared.tokenizer))
    first = distributed.is_first()
    valid_batches = _held_out(prepared, options) if first else None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    place, count = choose_device(recipe.device), distributed.world_size()
    if first:
        where = f"{place}, in {count} processes" if count > 1 else f"{place}"
        say(f"training {parameters:,} parameters on {where}; Ctrl-C stops and saves")
    try:
        with _progress_bar(recipe) if first else nullcontext() as progress:
            evaluation = pretrain(
                model,
                prepared.tokenizer,
                prepared.train,
                out,
                recipe,
                valid=valid_batches,
                resume=resume,
                tensorboard=options["tensorboard"] and first,
                report=say if first else lambda line: None,
                progress=progress,
            )
    except TrainingError:  # the same in all processes
        if first:
            raise
        distributed.leave_the_word()
    if not first:
        return
    if valid_batches and not evaluation:  # it was over already
        trained = BertForPreTraining.from_pretrained(out)  # a process may have had only a part of it
        evaluation = evaluate_pretraining(trained, valid_batches, prepared.tokenizer)
    show({"model": str(out)} | evaluation | {"vocab_size": len(prepared.tokenizer)}, as_json=False)


def _begin(context: typer.Context, out: Path, options: dict, resume: bool) -> tuple[bool, dict, Recipe]:
    """Makes the folder ready, and says whether a run is to be resumed, with which options and recipe."""
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0 and not resume:
        raise ValueError(
            "torchrun --max-restarts needs --resume, with which processes that start again go on from the "
            "last checkpoint"
        )
    resume = resume and (out / RUN_FILE).is_file()
    if resume:
        options = _resumed_options(context, options, open_prepared(out))
    else:
        _refuse_to_replace(out)
        _refuse_contradictions(options)
        options = options | {"shards": options["shards"] or distributed.world_size()}
    options["shards"] = options["shards"] or 1  # runs that are older than the option had one
    options["accumulate"] = options["accumulate"] or options["shards"]
    if options["max_steps"] is None and options["max_seconds"] is None:
        options["max_seconds"] = DEFAULT_SECONDS
    chosen = {field.name: options[field.name] for field in fields(Recipe) if field.name in options}
    recipe = Recipe(betas=(Recipe.betas[0], options["beta2"]), **chosen)
    distributed.own_shards(recipe.shards)  # refused before the text is read
    if not resume:
        _prepare_new_run(out, options)
    return resume, options, recipe


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
        network, own = load_model(options["init"])
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
        report=say,
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
        say(f"nothing is measured on held-out text: {error}")
        return None


def _initial_model(options: dict, vocab_size: int) -> BertForPreTraining:
    """A new model, or that of --init, as it is before the first step."""
    dropout = options["dropout"]
    if options["init"] is not None:
        model = BertForPreTraining.from_pretrained(folder_of(options["init"]))
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
    show({"tokenizer": str(out), "vocab_size": len(made), "method": method}, as_json=False)


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
    network, tokenizer = load_model(model)
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
    show(
        measured | {"vocab_size": len(tokenizer), "max_length": max_length} | about_text,
        as_json,
    )


def _length_in_training(folder: str) -> int:
    run = Path(folder) / RUN_FILE
    return read_json(run)["options"]["max_length"] if run.is_file() else 128


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
    network, tokenizer = load_model(model)
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


# ---- What these commands share -----------------------------------------------------------------------------


def load_model(folder: str) -> tuple[BertForPreTraining, BertTokenizer]:
    """A pre-trained model with its tokenizer, ready to predict words."""
    folder = folder_of(folder)
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


def _check_length(max_length: int, network: BertForPreTraining):
    positions = network.config.max_position_embeddings
    if max_length > positions:
        raise ValueError(f"--max-length is {max_length}, but the model has {positions} positions")
