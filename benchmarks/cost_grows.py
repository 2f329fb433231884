"""How the speed of a pre-training step depends on length, batch, model and processes (chapter 16).

    python benchmarks/cost_grows.py

Full rows of random ids, 15 % of them to be predicted, V = 8192, on this machine's CPU or GPU. Each series
varies one thing; all settings take turns, medians. A batch has 4,096 tokens unless the series varies it.

The series "processes" is another thing: `bert-edu pretrain` itself on the documentation, in one process and,
under `torchrun`, in two, with one thread and one batch each, in float32; tokens of all processes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from gpu_speed import MASK, full_batch, matrix_peak, repeated

from bert_edu import BertConfig, BertForPreTraining
from bert_edu.costs import training_operations
from bert_edu.mini import FOLDER as MINI
from bert_edu.training.loop import train_step
from bert_edu.training.optim import adamw
from measure import alternate, medians, write_result

TOKENS = 4096
SERIES = {
    "length": [dict(length=length) for length in (16, 32, 64, 128, 256, 512)],
    "batch": [dict(rows=rows) for rows in (1, 2, 4, 8, 16, 32)],
    "model": [dict(preset=preset) for preset in ("tiny", "mini", "small", "medium")],
    "checkpointing": [dict(checkpointing=on) for on in (False, True)],
}
USUAL = dict(preset="mini", length=128, rows=None, checkpointing=False)


def whole(member: dict) -> tuple:
    """A setting with everything that its series leaves as usual: (preset, length, rows, checkpointing)."""
    chosen = USUAL | member
    rows = chosen["rows"] or TOKENS // chosen["length"]
    return chosen["preset"], chosen["length"], rows, chosen["checkpointing"]


def setting(preset: str, length: int, rows: int, checkpointing: bool, device: str):
    """One step of our loop in this setting, and how many tokens and operations it takes."""
    config = BertConfig.preset(
        preset, vocab_size=8192, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    batch = full_batch(config, rows, length).to(device)
    model = BertForPreTraining(config).to(device).train()
    model.bert.encoder.checkpointing = checkpointing
    optimizer = adamw(model, 1e-4)

    def step():
        train_step(model, optimizer, [batch], mask_token_id=MASK, clip_norm=1.0)

    operations = training_operations(config, rows=rows, length=length, scored=len(batch.scored_positions))
    return step, {"tokens": batch.input_ids.numel(), "operations": operations}


def all_series(names: list[str], rounds: int, device: str, peak: float) -> dict[str, list[dict]]:
    """Tokens a second, and the share of the peak, of every member of these series.

    A setting that several series contain is measured once.
    """
    steps, facts = {}, {}
    for chosen in dict.fromkeys(whole(member) for name in names for member in SERIES[name]):
        step, facts[chosen] = setting(*chosen, device)
        steps[chosen] = repeated(step, 1, device)
    found = medians(alternate(steps, rounds))
    for chosen, fact in facts.items():
        fact["tokens_per_second"] = round(fact["tokens"] / found[chosen])
        fact["share_of_peak"] = round(fact["operations"] / found[chosen] / peak, 3)
    return {name: [facts[whole(member)] | member for member in SERIES[name]] for name in names}


def in_processes(steps: int = 30) -> list[dict]:
    """Tokens a second of a run in one and in two processes with a thread each."""
    found = []
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
            command = [sys.executable, *(start if count > 1 else []), "-m", "bert_edu", "pretrain"]
            command += ["--out", f"{folder}/run", "--tokenizer", str(MINI), "--preset", "mini"]
            command += ["--max-steps", str(steps), "--batch-tokens", str(TOKENS), "--accumulate", str(count)]
            command += ["--precision", "float32"]
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
        steps_alone = [line for line in map(json.loads, lines) if "valid" not in line and line["step"] > 5]
        speeds = [line["tokens_per_second"] for line in steps_alone]
        found.append({"processes": count, "tokens_per_second": round(statistics.median(speeds))})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "series", nargs="*", default=[], help=f"all, if none is named: {', '.join(SERIES)}, processes"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="cost_grows", help="of the result")
    options = parser.parse_args()
    peak = matrix_peak(options.device, dtype=torch.float32)
    figures = {"device": options.device, "matrix_peak_gflops": round(peak / 1e9)}
    names = options.series or [*SERIES, "processes"]
    in_this_process = [name for name in names if name != "processes"]
    figures |= all_series(in_this_process, options.rounds, options.device, peak)
    if "processes" in names:
        figures["processes"] = in_processes()
    write_result(options.name, figures)


if __name__ == "__main__":
    main()
