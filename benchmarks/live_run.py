"""The live run of chapter 11: its bands over three seeds, and what it reaches in 180 seconds.

python benchmarks/live_run.py steps      # as in the chapter, bound by steps -> results/live_run.json
python benchmarks/live_run.py seconds    # bound by time, nothing else running -> results/live_run_180s.json
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from recipes import BASE, HELD_OUT_ROWS, new_model, rounded, text, text_record

from bert_edu.training.loop import METRICS_FILE, RECIPE_FILE, pretrain
from bert_edu.training.metrics import NeighbourCounts, evaluate_pretraining
from measure import write_result

LIVE = replace(BASE, max_steps=1800, precision="float32")
SEEDS, EVERY, SECONDS = 3, 50, 180.0


def run(recipe, batches) -> dict:
    """One run from random weights: held-out figures, seconds, tokens, and the curve of its training loss."""
    tokenizer, train, _, _ = text()
    model = new_model(recipe.seed)
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        pretrain(model, tokenizer, train, Path(out), recipe, report=lambda line: None)
        seconds = time.perf_counter() - start
        lines = [json.loads(line) for line in (Path(out) / METRICS_FILE).read_text().splitlines()]
        precision = json.loads((Path(out) / RECIPE_FILE).read_text())["precision"]
    measured = evaluate_pretraining(model, batches, tokenizer)
    losses = [line["mlm_loss"] for line in lines]
    figures = {name: rounded(value) for name, value in measured.items()}
    figures |= {
        "seed": recipe.seed,
        "precision": precision,
        "steps": len(lines),
        "seconds": round(seconds, 1),
    }
    figures["tokens"] = sum(line["tokens"] for line in lines)
    figures["training_loss"] = [
        rounded(statistics.fmean(losses[start : start + EVERY])) for start in range(0, len(losses), EVERY)
    ]
    print({name: value for name, value in figures.items() if name != "training_loss"}, flush=True)
    return figures


def over_runs(runs: list[dict], name: str) -> dict:
    values = [found[name] for found in runs]
    spread = rounded(statistics.stdev(values)) if len(values) > 1 else None
    return {"mean": rounded(statistics.fmean(values)), "sd": spread}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bound_by", choices=("steps", "seconds"))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    tokenizer, train, _, batches = text()
    counts = NeighbourCounts(train, tokenizer)
    recipe = LIVE
    if arguments.bound_by == "seconds":
        recipe = replace(LIVE, max_steps=None, max_seconds=SECONDS, precision="auto")
    runs = [run(replace(recipe, seed=seed), batches) for seed in range(arguments.seeds)]
    figures = {
        "text": text_record(),
        "recipe": vars(recipe),
        "held_out_rows": HELD_OUT_ROWS,
        "baselines": {name: rounded(value) for name, value in counts.accuracy(batches).items()},
        "summary": {
            name: over_runs(runs, name)
            for name in ("mask_accuracy", "mlm_loss", "bits_per_character", "nsp_balanced_accuracy", "tokens")
        },
        "runs": runs,
    }
    if arguments.bound_by == "steps":
        curves = list(zip(*(found["training_loss"] for found in runs)))
        figures["is_my_loss_normal"] = {
            "until_step": [EVERY * (number + 1) for number in range(len(curves))],
            "mean": [rounded(statistics.fmean(losses)) for losses in curves],
            "sd": [rounded(statistics.stdev(losses)) for losses in curves],
        }
    write_result("live_run" if arguments.bound_by == "steps" else "live_run_180s", figures)


if __name__ == "__main__":
    main()
