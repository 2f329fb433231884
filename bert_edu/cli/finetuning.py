"""finetune, evaluate and predict: a model for a task of one's own (chapters 13-15)."""

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer
from tqdm import tqdm

from ..config import BertConfig
from ..data.tasks import read_squad, read_tagged, read_tsv
from ..finetuning import engine
from ..finetuning.models import tokenizer_of
from ..pretrained import CONFIG_FILE, replacing, resolve_folder
from ..training.loop import choose_device
from ..training.preparation import versions
from .program import AsJson, Device, Model, evaluate_app, finetune_app, folder_of, predict_app, say, show

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


def _threshold(default: str):
    help_text = (
        "For questions that may have no answer: by how much 'none' must lead the best answer to be given "
        "instead of it. The higher, the more questions are answered."
    )
    return Annotated[float | None, typer.Option(metavar="X", help=help_text, show_default=default)]


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
    null_threshold: _threshold("what gives the best f1 on --dev") = None,
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

    Where some questions have no answer, the model must know when to say so. After each epoch it takes the
    threshold that gives the best f1 on --dev, and keeps it for evaluate and predict. The scores on --dev were
    so chosen, and flatter a little: measure once more on other questions.

    \b
    Examples:
      bert-edu finetune qa --model mini --train train-v1.1.json --dev dev-v1.1.json --out answers
      bert-edu finetune qa --model mini --train train-v2.0.json --dev dev-v2.0.json --out answers --seeds 3

    The folder holds the same files as that of: bert-edu finetune classify --help
    """
    _finetune("qa", context.params)


def _finetune(name: str, options: dict):
    """What the three commands do."""
    folder, out = folder_of(options["model"]), options["out"]
    engine.refuse_to_write_over(out)
    recipe = _fine_tuning_recipe(options)
    choose_device(recipe.device)
    tokenizer = tokenizer_of(folder)
    train = _read(name, options["train"])
    settings = {"max_length": options["max_length"] or min(TASK_LENGTHS[name], _positions(folder))}
    settings |= {"balanced": options["class_weights"]} if name == "classify" else {}
    if name == "qa":
        settings |= {"stride": options["stride"], "null_threshold": options["null_threshold"]}
    task = _task_class(name).of(tokenizer, train, **settings)
    _check_threshold(task, options.get("null_threshold"))
    dev = _read(name, options["dev"], task)
    say(f"{len(train):,} examples to learn from, {len(dev):,} to measure on")

    # Here, because scikit-learn is slow to import and most commands need none of it.
    from ..finetuning.baselines import baselines

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
            report=say,
            progress=progress,
            after_each=lambda run: _show_scores(f"seed {run['seed']}", run["scores"]),
        )
    if options["seeds"] > 1:
        spread = [f"{name} {mean:.4f} +- {found.sd[name]:.4f}" for name, mean in found.mean.items()]
        print(f"{'mean +- sd':23}{'  '.join(spread)}")
    show(_threshold_of(found.best.task) | {"model": str(out)}, as_json=False)
    _write_scores(name, options, found, simple)


def _fine_tuning_recipe(options: dict) -> engine.Recipe:
    """The recipe that the options ask for; a head alone has defaults of its own."""
    names = [field.name for field in fields(engine.Recipe) if field.name in options]
    chosen = {name: options[name] for name in names}
    usual = engine.HEAD_ALONE if options["frozen"] else {}
    for name in ("epochs", "learning_rate"):
        if chosen[name] is None:
            chosen[name] = usual.get(name, getattr(engine.Recipe, name))
    return engine.Recipe(**chosen)


def _write_scores(name: str, options: dict, found: engine.SeveralSeeds, simple: dict):
    """result.json, short, and scores.json, with all that is needed to judge it and to do it again."""
    task = found.best.task
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
        **_threshold_of(task),
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


# ---- evaluate ----------------------------------------------------------------------------------------------

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
    null_threshold: _threshold("the model's own") = None,
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
    _evaluate("qa", model, data, device, as_json, null_threshold)


def _evaluate(
    name: str, model: str, data: Path, device: str, as_json: bool, null_threshold: float | None = None
):
    """What these three commands do."""
    choose_device(device)
    task, network = _loaded(name, model, null_threshold)
    examples = _read(name, data, task)
    scores = engine.evaluate(task, network, examples, device=device)
    show(scores | _threshold_of(task) | {"examples": len(examples), "data": str(data)}, as_json)


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
    null_threshold: _threshold("the model's own") = None,
    device: Device = "auto",
):
    """Print the answer to each question, where it stands, and the next best ones: a line of JSON each.

    \b
    Example:
      bert-edu predict qa --model answers --data questions.json --out answers.jsonl
    """
    _predict("qa", model, data, out, device, null_threshold)


def _predict(
    name: str, model: str, data: Path, out: Path | None, device: str, null_threshold: float | None = None
):
    """What these three commands do."""
    if out is not None and out.exists():
        raise ValueError(f"{out} is there already, and nothing is written over: name another file")
    choose_device(device)
    task, network = _loaded(name, model, null_threshold)
    examples = _unlabelled(name, data)
    found = engine.predict(task, network, examples, device=device)
    lines = [json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in found]
    if out is None:
        print("".join(lines), end="")
        return
    with out.open("x", encoding="utf-8") as file:
        file.writelines(lines)
    say(f"{len(lines):,} predictions are in {out}")


# ---- What these commands share -----------------------------------------------------------------------------


def _task_class(name: str) -> type[engine.Task]:
    """The class of a command's task; imported when it is wanted, because scikit-learn is slow to import."""
    if name == "classify":
        from ..finetuning.classification import Classification as Wanted
    elif name == "tag":
        from ..finetuning.tagging import Tagging as Wanted
    else:
        from ..finetuning.question_answering import QuestionAnswering as Wanted
    return Wanted


def _loaded(name: str, model: str, null_threshold: float | None) -> tuple:
    """A fine-tuned model's task, with another threshold if one is given, and the model."""
    changes = {} if null_threshold is None else {"null_threshold": null_threshold}
    task, network = _task_class(name).load(folder_of(model), **changes)
    _check_threshold(task, null_threshold)
    return task, network


def _check_threshold(task: engine.Task, null_threshold: float | None):
    """Refuses a threshold where there is nothing to decide."""
    if null_threshold is not None and not task.unanswerable:
        raise ValueError(
            "--null-threshold is for questions that may have no answer, and all those of the training had one"
        )


def _threshold_of(task: engine.Task) -> dict[str, float]:
    """The threshold that a task decides by, where it does."""
    return {"null_threshold": task.null_threshold} if getattr(task, "unanswerable", False) else {}


def _read(name: str, path: Path, task: engine.Task | None = None) -> list:
    """The labelled examples in a file; with a task, only labels that it knows."""
    if name == "qa":
        return read_squad(path, labelled=True, report=say)
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
        return read_squad(path, read_answers=False, report=say)
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
