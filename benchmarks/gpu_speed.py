"""A pre-training step on a GPU: ours beside `transformers`, both compiled, in bf16, on the same batches.

    python benchmarks/gpu_speed.py mini:128 base:512

Full rows, 15 % of the tokens hidden. Each side gets what makes it fast: fused attention, `torch.compile`
with fixed shapes, fused AdamW. They alternate in one process; medians. The share of the machine counts the
operations that the mathematics asks for, in the encoder and in a decoder that reads the hidden positions
only, and divides by what a large product of two matrices reaches on the same GPU.
"""

import argparse

import torch
import transformers

from bert_edu import BertConfig, BertForPreTraining
from bert_edu.bench.timing import matrix_product, wait
from bert_edu.costs import training_operations
from bert_edu.data.pretraining import PreTrainingBatch
from bert_edu.heads import IGNORE, positions_to_score
from bert_edu.training.loop import train_step
from bert_edu.training.optim import adamw
from measure import alternate, medians, write_result

MASK = 103  # in the published vocabularies; any number would do here


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="+", help="PRESET:LENGTH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="in a round")
    parser.add_argument("--batch-tokens", type=int, default=65536)
    parser.add_argument("--vocab-size", type=int, default=30522)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--name", default="gpu_speed", help="of the result")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this measures a GPU, and PyTorch finds none here")
    torch.set_float32_matmul_precision("high")
    peak = matrix_peak(arguments.device)
    figures = {
        "gpu": gpu_name(arguments.device),
        "precision": "bf16",
        "matrix_peak_tflops": round(peak / 1e12, 1),
    }
    for shape in arguments.shapes:
        preset, length = shape.split(":")
        figures[f"{preset}, {length} tokens"] = compared(preset, int(length), arguments, peak)
        write_result(arguments.name, figures)  # what is measured is kept, whatever happens to the next one


def compared(preset: str, length: int, arguments, peak: float) -> dict:
    """Tokens a second of both, their ratio, the memory of each, and our share of the machine's peak."""
    config = BertConfig.preset(
        preset,
        vocab_size=arguments.vocab_size,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    batch = full_batch(config, arguments.batch_tokens // length, length).to(arguments.device)
    tokens = batch.input_ids.numel() * arguments.steps
    contestants, memory = {}, {}
    for name, make in (("ours", our_step), ("transformers", their_step)):
        step = make(config, batch, arguments.device)
        contestants[name] = repeated(step, arguments.steps, arguments.device)
        contestants[name]()  # compiles
        memory[name] = peak_memory(step, arguments.device)
    found = medians(alternate(contestants, arguments.rounds))
    of_a_step = training_operations(
        config, rows=len(batch.input_ids), length=length, scored=len(batch.scored_positions)
    )
    operations = of_a_step * arguments.steps / found["ours"]  # a second
    return {
        "rows": len(batch.input_ids),
        "ours_tokens_per_second": round(tokens / found["ours"]),
        "transformers_tokens_per_second": round(tokens / found["transformers"]),
        "ratio": round(found["transformers"] / found["ours"], 2),
        "ours_peak_gigabytes": memory["ours"],
        "transformers_peak_gigabytes": memory["transformers"],
        "ours_share_of_matrix_peak": round(operations / peak, 3),
    }


def full_batch(config: BertConfig, rows: int, length: int) -> PreTrainingBatch:
    """Rows without padding; in each, every seventh token is hidden."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, config.vocab_size, (rows, length), generator=generator)  # (B, T)
    labels = torch.full_like(ids, IGNORE)
    labels[:, ::7] = ids[:, ::7]
    ids = torch.where(labels == IGNORE, ids, MASK)
    half = torch.arange(length) >= length // 2
    return PreTrainingBatch(
        input_ids=ids,
        token_type_ids=half.long().repeat(rows, 1),
        attention_mask=torch.ones_like(ids),
        next_sentence_label=torch.randint(2, (rows,), generator=generator),
        labels=labels,
        scored_positions=positions_to_score(labels),
    )


def our_step(config: BertConfig, batch: PreTrainingBatch, device: str):
    """One step of our training loop."""
    model = BertForPreTraining(config).to(device).train()
    optimizer = adamw(model, 1e-4)
    compiled = torch.compile(model)

    def step():
        train_step(compiled, optimizer, [batch], mask_token_id=MASK, clip_norm=1.0, autocast=autocast(device))

    return step


def their_step(config: BertConfig, batch: PreTrainingBatch, device: str):
    """One step as `transformers`' own examples write it, compiled as a whole too."""
    settings = transformers.BertConfig(**config.to_dict())
    settings._attn_implementation = "sdpa"
    model = transformers.BertForPreTraining(settings).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    compiled = torch.compile(model)

    def step():
        with autocast(device)():
            loss = compiled(
                input_ids=batch.input_ids,
                token_type_ids=batch.token_type_ids,
                attention_mask=batch.attention_mask,
                labels=batch.labels,
                next_sentence_label=batch.next_sentence_label,
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def autocast(device: str):
    """A function that opens the region of mixed precision."""
    return lambda: torch.autocast(device, dtype=torch.bfloat16)


def repeated(step, steps: int, device: str):
    """A function that takes so many steps and waits for the GPU."""

    def run():
        for _ in range(steps):
            step()
        wait(device)

    return run


def peak_memory(step, device: str) -> float | None:
    """Gigabytes that one more step takes at most, weights and optimiser of that model included."""
    if device != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return round(torch.cuda.max_memory_allocated() / 1e9, 2)


def matrix_peak(device: str, dtype: torch.dtype = torch.bfloat16) -> float:
    """Operations a second of a large product: the median of five."""
    product, operations = matrix_product(device, dtype)
    return operations / medians(alternate({"product": product}, 5))["product"]


def gpu_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "none"


if __name__ == "__main__":
    main()
