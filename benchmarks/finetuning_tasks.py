"""What pre-training is worth on the book's own tasks: the figures that chapters 13 to 15 draw.

    python benchmarks/finetuning_tasks.py                        # all tasks
    python benchmarks/finetuning_tasks.py "pydocs topic"         # this one; the others' figures stay

For each task: the baselines; then an encoder of the shipped model's shape with random weights, the shipped
one frozen, and the same fine-tuned, three seeds each; and how the last grows with the number of examples. The
best epoch is chosen on the development side, the figures are those of the test side. Writes
results/finetuning_tasks.json after every task.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import bert_edu.mini
from bert_edu import BertTokenizer
from bert_edu.data.little_texts import little_task
from bert_edu.data.pydocs_tasks import fingerprint, pydocs_task
from bert_edu.finetuning.baselines import baselines
from bert_edu.finetuning.classification import Classification
from bert_edu.finetuning.engine import HEAD_ALONE, Recipe, evaluate, finetune
from bert_edu.finetuning.question_answering import QuestionAnswering
from bert_edu.finetuning.tagging import Tagging
from measure import write_result

RESULT = Path(__file__).parent.parent / "results" / "finetuning_tasks.json"
SEEDS = (0, 1, 2)
# The shipped model was pre-trained without dropout, and runs as short as these do better without, too.
RECIPE = Recipe(epochs=2, dropout=0.0)
KINDS = {  # of each task the class and the recipe of full fine-tuning
    "little_texts sentiment": (Classification, replace(RECIPE, epochs=8, batch_size=16)),
    "little_texts names": (Tagging, replace(RECIPE, epochs=5, learning_rate=5e-4)),
    "little_texts questions": (
        QuestionAnswering,
        replace(RECIPE, epochs=3, batch_size=16, learning_rate=5e-4),
    ),
    "pydocs topic": (Classification, RECIPE),
    "pydocs pair": (Classification, RECIPE),
    "pydocs tagging": (Tagging, replace(RECIPE, learning_rate=5e-4)),
    "pydocs qa": (QuestionAnswering, replace(RECIPE, batch_size=16, learning_rate=5e-4)),
}
LENGTHS = {Classification: 192, Tagging: 128, QuestionAnswering: 256}  # tokens of an input
SHARES = (1 / 16, 1 / 4, 1)  # of the training examples, for the curve
NO_CURVE = ("little_texts questions",)  # all of its examples teach little; fewer would show nothing


def examples(name: str, side: str) -> list:
    """One side of a task; its order is random, so a prefix is a sample."""
    source, task = name.split()
    return (little_task if source == "little_texts" else pydocs_task)(task, side)


def run(name: str, train: list, recipe: Recipe) -> dict[str, float]:
    """The scores on the test side of one model that was fine-tuned on `train`."""
    task_class, _ = KINDS[name]
    tokenizer = BertTokenizer.from_pretrained(bert_edu.mini.FOLDER)
    task = task_class.of(tokenizer, train, max_length=LENGTHS[task_class])
    result = finetune(
        task, bert_edu.mini.FOLDER, train, examples(name, "dev"), recipe, report=lambda line: None
    )
    scores = evaluate(result.task, result.model, examples(name, "test"))
    scores = {metric: round(score, 4) for metric, score in scores.items()}
    print(name, len(train), f"seed {recipe.seed}", scores, flush=True)
    return scores


def figures_of(name: str) -> dict:
    """All figures of one task."""
    task_class, recipe = KINDS[name]
    train, test = examples(name, "train"), examples(name, "test")
    ways = {
        "random": replace(recipe, init_random=True),
        "frozen": replace(recipe, frozen=True, **HEAD_ALONE),
        "fine-tuned": recipe,
    }
    runs = {way: [run(name, train, replace(its, seed=seed)) for seed in SEEDS] for way, its in ways.items()}
    tokenizer = BertTokenizer.from_pretrained(bert_edu.mini.FOLDER)
    main_metric = task_class.of(tokenizer, train).main_metric
    curve = {}
    for share in SHARES if name not in NO_CURVE else (1,):
        number = round(share * len(train))
        # Few examples are shown more often, so that no model stops after a handful of steps.
        its = replace(recipe, epochs=round(recipe.epochs * share**-0.5))
        found = (
            runs["fine-tuned"]
            if share == 1
            else [run(name, train[:number], replace(its, seed=seed)) for seed in SEEDS]
        )
        curve[str(number)] = [scores[main_metric] for scores in found]
    return {
        "examples": {side: len(examples(name, side)) for side in ("train", "dev", "test")},
        "fingerprint": fingerprint(name.split()[1]) if name.startswith("pydocs") else None,
        "main_metric": main_metric,
        "baselines": {baseline.name: baseline.scores for baseline in baselines(train, test)},
        "runs": runs,
        "curve": curve,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", choices=[*KINDS, []], help="all, if none is named")
    for name in parser.parse_args().tasks or KINDS:
        found = figures_of(name)
        figures = json.loads(RESULT.read_text())["figures"] if RESULT.exists() else {}
        figures[name] = found
        write_result("finetuning_tasks", {name: figures[name] for name in KINDS if name in figures})


if __name__ == "__main__":
    main()
