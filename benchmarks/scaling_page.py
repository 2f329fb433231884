"""Writes the page about several GPUs, book/scaling.md: what it computes comes from results/gpu_speed.json.

python benchmarks/scaling_page.py
"""

import json
from pathlib import Path

import torch
from results_page import table

from bert_edu import BertConfig, BertForPreTraining
from bert_edu.costs import training_memory, training_operations
from bert_edu.training.distributed import TIMEOUT

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "scaling.md"
# BERT's own pre-training: tokens of a row, rows of a step, hidden tokens of a row, steps.
# Source: Devlin et al. 2019, appendix A.2, and google-research/bert.
PAPER = [(128, 256, 20, 900_000), (512, 256, 77, 100_000)]
LINKS = {  # GPUs, and gigabytes a second on their slowest link: makers' figures, rounded down
    "8 GPUs in one machine (NVLink)": (8, 300.0),
    "2 such machines, 400 Gbit/s": (16, 50.0),
    "2 machines, 100 Gbit/s": (16, 12.5),
}
STEPS_TESTED = 50  # by tests/test_distributed.py
PASSES = 4  # of a step, as an example
PAGE_TEXT = """# Past one machine

*Optional reading.* One GPU is enough for everything in this book. This page is for the day when it is
not: the same `bert-edu pretrain`, shared by several GPUs, or by several machines. It is made by `python
benchmarks/scaling_page.py` from measured figures.

## The idea in a picture

```{{figure}} static/scaling.svg
:alt: "Two processes side by side. Each holds a copy of the whole model and reads its own shard of the \
text, process 0 the documents 0, 2, 4 and so on, process 1 the documents 1, 3, 5 and so on. From each \
model a gradient goes to a box between them, the mean of both gradients; from there the same mean goes \
back to both, and both take the same step."
:class: dark-light

Two processes of one run. White: what each gives. Orange: what both get back, the same for both.
```

Each process holds the whole model and reads its own *shard* of the text. Each computes a gradient. Then
they all take the mean, and so all take the same step and stay equal. This is *data parallelism*;
PyTorch's DistributedDataParallel takes the mean while the backward pass still runs.

## The smallest case by hand

Two processes, and one trap. Process 0 predicts {left_count} hidden words, with losses that add up to
{left_sum}; process 1 predicts {right_count}, with a loss of {right_sum}. What is the loss of the step?

- The mean of the two means is ({left_sum}/{left_count} + {right_sum}/{right_count}) / 2 =
  **{mean_of_means:g}**. The lonely word counts as much as the three others together: wrong.
- The mean over all words is ({left_sum} + {right_sum}) / {count} = **{mean:g}**: what one process would
  have found.

So each process multiplies its mean by the number of its scored words, divided by the average over the
processes ({average:g} words here): {left_sum}/{left_count} · {left_count}/{average:g} = {left_weighted:g}
and {right_sum}/{right_count} · {right_count}/{average:g} = {right_weighted:g}. Their mean is {mean:g}
again. This is what `train_step` in `bert_edu/training/loop.py` does, and
`bert_edu/training/distributed.py` holds the rest.

## Two processes on your own machine

    torchrun --nproc-per-node 2 -m bert_edu pretrain --out first --accumulate 2 --max-steps 200

`--batch-tokens` times `--accumulate` is a step of *all* processes. The same run in one process has
`--shards 2` beside it. **Predict**: by how much do the two curves of the loss differ? A test of the book
lets both run for {steps_tested} steps: by less than 0.0001. Only the order in which numbers are added
differs.

How the text is shared:

- It is dealt into `--shards`, document by document, so none is in two. The default is as many as
  processes.
- A shard has its own epochs and its own order. So 8 shards give the same batches whether 1, 2, 4 or 8
  processes read them, and **a run may go on with another number of processes**. Begin with more shards
  than you have GPUs if you may get more.
- Process 0 alone reads the text and turns it into ids, with all cores; the others wait. Then each maps
  the file of ids into its memory and reads no more of it than its part.

With dropout, each process draws its own, so there the curves differ by chance.

## Eight GPUs

    torchrun --nproc-per-node 8 --max-restarts 3 -m bert_edu pretrain --out large --resume \\
        --corpus text/ --preset base --shards 16 --accumulate 16 --batch-tokens 16384 \\
        --compile --workers 2 --max-steps 20000

One process for each GPU; each takes the GPU with its number. Give `--resume` from the beginning: it
begins a run where there is none.

If a process dies, `torchrun` ends the others within seconds. It then starts all of them again, up to
`--max-restarts` times, and they go on from the last checkpoint; steps since then are done again. Choose
`--checkpoint-every` by what you can bear to lose. Ctrl-C stops after the running step and saves. A
process that stalls without dying is given up after {timeout} minutes. What cannot work at all (shards
that the processes cannot share, a shard without text) one process says in one line, and all end.

## Several machines

All must see the same folder `--out`, on a shared disk, and have the same versions installed. On each:

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint FIRST:29500 \\
        --max-restarts 3 -m bert_edu pretrain --out /shared/large --resume ...

`FIRST` is the name of the first machine. The rest is as above, with twice the shards.

## What it costs

Operations are counted as in `bert_edu.costs`. {measured}

{costs}
*BERT-base as published* is its pre-training recipe: {steps:,} steps of 256 rows, nine tenths of them with
128 tokens and the rest with 512: {tokens:.1f} billion tokens. A GPU-hour has a price that changes;
multiply. Eight GPUs take an eighth of the time only if they need not wait for each other, and that is the
next question.

## When do more GPUs stop helping?

BERT-base has {parameters:.0f} million parameters, so a gradient has {gradient:.2f} GB. To take the mean
over n GPUs, each sends and receives about 2 (n - 1) / n times that, in *every* step, however few tokens
the step has. Computing grows with the tokens. So each GPU needs a certain number of tokens a step, or it
mostly waits:

{links}
The last column lets sending take a tenth of the time of computing, at the speed above. It is pessimistic,
since part of the sending hides behind the backward pass. The bandwidths are makers' figures, rounded
down, not measured by us.

The paper's step has 256 · 128 = {paper_step:,} tokens: {paper_each:,} for each of 8 GPUs. {verdict} The
other way is fewer steps of more tokens, with a higher learning rate, up to a point ([chapter
11](../notebooks/11_training_loop.ipynb)). `--accumulate` does that without more memory: only the last
pass of a step sends anything.

## A model that does not fit one GPU

BERT hardly ever gets there. Weights, gradients and AdamW's two means of BERT-large, the largest in the
book, are {large:.1f} GB in float32, which every GPU of today's data centres holds. For a smaller GPU, or a
larger model, there is one option more:

    torchrun --nproc-per-node 8 -m bert_edu pretrain --out large --preset large --shard-model ...

Each process then keeps only its part of every matrix, of its gradient and of its means: a half of two, an
eighth of eight. When a layer's turn comes, all of them send their parts of it, it computes, and it is given
up again. This is PyTorch's FSDP2 (from version 2.6 on). **Predict**: how do the losses change?

Not at all, but for the order in which numbers are added. The test above runs for {steps_tested} steps this
way too, to the same 0.0001. Checkpoints stay the same as well: a run that was begun with whole models may go
on in parts, and one that was begun in parts with another number of processes, or with one.

What it gives, and what it costs, for BERT-large with steps of one pass:

{parts}
A whole model sends its gradient once in a step, after the last pass. In parts, a pass fetches each layer
twice, forward and backward, and gives its gradient away: at most half as much again, but in *every* pass, so
`--accumulate {passes}` makes it {passes_times} times as much.

- Activations are not split. For them there are `--checkpointing` and fewer `--batch-tokens`.
- Beside its part, a GPU holds as wholes a layer or two and, during a pass, what is around the layers: the
  embedding table and the heads.
- Each process begins with the whole model in the memory of its host.
- `--optimizer muon` needs whole matrices, and is refused.

## What was not measured

Nothing on this page was timed on several GPUs, and the table of bandwidths was not tried. We measured on one
GPU; that curves are equal, whole, in parts and compiled, was tested with several processes of a CPU. For
`--compile` that test stops short of making machine code. The gradients of a compiled model come all at once,
at the end of its backward pass, so sending them hides behind nothing there.
"""


def page(speed: dict) -> str:
    """The page in Markdown, from the figures of results/gpu_speed.json."""
    base, large = BertConfig.preset("base"), BertConfig.preset("large")
    share, shape = share_of_peak(speed)
    per_second = share * speed["matrix_peak_tflops"] * 1e12  # operations
    published = sum(steps * operations(base, length, rows, scored) for length, rows, scored, steps in PAPER)
    tokens = sum(length * rows * steps for length, rows, _, steps in PAPER)
    seconds_a_token = published / per_second / tokens
    parameters = count_parameters(base)
    step = PAPER[0][0] * PAPER[0][1]
    enough = tokens_needed(parameters, *LINKS["8 GPUs in one machine (NVLink)"], seconds_a_token)
    left, right = (3, 6), (1, 8)  # words, sum of their losses
    count, average = left[0] + right[0], (left[0] + right[0]) / 2
    return PAGE_TEXT.format(
        left_count=left[0],
        left_sum=left[1],
        right_count=right[0],
        right_sum=right[1],
        count=count,
        average=average,
        mean_of_means=(left[1] / left[0] + right[1] / right[0]) / 2,
        mean=(left[1] + right[1]) / count,
        left_weighted=left[1] / average,
        right_weighted=right[1] / average,
        timeout=TIMEOUT.seconds // 60,
        measured=measured(speed, share, shape),
        costs=costs(published, per_second, speed),
        steps=sum(steps for *_, steps in PAPER),
        tokens=tokens / 1e9,
        parameters=parameters / 1e6,
        gradient=4 * parameters / 1e9,
        links=links(parameters, seconds_a_token),
        paper_step=step,
        paper_each=step // 8,
        verdict=(
            "That is enough for one machine."
            if step // 8 >= enough
            else "That is too few, even within one machine: with so small a step, eight GPUs are not eight "
            "times as fast."
        ),
        large=resident_gigabytes(large),
        steps_tested=STEPS_TESTED,
        parts=parts(large),
        passes=PASSES,
        passes_times=f"{sent_in_parts(1, 2, PASSES) / sent_bytes(1, 2):g}",
    )


def share_of_peak(speed: dict) -> tuple[float, str]:
    """The share of the matrix peak to reckon with for BERT-base, and the shape it was measured with."""
    shapes = {name: found for name, found in speed.items() if isinstance(found, dict)}
    shape = max(shapes, key=lambda name: (name.startswith("base"), shapes[name]["ours_share_of_matrix_peak"]))
    return shapes[shape]["ours_share_of_matrix_peak"], shape


def measured(speed: dict, share: float, shape: str) -> str:
    where = f"one {speed['gpu']} in {speed['precision']}"
    text = f"What we measured is {shape}, on {where}: {100 * share:.0f} % of the peak of matrix products."
    if not shape.startswith("base"):
        text += (
            " BERT-base was not measured there. It is reckoned with the same share, although larger matrices "
            "reach more, so its figures are too high rather than too low."
        )
    return text


def operations(config: BertConfig, length: int, rows: int, scored: int) -> int:
    """Operations of one training step."""
    return training_operations(config, rows=rows, length=length, scored=rows * scored)


def costs(published: int, per_second: float, speed: dict) -> str:
    rows = []
    for name, found in speed.items():
        if isinstance(found, dict):
            hours = 1e9 / found["ours_tokens_per_second"] / 3600
            what = f"a billion tokens, {name.replace(',', ' in rows of')}, as measured"
            rows.append([what, exa(of_a_billion(name)), time_of(hours), time_of(hours / 8)])
    hours = published / per_second / 3600
    rows.append(["BERT-base as published", exa(published), time_of(hours), time_of(hours / 8)])
    return table(["what", "operations, in 10¹⁸", "on one GPU", "on eight, at best"], rows)


def of_a_billion(shape: str) -> float:
    """Operations for a billion tokens of a measured shape ("mini, 128 tokens"), 15 % of them hidden."""
    preset, length = shape.removesuffix(" tokens").split(", ")
    return (
        operations(BertConfig.preset(preset), int(length), 1, round(0.15 * int(length))) / int(length) * 1e9
    )


def exa(count: float) -> str:
    return f"{count / 1e18:.2g}"


def time_of(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.0f} hours"
    return f"{60 * hours:.0f} minutes" if hours >= 1 / 30 else f"{3600 * hours:.0f} seconds"


def sent_bytes(parameters: int, gpus: int) -> float:
    """What each GPU sends in a step for the mean of float32 gradients (a ring of them)."""
    return 2 * (gpus - 1) / gpus * 4 * parameters


def sent_in_parts(parameters: int, gpus: int, passes: int) -> float:
    """What each GPU sends in a step at most when the model is in parts: parameters twice, gradients once."""
    return passes * 3 * (gpus - 1) / gpus * 4 * parameters


def parts(config: BertConfig) -> str:
    """The table of what a GPU holds and sends when it has the whole model, and when it has a part of it."""
    parameters, rows = count_parameters(config), []
    for gpus in (2, 8):
        for name, held, sent in (
            ("whole", 1, sent_bytes(parameters, gpus)),
            ("in parts", gpus, sent_in_parts(parameters, gpus, passes=1)),
        ):
            gigabytes = [f"{number:.1f} GB" for number in (resident_gigabytes(config) / held, sent / 1e9)]
            rows.append([f"{gpus}, {name}", *gigabytes])
    return table(["GPUs", "weights, gradients and means on each", "sent by each, at most"], rows)


def tokens_needed(parameters: int, gpus: int, gigabytes_a_second: float, seconds_a_token: float) -> float:
    """Tokens for each GPU in a step, so that sending takes a tenth of the time of computing."""
    return 10 * sent_bytes(parameters, gpus) / (gigabytes_a_second * 1e9) / seconds_a_token


def links(parameters: int, seconds_a_token: float) -> str:
    rows = [
        [
            name,
            f"{bandwidth:g} GB/s",
            f"{1000 * sent_bytes(parameters, gpus) / (bandwidth * 1e9):.1f} ms",
            f"{round(tokens_needed(parameters, gpus, bandwidth, seconds_a_token), -3):,.0f}",
        ]
        for name, (gpus, bandwidth) in LINKS.items()
    ]
    return table(["between", "bandwidth", "for one gradient", "tokens for each GPU in a step"], rows)


def count_parameters(config: BertConfig) -> int:
    with torch.device("meta"):  # the shapes without their numbers
        return sum(parameter.numel() for parameter in BertForPreTraining(config).parameters())


def resident_gigabytes(config: BertConfig) -> float:
    """Weights, gradients and the optimiser's means."""
    found = training_memory(config, count_parameters(config), rows=1, length=1, scored=1)
    return (found.weights + found.gradients + found.optimizer) / 1e9


def measured_speed() -> dict:
    return json.loads((ROOT / "results" / "gpu_speed.json").read_text(encoding="utf-8"))["figures"]


if __name__ == "__main__":
    PAGE.write_text(page(measured_speed()), encoding="utf-8")
