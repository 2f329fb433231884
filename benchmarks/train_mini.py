"""Trains the model that comes with the book again, measures it, and renews everything that rests on it.

    python benchmarks/train_mini.py --data texts --run run        # all of the steps below, in this order
    python benchmarks/train_mini.py --data texts --run run --steps measure notebooks

It wants a GPU: on an H100 the two parts of the training take nine minutes, on a smaller one as much longer as
it is slower (raise --short-seconds and --long-seconds).

`texts` holds wiki-train.txt, wiki-valid.txt and novels-train.txt (the model card says where they come from).
The steps:

    vocabulary   8,192 tokens, by frequency
    short        on inputs of 128 tokens
    long         the end of it, on inputs of 512
    ship         half precision, into bert_edu/mini/
    measure      results/mini_model.json, with the baselines on the same text, and the model card
    notebooks    executes the notebooks that use the model, makes the book's page of results
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import ConcatDataset

import bert_edu.mini
from bert_edu import BertForPreTraining, BertTokenizer, load_mini
from bert_edu.data.corpus import load
from bert_edu.data.pretraining import TokenStore
from bert_edu.training.loop import METRICS_FILE, RECIPE_FILE
from bert_edu.training.metrics import NeighbourCounts, evaluate_pretraining, unigram_entropy
from bert_edu.training.preparation import RUN_FILE, held_out_batches
from measure import write_result

ROOT = Path(__file__).resolve().parent.parent
MINI = bert_edu.mini.FOLDER
WIKIPEDIA, NOVELS, HELD_OUT = "wiki-train.txt", "novels-train.txt", "wiki-valid.txt"
PARTS = ("short", "long")
COMMON = "--optimizer muon --beta2 0.98 --precision bf16 --batch-tokens 65536 --workers 15 --compile"
SHORT = (
    f"{COMMON} --preset mini --initializer-range 0.05 --sinusoids --mlm-probability 0.2 --max-length 128 "
    "--learning-rate 0.004 --warmup 0.05 --evaluate-every 1500 --checkpoint-every 3000"
)
LONG = (
    f"{COMMON} --repeat-positions 128 --mlm-probability 0.15 --max-length 512 "
    "--learning-rate 0.0015 --warmup 0.05 --evaluate-every 500 --checkpoint-every 1000"
)
# A text that is named several times weighs as much more: little documentation beside much Wikipedia.
MIXTURES = {
    "short": [WIKIPEDIA] * 2 + [NOVELS] + ["pydocs"] * 4,
    "long": [WIKIPEDIA] * 2 + [NOVELS] + ["pydocs"] * 2,
}
LINES = 300  # of the curve that is kept of each part


def bert_edu_command(data: Path, arguments: str):
    """Runs one of the program's commands in the folder of the texts, so that it names them without a path."""
    print("bert-edu", arguments, flush=True)
    subprocess.run([sys.executable, "-m", "bert_edu", *shlex.split(arguments)], cwd=data, check=True)


def corpora(part: str) -> str:
    return " ".join(f"--corpus {name}" for name in MIXTURES[part]) + f" --valid {HELD_OUT}"


def vocabulary(data: Path, run: Path, options):
    names = " ".join(f"--corpus {name}" for name in [WIKIPEDIA, NOVELS, "pydocs", "pydocs", "pydocs"])
    bert_edu_command(data, f"tokenizer train --out {run / 'tokenizer'} --vocab-size 8192 {names}")


def short(data: Path, run: Path, options):
    where = f"--out {run / 'short'} --tokenizer {run / 'tokenizer'} --max-seconds {options.short_seconds}"
    bert_edu_command(data, f"pretrain {where} {SHORT} {corpora('short')}")


def long(data: Path, run: Path, options):
    where = f"--out {run / 'long'} --init {run / 'short'} --max-seconds {options.long_seconds}"
    bert_edu_command(data, f"pretrain {where} {LONG} {corpora('long')}")


def ship(data: Path, run: Path, options):
    """Weights in half precision, tokenizer, the curve of both parts and how they were run."""
    model = BertForPreTraining.from_pretrained(run / "long")
    model.half().save_pretrained(MINI)
    BertTokenizer.from_pretrained(run / "long").save_pretrained(MINI)
    lines, steps = [], 0
    for part in PARTS:
        found = [json.loads(line) for line in (run / part / METRICS_FILE).read_text().splitlines()]
        lines += [each | {"step": steps + each["step"], "part": part} for each in thinned(found)]
        steps += found[-1]["step"]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (MINI / "metrics.jsonl").write_text(text, encoding="utf-8")
    record = {part: how_it_was_run(run / part) for part in PARTS}
    (MINI / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def thinned(lines: list[dict]) -> list[dict]:
    """The evaluations, and about 300 lines for all steps, each with the losses of its steps averaged."""
    kept = []
    steps = [line for line in lines if "valid" not in line]
    together = max(1, len(steps) // LINES)
    for start in range(0, len(steps) - together + 1, together):
        some = steps[start : start + together]
        averaged = {
            name: round(float(np.mean([line[name] for line in some if line[name] is not None])), 5)
            for name in some[-1]
            if name not in ("step", "tokens") and any(line[name] is not None for line in some)
        }
        kept.append({"step": some[-1]["step"], "tokens": sum(line["tokens"] for line in some)} | averaged)
    kept += [line for line in lines if "valid" in line]
    return sorted(kept, key=lambda line: line["step"])


def how_it_was_run(folder: Path) -> dict:
    """Command without paths, recipe, texts with fingerprints, steps, tokens, seconds and versions."""
    record = json.loads((folder / RUN_FILE).read_text())
    steps = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    steps = [line for line in steps if "valid" not in line]
    newest = max((folder / "checkpoints").glob("step-*"))
    recipe = json.loads((folder / RECIPE_FILE).read_text())
    command = shlex.join(re.sub(r"^.*/", "", word) for word in record["command"])
    if recipe["max_seconds"] != record["options"]["max_seconds"]:  # it was made longer on the way
        resumed = f"bert-edu pretrain --out {folder.name} --resume --max-seconds {recipe['max_seconds']:g}"
        command = f"{command} && {resumed}"
    return {
        "command": command,
        "recipe": recipe,
        "steps": steps[-1]["step"],
        "tokens": sum(line["tokens"] for line in steps),
        "seconds": round(json.loads((newest / "state.json").read_text())["seconds"]),
        "train": record["train"],
        "valid": record["valid"],
        "versions": record["versions"],
    }


def measure(data: Path, run: Path, options):
    """The shipped files, an untrained network of the same shape and the n-grams, on two held-out texts."""
    model, tokenizer = load_mini()
    torch.manual_seed(0)
    untrained = BertForPreTraining(model.config).eval()
    texts = json.loads((run / "short" / RUN_FILE).read_text())["train"]  # some of them several times
    once = {text["name"]: number for number, text in enumerate(texts)}.values()
    stores = [TokenStore.open(run / "short" / "ids" / f"train-{number}", tokenizer) for number in once]
    store = ConcatDataset(stores)
    counts = NeighbourCounts(store, tokenizer)
    figures = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "megabytes": round((MINI / "model.safetensors").stat().st_size / 1e6, 2),
        "vocab_size": len(tokenizer),
        "baselines_counted_on_tokens": sum(each.token_count for each in stores),
        "unigram_entropy": round(unigram_entropy(store, len(tokenizer)), 4),
    }
    held_out = {"wikipedia": load(data / HELD_OUT, "all"), "pydocs": load("pydocs", "valid")}
    for name, text in held_out.items():
        documents = TokenStore.build(text, tokenizer)
        for length, rows in ((128, 2000), (512, 500)):
            batches = held_out_batches(documents, tokenizer, max_length=length, rows=rows)
            found = evaluate_pretraining(model, batches, tokenizer)
            control = evaluate_pretraining(untrained, batches, tokenizer)
            figures[f"{name}, {length} tokens"] = {
                "fingerprint": text.fingerprint(),
                **{key: round(value, 4) for key, value in found.items()},
                "untrained_mask_accuracy": round(control["mask_accuracy"], 4),
                "baselines": {key: round(value, 4) for key, value in counts.accuracy(batches).items()},
            }
    write_result("mini_model", figures)
    (MINI / "MODEL_CARD.md").write_text(card(figures), encoding="utf-8")


def card(figures: dict) -> str:
    """The model card, from its template and the figures: no number is typed."""
    record = json.loads((MINI / "training.json").read_text())
    values = {
        "parameters": f"{figures['parameters']:,}",
        "megabytes": figures["megabytes"],
        "vocab_size": f"{figures['vocab_size']:,}",
        "unigram_entropy": figures["unigram_entropy"],
        "table": results_table(figures),
        "texts": texts_table(record["short"]["train"]),
    }
    for part, run in record.items():
        values |= {
            f"{part}_command": run["command"].replace(" --", " \\\n        --"),
            f"{part}_steps": f"{run['steps']:,}",
            f"{part}_tokens": f"{run['tokens'] / 1e6:.1f} million",
            f"{part}_minutes": round(run["seconds"] / 60),
        }
    template = (Path(__file__).parent / "mini_model_card.md").read_text(encoding="utf-8")
    for name, value in values.items():
        template = template.replace("{{" + name + "}}", str(value))
    return template


def results_table(figures: dict) -> str:
    rows = [
        "| held-out text, longest input | [MASK] right | bits a character | two-sided trigram "
        "| most frequent word | untrained | next sentence, balanced |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in figures.items():
        if isinstance(found, dict):
            base = found["baselines"]
            rows.append(
                f"| {name} | **{found['mask_accuracy']:.1%}** | {found['bits_per_character']:.2f} "
                f"| {base['two-sided trigram']:.1%} | {base['most frequent word']:.1%} "
                f"| {found['untrained_mask_accuracy']:.1%} | {found['nsp_balanced_accuracy']:.1%} |"
            )
    return "\n".join(rows)


def texts_table(texts: list[dict]) -> str:
    rows = ["| text | documents | tokens | times named | SHA-256 |", "|---|---|---|---|---|"]
    names = [text["name"] for text in texts]
    for name in dict.fromkeys(names):
        text = texts[names.index(name)]
        rows.append(
            f"| {name} | {text['documents']:,} | {text['tokens']:,} | {names.count(name)} "
            f"| {text['fingerprint'][:16]}... |"
        )
    return "\n".join(rows)


def notebooks(data: Path, run: Path, options):
    """Executes every notebook in which the shipped model is used, and makes the page of results again."""
    users = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if "load_mini" in path.read_text()]
    tool = ROOT / "book" / "tools" / "notebooks.py"
    subprocess.run([sys.executable, tool, "execute", *users], check=True, env=os.environ)
    subprocess.run([sys.executable, ROOT / "benchmarks" / "results_page.py"], check=True)


STEPS = {step.__name__: step for step in (vocabulary, short, long, ship, measure, notebooks)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the texts")
    parser.add_argument("--run", type=Path, required=True, help="the folder of the runs")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--short-seconds", type=int, default=425)
    parser.add_argument("--long-seconds", type=int, default=105)
    options = parser.parse_args()
    for step in options.steps:
        print(f"== {step}", flush=True)
        STEPS[step](options.data.resolve(), options.run.resolve(), options)


if __name__ == "__main__":
    main()
