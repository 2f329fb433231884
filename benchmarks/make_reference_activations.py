"""The reference that `bert_edu.introspection` ships: what each module of a BERT of `transformers` computes.

    python benchmarks/make_reference_activations.py

Weights and batch come from a fixed seed; the folder is bert_edu/introspection/reference. Hardly two sizes
share a factor, the weights lie far from their first values, the batch has padding and two segments: so that
each part has something to do.
"""

import torch
import transformers

from bert_edu.introspection.stored import SHIPPED, write_reference

CONFIG = dict(
    vocab_size=89,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=37,
    max_position_embeddings=16,
    type_vocab_size=2,
    hidden_act="gelu",
    layer_norm_eps=1e-12,
)
B, T = 3, 7


def main():
    transformers.utils.logging.disable_progress_bar()
    generator = torch.Generator().manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**CONFIG)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    mask = (torch.arange(T) < torch.tensor([7, 4, 6])[:, None]).long()  # (B, T)
    batch = dict(
        input_ids=torch.randint(1, CONFIG["vocab_size"], (B, T), generator=generator) * mask,
        attention_mask=mask,
        token_type_ids=(torch.arange(T) > 2).long().expand(B, T).contiguous() * mask,
    )
    about = {
        "made_by": f"transformers {transformers.__version__}",
        "torch": torch.__version__.split("+")[0],
        "program": "python benchmarks/make_reference_activations.py",
        "precision": "float64; the weights are float32",
    }
    write_reference(model, batch, SHIPPED, about)
    size = sum(file.stat().st_size for file in SHIPPED.iterdir() if file.is_file())
    print(f"{size / 1000:.0f} kB in the folder {SHIPPED.name}")


if __name__ == "__main__":
    main()
