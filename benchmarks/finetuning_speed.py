"""Fine-tuning a classifier: ours beside `transformers`' BertForSequenceClassification, on the same texts.

    python benchmarks/finetuning_speed.py
    python benchmarks/finetuning_speed.py --data sst2/train.tsv --rounds 7

The texts are those of the task "topic" from the documentation, and those of a TSV file if one is named. All
start from the same weights and train in the same precision, with batches as large, fused attention and AdamW.
Ours is the package's own loop, which puts texts of nearly the same length into a batch. `transformers` gets
them as its users give them: in random order, from its own collator, padded once to the maximum length and
once to the longest text of a batch. Counted are tokens without padding. The texts are tokenised before.

Peak memory is that of a fresh process that trains on the same texts once; `loaded_mb` is what such a process
takes before its first step.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers

import bert_edu.mini
from bert_edu import BertTokenizer
from bert_edu.data.pydocs_tasks import pydocs_task
from bert_edu.data.tasks import TextExample, read_tsv
from bert_edu.finetuning.classification import Classification, TextFeature
from bert_edu.finetuning.engine import Recipe, Trainer
from bert_edu.finetuning.models import set_dropout
from bert_edu.training.loop import autocast_for, choose_device
from measure import alternate, medians, write_result

transformers.logging.disable_progress_bar()
DEVICE = choose_device("cpu")
DOCUMENTATION = "documentation, topic"
OURS, TO_MAXIMUM, TO_LONGEST = CONTESTANTS = ("ours", "padded to the maximum", "padded to the longest")


def texts(source: str, number: int) -> list[TextExample]:
    """As many labelled texts as one round takes, drawn at random, always the same ones."""
    found = pydocs_task("topic", "train") if source == DOCUMENTATION else read_tsv(source, labelled=True)
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    return [found[at] for at in order[:number].tolist()]


def starting_point(examples: list[TextExample], options) -> tuple[Classification, torch.nn.Module]:
    """The task, and the model that all start from: the shipped encoder under a head with seeded weights."""
    tokenizer = BertTokenizer.from_pretrained(bert_edu.mini.FOLDER)
    task = Classification.of(tokenizer, examples, max_length=options.max_length)
    torch.manual_seed(0)
    model = task.new_model(bert_edu.mini.FOLDER)
    set_dropout(model, Recipe.dropout)
    return task, model


def our_round(task: Classification, model: torch.nn.Module, features: list[TextFeature], options):
    """A function that trains on all texts once, as `finetune` does in an epoch."""
    recipe = Recipe(epochs=options.rounds + 1, batch_size=options.batch_size)  # one round is not measured
    trainer = Trainer(task, model, recipe, DEVICE, options.precision, features, None)
    return lambda: trainer.epoch(1, None)


def their_round(task: Classification, model: torch.nn.Module, features: list[TextFeature], options, padding):
    """The same with `transformers`: its model, its collator, its attention, its schedule.

    Args:
        padding: "max_length", or "longest" of a batch.
    """
    with tempfile.TemporaryDirectory() as folder:
        task.save(model, folder)
        theirs = transformers.BertForSequenceClassification.from_pretrained(folder)  # fused attention
        tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    check_same_start(task, model, theirs, features[: options.batch_size])
    theirs.train()
    collate = transformers.DataCollatorWithPadding(tokenizer, padding, options.max_length)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=Recipe.learning_rate, fused=True)
    total = (options.rounds + 1) * -(-len(features) // options.batch_size)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(Recipe.warmup * total), total)
    rows = [as_row(feature) for feature in features]
    autocast, order = autocast_for(options.precision, DEVICE), torch.Generator().manual_seed(0)

    def run():
        numbers = torch.randperm(len(rows), generator=order).tolist()
        for start in range(0, len(rows), options.batch_size):
            batch = collate([rows[number] for number in numbers[start : start + options.batch_size]])
            with autocast():
                loss = theirs(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), Recipe.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    return run


def as_row(feature: TextFeature) -> dict:
    return {
        "input_ids": feature.input_ids,
        "token_type_ids": feature.token_type_ids,
        "attention_mask": [1] * len(feature.input_ids),
        "labels": feature.labels,
    }


def check_same_start(task: Classification, ours, theirs, features: list[TextFeature]):
    """Both give the same loss before the first step, or the comparison would be none."""
    batch = task.collate(features)
    with torch.inference_mode():
        losses = [model.eval()(**batch).loss for model in (ours, theirs)]
    assert abs(losses[0] - losses[1]) < 1e-4, losses


def contestant(name: str, source: str, options):
    """A function that trains on all texts once, and the number of tokens that it reads."""
    examples = texts(source, options.examples)
    task, model = starting_point(examples, options)
    features = task.features(examples)
    tokens = sum(len(feature.input_ids) for feature in features)
    if name == OURS:
        return our_round(task, model, features, options), tokens
    padding = "max_length" if name == TO_MAXIMUM else "longest"
    return their_round(task, model, features, options, padding), tokens


def peak_memory(name: str, source: str, options) -> dict[str, int]:
    """That of one contestant in a process of its own, in MB."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name, source]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_peak_memory(name: str, source: str, options):
    """What the fresh process does."""
    run, _ = contestant(name, source, options)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"loaded_mb": round(loaded / 1024), "peak_mb": round(peak / 1024)}))


def speed(source: str, options) -> dict:
    """Tokens a second of all on one kind of text, in turn, and how many times as fast ours is."""
    rounds, tokens = {}, 0
    for name in CONTESTANTS:
        rounds[name], tokens = contestant(name, source, options)
    seconds = medians(alternate(rounds, options.rounds))
    figures = {"texts": options.examples, "tokens": tokens}
    for name in CONTESTANTS:
        figures[name] = {"tokens_per_second": round(tokens / seconds[name])}
        if name != OURS:
            figures[name]["ours_over_it"] = round(seconds[name] / seconds[OURS], 2)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a TSV file to measure on as well")
    parser.add_argument("--examples", type=int, default=512, help="texts in a round")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)  # what peak_memory asks for
    options = parser.parse_args()
    if options.memory_of:
        print_peak_memory(*options.memory_of, options)
        return
    sources = {DOCUMENTATION: DOCUMENTATION}
    if options.data:
        sources["/".join(Path(options.data).parts[-2:])] = options.data
    # Memory first, while this process is small: on Linux a new one begins with its parent's peak.
    memory = {
        title: {name: peak_memory(name, source, options) for name in CONTESTANTS}
        for title, source in sources.items()
    }
    shape = f"mini, batches of {options.batch_size}, at most {options.max_length} tokens a text"
    figures = {"shape": shape, "precision": options.precision}
    for title, source in sources.items():
        figures[title] = speed(source, options)
        for name in CONTESTANTS:
            figures[title][name] |= memory[title][name]
    write_result("finetuning_speed", figures)


if __name__ == "__main__":
    main()
