"""The forward pass of BERT-base, ours beside `transformers`', with the same random weights and batch.

python benchmarks/forward.py --rounds 15
"""

import argparse

import torch

from bert_edu import BertConfig, BertModel
from bert_edu.bench.material import theirs_like
from measure import alternate, medians, write_result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    ours = BertModel(BertConfig.preset(arguments.preset)).eval()
    theirs = theirs_like(ours, "BertModel").eval()
    ids = torch.randint(1, ours.config.vocab_size, (arguments.batch_size, arguments.length))
    lengths = torch.linspace(arguments.length // 2, arguments.length, arguments.batch_size).long()
    padded = (torch.arange(arguments.length) < lengths[:, None]).long()  # (B, T)

    figures = {"shape": f"{arguments.preset}, batch {arguments.batch_size} x {arguments.length}"}
    for name, mask in (("no mask", None), ("padded", padded)):
        with torch.inference_mode():
            difference = (
                ours(ids, attention_mask=mask).pooler_output - theirs(ids, attention_mask=mask).pooler_output
            )
            assert difference.abs().max() < 1e-4
            seconds = medians(
                alternate(
                    {
                        "ours": lambda mask=mask: ours(ids, attention_mask=mask),
                        "transformers": lambda mask=mask: theirs(ids, attention_mask=mask),
                    },
                    arguments.rounds,
                )
            )
        figures[name] = {
            "ours_ms": round(1000 * seconds["ours"], 1),
            "transformers_ms": round(1000 * seconds["transformers"], 1),
            "transformers_over_ours": round(seconds["transformers"] / seconds["ours"], 3),
        }
    write_result("forward_speed", figures)


if __name__ == "__main__":
    main()
