"""Writes the book's page of results, book/results.md, from the files in results/: no number is typed.

python benchmarks/results_page.py

The README's table of results is written too.
"""

import json
import statistics
from pathlib import Path

from train_mini import results_table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "results.md"
README = ROOT / "README.md"
README_BEGINS = "<!-- results: made by benchmarks/results_page.py -->\n"
README_ENDS = "<!-- end of results -->"
BEGINNING = """# Results, and how to reproduce them

Every number on this page, and every measured number in the chapters, comes from a file in the folder
`results/` of the repository. A program in `benchmarks/` wrote it, together with its command, the machine, the
versions and the date; the last table lists them all. This page is made from these files by
`python benchmarks/results_page.py`.

Scores of trained models are the mean over seeds, ± the standard deviation. Where one seed is all there is,
the table says so.
"""
WHAT = {
    "bench": "all that `bert-edu bench` measures, beside `transformers`, on two threads",
    "batch_and_learning_rate": "tokens a step against the learning rate (chapter 11)",
    "chapter_times": "how long each chapter runs (the preface shows it)",
    "cost_grows": "tokens a second against length, batch, model, checkpointing and processes (chapter 16)",
    "finetuning": "the shipped model fine-tuned on well-known tasks",
    "finetuning_speed": "fine-tuning a classifier beside `transformers`",
    "finetuning_tasks": "the shipped model on the book's own tasks",
    "forward_speed": "a forward pass of BERT-base beside `transformers`",
    "gpu_speed": "a pre-training step on a GPU beside `transformers`, both compiled",
    "initialiser_and_width": "the spread of the first weights against the width (chapter 11)",
    "learning_rate_range": "the learning-rate range test (chapter 11)",
    "little_texts": "the little texts: sizes, overlap, agreement of two annotators",
    "live_run": "the live run of chapter 11, by steps",
    "live_run_180s": "the live run, by time",
    "masking": "how much to hide in training (chapter 11)",
    "mini_model": "the shipped model on held-out text (chapter 1)",
    "objectives": "one, two or another second objective (chapter 11)",
    "optimizers": "AdamW and Muon (chapter 11)",
    "pretraining_speed": "a pre-training step beside `transformers`, documentation",
    "pretraining_speed_wikipedia": "the same, Wikipedia: nearly every row is full",
    "pydocs_tasks": "the four tasks from the documentation: sizes, balance, baselines",
    "recording_overhead": "a pre-training step while `bert_edu.introspection.record` listens",
    "streaming_memory": "memory while a large text is read",
    "time_to_loss": "seconds from random weights to a held-out loss, beside `transformers`",
    "tokenization_speed": "tokenising a megabyte beside `transformers`",
}


def page(results: dict[str, dict]) -> str:
    """The page in Markdown, from the contents of the files by their names."""
    figures = {name: result["figures"] for name, result in results.items()}
    parts = [BEGINNING, pre_training(figures)]
    if "finetuning" in figures:
        parts.append(well_known_tasks(figures["finetuning"]))
    if "finetuning_tasks" in figures:
        parts.append(own_tasks(figures["finetuning_tasks"]))
    parts += [speed(figures), files(results)]
    return "\n".join(parts)


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def mean_and_sd(values: list[float]) -> str:
    """As percentages; a single value stands alone."""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else " (one seed)"
    return f"{100 * statistics.fmean(values):.1f}{spread}"


def pre_training(figures: dict) -> str:
    rows = []
    for name in ("live_run", "live_run_180s"):
        found = figures[name]
        steps, seconds = found["recipe"]["max_steps"], found["recipe"]["max_seconds"]
        bound = f"{steps:,} steps" if seconds is None else f"{seconds:.0f} seconds, all cores"
        runs = [run["mask_accuracy"] for run in found["runs"]]
        pairs = [run["nsp_balanced_accuracy"] for run in found["runs"]]
        counted = [f"{100 * found['baselines'][each]:.1f}" for each in ("right bigram", "two-sided trigram")]
        rows.append([bound, mean_and_sd(runs), *counted, mean_and_sd(pairs)])
    head = ["bound by", "[MASK] right", "best bigram", "two-sided trigram", "next sentence, balanced"]
    return f"""
## Pre-training

**The live run of chapter 11**, from random weights, on the documentation; per cent.

{table(head, rows)}
**The model that comes with the book.** Its card, in `bert_edu/mini/`, says how it was trained.

{results_table(figures["mini_model"])}

In both tables 15 % of the tokens are hidden, all of them behind [MASK], and the counts are of the same
training text.
"""


def well_known_tasks(figures: dict) -> str:
    rows = []
    for name, found in figures.items():
        metric = found["main_metric"]
        best = max(scores[metric] for scores in found["baselines"].values())
        published = ", ".join(f"{who} {100 * score:.1f}" for who, score in found.get("published", {}).items())
        tested = mean_and_sd(found["test"][metric]["values"]) if "test" in found else "–"
        rows.append(
            [
                name,
                metric.replace("_", " "),
                f"{100 * best:.1f}",
                mean_and_sd(found["development"][metric]["values"]),
                tested,
                published or "–",
            ]
        )
    head = ["task", "score", "best baseline, development", "development", "test", "published, test"]
    commands = "\n".join(f"    {found['command']}" for found in figures.values())
    return f"""
## Fine-tuned on well-known tasks

The shipped model, fine-tuned whole; the best epoch is chosen on the development set, so the score there
flatters a little. The baselines are those of `bert_edu.finetuning.baselines`. BERT-Tiny has half as many
layers and half the width of our model, BERT-Mini the same shape; both read about a hundred times as much.

{table(head, rows)}
The SQuAD files are an article-level split of its *development* set, to train and test on: the scores cannot
be compared with published ones. Seven of its articles also stand, under the same title, in the Wikipedia text
that the model was pre-trained on. The commands, with `DIR` for a folder:

{commands}
"""


def own_tasks(figures: dict) -> str:
    rows = []
    for name, found in figures.items():
        metric = found["main_metric"]
        best = max(found["baselines"], key=lambda baseline: found["baselines"][baseline][metric])
        ways = [mean_and_sd([scores[metric] for scores in runs]) for runs in found["runs"].values()]
        strongest = f"{best} {100 * found['baselines'][best][metric]:.1f}"
        rows.append([name.replace("_", " "), metric.replace("_", " "), strongest, *ways])
    return f"""
## On the book's own tasks

The test sides. *Random* is an encoder of the same shape that starts from random weights, *frozen* the shipped
one with a head that learns alone.

{table(["task", "score", "best baseline", "random", "frozen", "fine-tuned"], rows)}"""


def speed(figures: dict) -> str:
    rows = []
    for name, text in (("pretraining_speed", "documentation"), ("pretraining_speed_wikipedia", "Wikipedia")):
        for dropout in ("dropout 0.1", "dropout 0"):
            rows.append([f"pre-training step, {text}, {dropout}", f"{figures[name][dropout]['ratio']:.2f}"])
    for case in ("no mask", "padded"):
        found = figures["forward_speed"][case]
        rows.append([f"forward pass, BERT-base, {case}", f"{found['transformers_over_ours']:.2f}"])
    for text, found in figures.get("finetuning_speed", {}).items():
        if isinstance(found, dict):
            for way in ("padded to the maximum", "padded to the longest"):
                ratio = found[f"transformers, {way}"]["ours_over_it"]
                rows.append([f"fine-tuning, {text}, theirs {way}", f"{ratio:.2f}"])
    tokens = 1 / figures["tokenization_speed"]["ours_over_legacy"]
    rows.append(["tokenising in pure Python", f"{tokens:.2f}"])
    return f"""
## Speed

How many times as fast as `transformers` ours is, in one run, alternating, one thread, medians.

{table(["what", "ratio"], rows)}{on_two_threads(figures.get("bench"))}
{time_to_loss(figures["time_to_loss"])}{on_a_gpu(figures["gpu_speed"])}"""


def on_two_threads(figures: dict | None) -> str:
    """What `bert-edu bench` found, if that was measured: a contestant a line."""
    if figures is None:
        return ""
    rows = []
    for part, found in figures.items():
        for name, values in found.items() if part != "settings" else ():
            if isinstance(values, dict):
                shown = [f"{key.replace('_', ' ')} {value:,}" for key, value in values.items()]
                rows.append([part, name, "; ".join(shown)])
    settings, peak = figures["settings"], figures["pretraining"]["matrix_peak_gflops"]
    return f"""
All that `bert-edu bench` measures, on two threads: the shape {settings["preset"]} with a vocabulary of
{settings["vocab_size"]:,}, at most {settings["max_length"]} tokens a text, {settings["precision"]}. *Our
batches* are pairs of nearly the same length; *ours over it* is how many times as fast ours is. The share is
that of a large product of two matrices, {peak:,} GFLOP/s.

{table(["part", "who", "figures"], rows)}"""


def time_to_loss(figures: dict) -> str:
    """One sentence on the seconds from random weights to a held-out loss."""
    settings, found = figures["settings"], figures["time_to_loss"]
    ours, theirs = found["ours"], found["transformers"]
    return f"""
From random weights to a held-out loss of {found["target_loss"]:g} nats for each hidden word (vocabulary
{settings["vocab_size"]:,}, one seed, evaluation not counted): ours takes {ours["seconds"]:.0f} seconds and
{ours["steps"]} steps, `transformers` {theirs["seconds"]:.0f} seconds and {theirs["steps"]} steps,
{theirs["ours_over_it"]:.2f} times as long.
"""


def on_a_gpu(figures: dict) -> str:
    rows = [
        [
            shape,
            f"{found['ours_tokens_per_second'] / 1e6:.2f} million",
            f"{found['transformers_tokens_per_second'] / 1e6:.2f} million",
            f"{found['ratio']:.2f}",
            f"{100 * found['ours_share_of_matrix_peak']:.0f} %",
            f"{found['ours_peak_gigabytes']:g}",
            f"{found['transformers_peak_gigabytes']:g}",
        ]
        for shape, found in figures.items()
        if isinstance(found, dict)
    ]
    head = [
        "shape",
        "tokens/s, ours",
        "transformers",
        "ratio",
        "of the matrix peak",
        "GB, ours",
        "transformers",
    ]
    return f"""
On a GPU ({figures["gpu"]}), in {figures["precision"]}, both compiled, full rows, vocabulary 30,522. The share
is what our step reaches of a large product of two matrices, {figures["matrix_peak_tflops"]:.0f} TFLOP/s.

{table(head, rows)}"""


def files(results: dict[str, dict]) -> str:
    rows = [
        [f"`{name}.json`", WHAT[name], f"`{result['command']}`", result["date"]]
        for name, result in results.items()
    ]
    versions = {json.dumps(result["versions"]) for result in results.values()}
    machines = {result["machine"]["processor"] for result in results.values()}
    numbers = {str(result["machine"]["cores"]) for result in results.values()}
    kept = sorted(
        {f"{package} {version}" for each in versions for package, version in json.loads(each).items()}
    )
    return f"""
## All files

Measured on {" and ".join(sorted(machines))} with {" and ".join(sorted(numbers, key=int))} cores;
{", ".join(kept)}.

{table(["file", "what", "command", "date"], rows)}"""


def readme(text: str, results: dict[str, dict]) -> str:
    """The README with its table of results made anew."""
    before, rest = text.split(README_BEGINS)
    after = rest.split(README_ENDS)[1]
    figures = {name: result["figures"] for name, result in results.items()}
    return f"{before}{README_BEGINS}\n{most_important(figures)}\n{README_ENDS}{after}"


def most_important(figures: dict) -> str:
    """A dozen results in one table."""
    live, mini = figures["live_run"], figures["mini_model"]
    rows = [
        [
            "chapter 11's model, from random weights on two cores",
            "hidden words of the documentation",
            f"{mean_and_sd([run['mask_accuracy'] for run in live['runs']])} %",
            f"{100 * live['baselines']['right bigram']:.1f} % (best bigram)",
        ]
    ]
    held_out = mini["wikipedia, 512 tokens"]
    rows.append(
        [
            "the model that comes along",
            "hidden words of Wikipedia",
            f"{100 * held_out['mask_accuracy']:.1f} %",
            f"{100 * held_out['baselines']['two-sided trigram']:.1f} % (two-sided trigram)",
        ]
    )
    for name, found in figures["finetuning"].items():
        metric, side = found["main_metric"], found.get("test", found["development"])
        best = max(found["baselines"], key=lambda baseline: found["baselines"][baseline][metric])
        where = "test" if "test" in found else "development"
        rows.append(
            [
                "the same, fine-tuned",
                f"{name}, {where}, {metric.replace('_', ' ')}",
                f"{mean_and_sd(side[metric]['values'])} %",
                f"{100 * found['baselines'][best][metric]:.1f} % ({best})",
            ]
        )
    ratio = figures["bench"]["pretraining"]["transformers"]["ours_over_it"]
    what = "tokens a second beside `transformers`, documentation"
    rows.append(["training on two processor cores", what, f"{ratio:.2f} times", "1"])
    gpu = figures["gpu_speed"]["mini, 128 tokens"]
    rows.append(
        [
            "training on a GPU",
            "tokens a second beside `transformers`, both compiled",
            f"{gpu['ratio']:.2f} times",
            "1",
        ]
    )
    return table(["what", "measured on", "result", "baseline"], rows)


def stored_results() -> dict[str, dict]:
    """The contents of all files in results/, by their names."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "results").glob("*.json"))}


if __name__ == "__main__":
    PAGE.write_text(page(stored_results()), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8"), stored_results()), encoding="utf-8")
