"""A pre-training step of the mini shape: ours beside `transformers`' BertForPreTraining, on the same pairs.

    python benchmarks/pretraining_speed.py --corpus pydocs
    python benchmarks/pretraining_speed.py --corpus wiki-valid.txt --name pretraining_speed_wikipedia

Both train on the same sentence pairs, in the same precision, with fused attention and AdamW. `transformers`
gets them as its users give them: in random order, with its own collator, padded to the longest of a batch.
Ours groups them by length and sends only the hidden positions through the decoder. Counted are tokens without
padding.
"""

import argparse

import torch
import transformers

from bert_edu import BertConfig, BertForPreTraining, BertTokenizer
from bert_edu.data.corpus import load
from bert_edu.data.pretraining import Pair, collate, grouped_by_length, mask_tokens, sentence_pairs
from bert_edu.data.vocabulary import train_vocabulary
from bert_edu.training.loop import autocast_for, choose_device, train_step
from bert_edu.training.optim import adamw
from measure import alternate, medians, write_result

VOCABULARY, LENGTH, BATCH_TOKENS, PAIRS = 8192, 128, 4096, 256


def real_pairs(corpus: str) -> tuple[BertTokenizer, list[Pair]]:
    """A vocabulary from pydocs, the same for every text, and as many pairs of the text as one round takes."""
    text = load(corpus, "valid" if corpus == "pydocs" else "all")
    tokenizer = BertTokenizer(train_vocabulary(load("pydocs", "train"), VOCABULARY))
    pairs = sentence_pairs(
        list(text), tokenizer, max_length=LENGTH, generator=torch.Generator().manual_seed(0)
    )
    return tokenizer, [pair for pair, _ in zip(pairs, range(PAIRS))]


def our_round(tokenizer, pairs, config, autocast):
    """A function that trains on all pairs once."""
    model = BertForPreTraining(config).train()
    optimizer = adamw(model, 1e-4)
    generator = torch.Generator().manual_seed(1)

    def run():
        for group in grouped_by_length(pairs, BATCH_TOKENS, generator):
            batch = collate(group, tokenizer)
            batch.input_ids, batch.labels = mask_tokens(batch.input_ids, tokenizer, generator=generator)
            train_step(
                model,
                optimizer,
                [batch],
                mask_token_id=tokenizer.mask_token_id,
                clip_norm=1.0,
                autocast=autocast,
            )

    return run


def their_round(tokenizer, pairs, config, folder, autocast):
    """The same with `transformers`: its model, its collator, its attention."""
    settings = transformers.BertConfig(**config.to_dict())
    settings._attn_implementation = "sdpa"
    model = transformers.BertForPreTraining(settings).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    fast = transformers.BertTokenizer.from_pretrained(folder)
    collator = transformers.DataCollatorForLanguageModeling(fast, mlm_probability=0.15)
    rows = [as_features(pair, tokenizer) for pair in pairs]
    size = BATCH_TOKENS // LENGTH
    generator = torch.Generator().manual_seed(1)

    def run():
        order = torch.randperm(len(rows), generator=generator).tolist()
        for start in range(0, len(order), size):
            batch = collator([dict(rows[number]) for number in order[start : start + size]])
            with autocast():
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return run


def as_features(pair: Pair, tokenizer: BertTokenizer) -> dict:
    batch = collate([pair], tokenizer)
    return {
        "input_ids": batch.input_ids[0].tolist(),
        "token_type_ids": batch.token_type_ids[0].tolist(),
        "attention_mask": batch.attention_mask[0].tolist(),
        "next_sentence_label": pair.next_sentence_label,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="pydocs", help="pydocs or a text file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument(
        "--folder", default="tokenizer", help="where to leave the vocabulary for transformers"
    )
    parser.add_argument("--name", default="pretraining_speed", help="of the result")
    arguments = parser.parse_args()
    tokenizer, pairs = real_pairs(arguments.corpus)
    tokenizer.save_pretrained(arguments.folder)
    tokens = sum(len(pair) for pair in pairs)
    autocast = autocast_for(arguments.precision, choose_device("cpu"))
    figures = {"shape": f"mini, V {len(tokenizer):,}, at most {LENGTH} tokens a row, {BATCH_TOKENS} a batch"}
    figures |= {"pairs": len(pairs), "tokens": tokens, "precision": arguments.precision}
    for dropout in (0.1, 0.0):
        config = BertConfig.preset(
            "mini",
            vocab_size=len(tokenizer),
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        contestants = {
            "ours": our_round(tokenizer, pairs, config, autocast),
            "transformers": their_round(tokenizer, pairs, config, arguments.folder, autocast),
        }
        found = medians(alternate(contestants, arguments.rounds))
        figures[f"dropout {dropout:g}"] = {
            "ours_tokens_per_second": round(tokens / found["ours"]),
            "transformers_tokens_per_second": round(tokens / found["transformers"]),
            "ratio": round(found["transformers"] / found["ours"], 2),
        }
    write_result(arguments.name, figures)


if __name__ == "__main__":
    main()
