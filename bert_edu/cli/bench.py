"""bench: how fast and how frugal this package is on this machine, beside `transformers` (chapter 16)."""

import json
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from ..bench.material import Settings
from ..bench.report import PARTS, lines, measure
from ..bench.timing import has_transformers
from ..config import PRESETS
from ..pretrained import replacing
from ..training.loop import choose_device, choose_precision
from .program import AsJson, Device, app, say


@app.command("bench")
def bench_command(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PART", help=f"The parts to measure: {', '.join(PARTS)}; all, if none is named."
        ),
    ] = None,
    corpus: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="Where the texts come from.")
    ] = Settings.corpus,
    preset: Annotated[Literal[tuple(PRESETS)], typer.Option(help="Size of the model.")] = Settings.preset,
    vocab_size: Annotated[
        int, typer.Option(metavar="N", help="Rows of its embedding table.")
    ] = Settings.vocab_size,
    dropout: Annotated[
        float, typer.Option(min=0.0, max=0.99, metavar="X", help="Its dropout while it trains.")
    ] = Settings.dropout,
    max_length: Annotated[
        int, typer.Option(min=5, max=512, metavar="N", help="The most tokens of a text.")
    ] = Settings.max_length,
    batch_tokens: Annotated[
        int, typer.Option(min=5, metavar="N", help="Tokens in a batch.")
    ] = Settings.batch_tokens,
    texts: Annotated[int, typer.Option(min=1, metavar="N", help="Texts in a round.")] = Settings.texts,
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Measured rounds; medians are reported.")
    ] = Settings.rounds,
    target_loss: Annotated[
        float, typer.Option(min=0.1, metavar="X", help="The held-out loss that time_to_loss trains up to.")
    ] = Settings.target_loss,
    precision: Annotated[
        Literal["auto", "float32", "bf16", "fp16"], typer.Option(help="That of both sides.")
    ] = Settings.precision,
    device: Device = Settings.device,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads on a CPU.", show_default="as many as PyTorch takes"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures to this file too, as JSON.")
    ] = None,
    as_json: AsJson = False,
):
    """Measure speed and memory, beside transformers if that is installed.

    Both sides take turns on the same texts in the same precision; medians and ratios. Speed is in tokens a
    second, padding not counted. Measure in a quiet moment: whatever else computes makes the figures small,
    and on several threads also unsteady. The part time_to_loss trains two models and takes longest, about a
    quarter of an hour on two cores.

    \b
    Examples:
      bert-edu bench
      bert-edu bench pretraining memory --vocab-size 8192 --threads 1 --out bench.json
    """
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = choose_device(device)
    settings = Settings(
        corpus=corpus,
        preset=preset,
        vocab_size=vocab_size,
        dropout=dropout,
        max_length=max_length,
        batch_tokens=batch_tokens,
        texts=texts,
        rounds=rounds,
        target_loss=target_loss,
        precision=choose_precision(precision, chosen),
        device=str(chosen),
    )
    if not has_transformers():
        say("transformers is not installed, so there is nobody to compare with: pip install transformers")
    result = measure(parts or list(PARTS), settings, report=say)
    text = json.dumps(result, indent=2)
    if out is not None:
        with replacing(out) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    print(text if as_json else "\n".join(lines(result)))
