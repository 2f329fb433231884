"""Fine-tunes the model that comes with the book on well-known tasks, by the program's own commands.

    python benchmarks/finetuning.py --data texts --run run              # all tasks
    python benchmarks/finetuning.py --data texts --run run SST-2 EWT    # these

`texts` holds the files that `TASKS` names: sst2/ and rte/ from GLUE, ud_ewt/ from Universal Dependencies, and
squad/ with an article-level split of SQuAD's development set. A task whose folder in `run` is there already
is not trained again. Each task has three seeds; the best epoch is chosen on the development set. Where a test
set has labels, it is measured once, with each seed's model. Writes results/finetuning.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from measure import write_result

SEEDS = 3
# Without dropout, as the model was pre-trained: in runs as short as these BERT's 0.1 costs several points.
TASKS = {
    "SST-2": {
        "command": "classify --train sst2/train.tsv --dev sst2/dev.tsv --max-length 64 --epochs 2 "
        "--learning-rate 0.0003 --dropout 0",
        "test": "classify --data sst2/test.tsv",
        # GLUE test set; google-research/bert, README, "Smaller BERT Models"
        "published": {"BERT-Tiny": 0.832, "BERT-Mini": 0.859},
    },
    "RTE": {
        "command": "classify --train rte/train.tsv --dev rte/dev.tsv --max-length 128 --epochs 4 "
        "--learning-rate 0.0001 --dropout 0",
        "published": {"BERT-Tiny": 0.572, "BERT-Mini": 0.579},  # as above
    },
    "EWT": {
        "command": "tag --train ud_ewt/en_ewt-ud-train.conllu --dev ud_ewt/en_ewt-ud-dev.conllu --epochs 3 "
        "--learning-rate 0.0005 --dropout 0",
        "test": "tag --data ud_ewt/en_ewt-ud-test.conllu",
    },
    "SQuAD 1.1, split by article": {
        "command": "qa --train squad/split-v1.1-train38.json --dev squad/split-v1.1-dev10.json "
        "--max-length 256 --epochs 2 --batch-size 16 --learning-rate 0.0005 --dropout 0",
    },
    "SQuAD 2.0, split by article": {
        "command": "qa --train squad/split-v2.0-train26.json --dev squad/split-v2.0-dev9.json "
        "--max-length 256 --epochs 2 --batch-size 16 --learning-rate 0.0005 --dropout 0",
    },
}


def bert_edu(data: Path, *arguments: str) -> str:
    """Runs one of the program's commands in the folder of the texts, so that it names them without a path."""
    print("bert-edu", *arguments, flush=True)
    command = [sys.executable, "-m", "bert_edu", *arguments]
    return subprocess.run(command, cwd=data, check=True, stdout=subprocess.PIPE, text=True).stdout


def fine_tuned(name: str, data: Path, folder: Path) -> dict:
    """Trains, unless that was done before, and gathers what the run's folder says."""
    task = TASKS[name]
    if not (folder / "scores.json").exists():
        arguments = task["command"].split()
        more = ["--model", "mini", "--seeds", str(SEEDS), "--out", str(folder)]
        print(bert_edu(data, "finetune", *arguments, *more))
    record = json.loads((folder / "scores.json").read_text())
    figures = {
        "command": f"bert-edu finetune {task['command']} --model mini --seeds {SEEDS} --out DIR",
        "main_metric": record["main_metric"],
        "baselines": record["baselines"],
        "development": record["scores"],
        "recipe": record["recipe"],
    }
    if "test" in task:
        figures["test"] = on_test_set(task["test"], data, folder, list(record["scores"]))
    if "published" in task:
        figures["published"] = task["published"]
    return figures


def on_test_set(arguments: str, data: Path, folder: Path, wanted: list[str]) -> dict:
    """Mean, standard deviation and values of the wanted scores over the seeds."""
    found = [
        json.loads(bert_edu(data, "evaluate", *arguments.split(), "--model", str(model), "--json"))
        for model in sorted(folder.glob("seed-*"))
    ]
    return {
        score: {"mean": statistics.fmean(values), "sd": statistics.stdev(values), "values": values}
        for score, values in ((score, [scores[score] for scores in found]) for score in wanted)
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", help=f"all, if none is named: {', '.join(TASKS)}")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the texts")
    parser.add_argument("--run", type=Path, required=True, help="the folder of the runs")
    options = parser.parse_args()
    figures = {}
    for name in options.tasks or TASKS:
        folder = options.run.resolve() / "".join(character for character in name if character.isalnum())
        figures[name] = fine_tuned(name, options.data.resolve(), folder)
    write_result("finetuning", figures)


if __name__ == "__main__":
    main()
