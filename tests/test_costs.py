"""What chapter 16 reckons, against what PyTorch counts: operations exactly, memory to a few per cent."""

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bert_edu import BertConfig, BertForPreTraining
from bert_edu.costs import forward_operations, training_memory, training_operations
from bert_edu.training.optim import adamw


def small_model(**sizes):
    settings = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0) | sizes
    torch.manual_seed(0)
    return BertForPreTraining(BertConfig(**settings))


def batch_for(model, rows, length):
    """Full rows; every seventh token is to be predicted. Also how many those are."""
    ids = torch.randint(5, model.config.vocab_size, (rows, length))
    labels = torch.full_like(ids, -100)
    labels[:, ::7] = ids[:, ::7]
    inputs = dict(
        attention_mask=torch.ones_like(ids), labels=labels, next_sentence_label=torch.zeros(rows).long()
    )
    return ids, inputs, int((labels != -100).sum())


WIDE = dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=4, intermediate_size=160, vocab_size=700)
TALL = dict(hidden_size=64, num_hidden_layers=5, num_attention_heads=2, intermediate_size=320, vocab_size=211)


@pytest.mark.parametrize("sizes, rows, length", [(WIDE, 3, 17), (TALL, 2, 40)])
def test_operations_are_those_that_pytorch_counts(sizes, rows, length):
    model = small_model(**sizes)
    ids, inputs, scored = batch_for(model, rows, length)
    shape = dict(rows=rows, length=length, scored=scored)
    with (
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
    ):  # it sees no fused attention
        loss = model(ids, **inputs).loss
        forward = counter.get_total_flops()
        loss.backward()
    assert forward == sum(forward_operations(model.config, **shape).values())
    assert counter.get_total_flops() == training_operations(model.config, **shape)


def test_an_encoder_alone_has_no_word_head():
    parts = forward_operations(BertConfig.preset("tiny"), rows=2, length=8)
    assert parts["word head"] == 0 and parts["feed-forward"] > 0


def measured_peak(model, ids, inputs):
    """Bytes of tensors at the highest point of a training step, AdamW's state there already."""
    optimizer = adamw(model, 1e-3)

    def step():
        output = model(ids, **inputs)  # kept, as in the training loop, which reads accuracies from it
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    tracker = MemTracker()
    tracker.track_external(model, optimizer)
    with tracker:
        step()
    return tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]


MINI = dict(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024)
TINY = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "sizes, rows, length, place",
    [
        (MINI | dict(vocab_size=8192), 24, 64, "turn"),
        (MINI | dict(vocab_size=30522), 2, 64, "end"),
        (TINY | dict(vocab_size=2000), 4, 256, "turn"),
    ],
)
def test_memory_is_what_pytorch_needs(sizes, rows, length, place, checkpointing):
    model = small_model(**sizes)
    ids, inputs, scored = batch_for(model, rows, length)
    parameters = sum(weight.numel() for weight in model.parameters())
    expected = training_memory(
        model.config, parameters, rows=rows, length=length, scored=scored, checkpointing=checkpointing
    )
    assert expected.peak == getattr(expected, place)
    model.bert.encoder.checkpointing = checkpointing
    assert expected.peak == pytest.approx(measured_peak(model, ids, inputs), rel=0.08)
