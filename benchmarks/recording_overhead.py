"""What `bert_edu.introspection.record` costs: a pre-training step without it, with it, with few modules.

python benchmarks/recording_overhead.py --rounds 20
"""

import argparse

import torch

from bert_edu import BertConfig, BertForPreTraining
from bert_edu.introspection import record
from bert_edu.training.optim import adamw
from measure import alternate, medians, write_result

FEW = ["bert.embeddings", "bert.encoder.layers.0", "bert.encoder.layers.1"]


def random_batch(config: BertConfig, rows: int, length: int) -> dict[str, torch.Tensor]:
    """(B, T) ids without padding, a label at 15 % of them, a next-sentence label per row."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, config.vocab_size, (rows, length), generator=generator)
    hidden = torch.rand(rows, length, generator=generator) < 0.85
    return dict(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=ids.masked_fill(hidden, -100),
        next_sentence_label=torch.randint(0, 2, (rows,), generator=generator),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    config = BertConfig.preset(arguments.preset, vocab_size=arguments.vocab_size)
    model = BertForPreTraining(config)
    optimizer = adamw(model, 1e-4)
    batch = random_batch(config, arguments.batch_size, arguments.length)

    def step():
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    def recorded(**options):
        with record(model, **options):
            step()

    contestants = {
        "without": step,
        "all": recorded,
        "all_kept": lambda: recorded(keep=True),
        "few": lambda: recorded(only=FEW),
    }
    seconds = medians(alternate(contestants, arguments.rounds))
    sizes = f"batch {arguments.batch_size} x {arguments.length}"
    figures = {
        "shape": f"{arguments.preset}, V {config.vocab_size}, {sizes}",
        "modules": len(list(model.modules())),
        "step_ms": round(1000 * seconds["without"], 1),
    }
    for name in ("all", "all_kept", "few"):
        figures[f"{name}_over_without"] = round(seconds[name] / seconds["without"], 3)
    write_result("recording_overhead", figures)


if __name__ == "__main__":
    main()
