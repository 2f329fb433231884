"""The training engine: schedules, groups, accumulation, metrics, checkpoints, and runs that can be killed."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import bert_edu
from bert_edu import BertConfig, BertForPreTraining, BertTokenizer
from bert_edu.data.pretraining import Pair, PreTrainingBatches, TokenStore, collate, mask_tokens
from bert_edu.heads import IGNORE
from bert_edu.training import checkpoint, loop
from bert_edu.training.loop import Recipe, TrainingError, prefetched, pretrain, train_step
from bert_edu.training.metrics import NeighbourCounts, accuracy_by_fate, evaluate_pretraining, unigram_entropy
from bert_edu.training.optim import (
    Muon,
    adamw,
    google_warmup_decay,
    linear_warmup_decay,
    muon,
    orthogonalised,
    parameter_groups,
)
from helpers import randomise

WORDS = [f"w{number}" for number in range(60)]
TOKENIZER = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
CONFIG = BertConfig(
    vocab_size=len(TOKENIZER),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=48,
    max_position_embeddings=32,
)


def corpus(count=40, seed=0):
    """Sentences in which each word is followed by the next one of the list: something to learn."""
    draw = torch.Generator().manual_seed(seed)

    def sentence():
        start = int(torch.randint(0, 60, (), generator=draw))
        return " ".join(WORDS[(start + step) % 60] for step in range(6))

    return [[sentence() for _ in range(5)] for _ in range(count)]


STORE = TokenStore.build(corpus(), TOKENIZER)


def fresh_model(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return BertForPreTraining(config)


def recipe(**changes):
    return Recipe(
        **({"max_steps": 12, "batch_tokens": 256, "max_length": 32, "checkpoint_every": 5} | changes)
    )


def run(out, resume=False, model=None, **changes):
    model = model or fresh_model()
    lines = []
    pretrain(model, TOKENIZER, STORE, out, recipe(**changes), resume=resume, report=lines.append)
    return model, lines


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def assert_equal_weights(a, b):
    for (name, left), (_, right) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert torch.equal(left, right), name


# Schedules and groups


def test_the_triangle():
    found = [10 * linear_warmup_decay(step, 2, 10) for step in range(11)]
    assert found == pytest.approx([0, 5, 10, 8.75, 7.5, 6.25, 5, 3.75, 2.5, 1.25, 0])


def test_googles_schedule_jumps():
    found = [10 * google_warmup_decay(step, 2, 10) for step in range(11)]
    assert found == pytest.approx([0, 5, 8, 7, 6, 5, 4, 3, 2, 1, 0])


@pytest.mark.parametrize("arguments", [(-1, 2, 10), (0, 11, 10), (0, 0, 0)])
def test_impossible_schedules(arguments):
    with pytest.raises(ValueError, match="warmup"):
        linear_warmup_decay(*arguments)


def test_every_parameter_is_in_exactly_one_group():
    model = fresh_model()
    decayed, plain = parameter_groups(model, 0.01)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    plain_names = {names[id(parameter)] for parameter in plain["params"]}
    assert decayed_names | plain_names == set(names.values()) and not decayed_names & plain_names
    assert decayed["weight_decay"] == 0.01 and plain["weight_decay"] == 0.0
    for name in names.values():
        assert (name in plain_names) == (name.endswith("bias") or "norm" in name), name
    assert "bert.embeddings.token.weight" in decayed_names


def test_weight_decay_is_decoupled():
    layer = torch.nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    optimizer = adamw(layer, 0.1, weight_decay=0.5)
    layer(torch.zeros(1, 3)).sum().backward()  # the weights' gradient is zero: only decay moves them
    optimizer.step()
    torch.testing.assert_close(layer.weight, before * (1 - 0.1 * 0.5))


def test_adamw_has_berts_constants_unless_told_otherwise():
    usual, other = adamw(fresh_model(), 0.1), adamw(fresh_model(), 0.2, weight_decay=0.3, betas=(0.5, 0.6))
    assert [group["weight_decay"] for group in usual.param_groups] == [0.01, 0.0]
    assert [group["weight_decay"] for group in other.param_groups] == [0.3, 0.0]
    for group in usual.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.1, (0.9, 0.999), 1e-6)
    for group in other.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.2, (0.5, 0.6), 1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_recipe_reaches_the_optimizer(name, tmp_path, monkeypatch):
    made = []
    make = loop.OPTIMIZERS[name]
    monkeypatch.setitem(loop.OPTIMIZERS, name, lambda *a, **b: made.append(make(*a, **b)) or made[-1])
    run(tmp_path, optimizer=name, weight_decay=0.125, betas=(0.5, 0.75), max_steps=2)
    groups = made[0].param_groups
    assert {group["weight_decay"] for group in groups} == {0.125, 0.0}
    assert {group["betas"] for group in groups if "betas" in group} == {(0.5, 0.75)}


# Muon


@pytest.mark.parametrize("shape", [(8, 8), (8, 20), (20, 8)])
def test_orthogonalised_keeps_the_directions_and_evens_out_their_lengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(matrix)
    U, _, V = torch.linalg.svd(matrix, full_matrices=False)
    lengths = torch.linalg.svdvals(found)
    assert lengths.min() > 0.6 and lengths.max() < 1.25
    turned = U.T @ found @ V.T  # diagonal if the directions are the same
    torch.testing.assert_close(turned, turned.diagonal().diag(), rtol=0, atol=1e-4)
    torch.testing.assert_close(orthogonalised(1000 * matrix), found, rtol=0, atol=1e-4)


def test_muons_first_two_steps_by_hand():
    start, first, second = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1))
    weight = torch.nn.Parameter(start.clone())
    optimizer = Muon([weight], lr=0.1, weight_decay=0.5, momentum=0.9)
    expected, average = start, torch.zeros(6, 4)
    for gradient in (first, second):
        weight.grad = gradient.clone()
        optimizer.step()
        average = 0.9 * average + 0.1 * gradient
        ahead = 0.1 * gradient + 0.9 * average
        step = orthogonalised(ahead) * 0.2 * math.sqrt(6)
        assert float(step.square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)  # as large as AdamW's
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * step
        torch.testing.assert_close(weight.detach(), expected)


def test_muon_treats_stacked_matrices_each_on_its_own():
    pieces = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(2))
    stacked = torch.nn.Parameter(torch.zeros(12, 4))
    single = [torch.nn.Parameter(torch.zeros(4, 4)) for _ in range(3)]
    stacked.grad = pieces.reshape(12, 4)
    for parameter, piece in zip(single, pieces):
        parameter.grad = piece
    Muon([{"params": [stacked], "parts": 3}], lr=1.0).step()
    Muon(single, lr=1.0).step()
    torch.testing.assert_close(stacked.detach(), torch.cat([parameter.detach() for parameter in single]))


def test_muon_takes_the_layers_matrices_and_adamw_the_rest():
    model = fresh_model()
    both = muon(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    of_muon, of_adamw = (
        [names[id(p)] for group in one.param_groups for p in group["params"]] for one in both.optimizers
    )
    assert sorted(of_muon + of_adamw) == sorted(names.values())
    assert set(of_muon) == {
        name for name, p in model.named_parameters() if "encoder.layers" in name and p.dim() == 2
    }
    groups = both.optimizers[0].param_groups
    assert {names[id(p)].split(".")[-2] for p in groups[0]["params"]} == {"query_key_value"}
    assert [group["parts"] for group in groups] == [3, 1]


# One step


def masked(pairs, seed=0):
    batch = collate(pairs, TOKENIZER)
    batch.input_ids, batch.labels = mask_tokens(
        batch.input_ids, TOKENIZER, generator=torch.Generator().manual_seed(seed)
    )
    return batch


def rows(batch, start, end):
    cut = {name: value[start:end] for name, value in vars(batch).items() if value is not None}
    return type(batch)(**cut)


def test_small_batches_make_the_gradient_of_the_large_one():
    large = unequal_batch()
    counts = (large.labels != IGNORE).sum(1)
    assert counts.min() < counts.max()  # unequal numbers of masked tokens
    parts = [rows(large, 0, 1), rows(large, 1, 4), rows(large, 4, 9)]

    def gradients(batches):
        model = fresh_model().double().eval()
        randomise(model)
        model.double()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        sums = train_step(model, optimizer, batches, mask_token_id=TOKENIZER.mask_token_id, clip_norm=1e9)
        return {name: before[name] - p.detach() for name, p in model.named_parameters()}, sums

    (whole, whole_sums), (in_parts, part_sums) = gradients([large]), gradients(parts)
    for name in whole:
        torch.testing.assert_close(
            in_parts[name], whole[name], rtol=0, atol=1e-6, msg=lambda text: f"{name}: {text}"
        )
    for name in whole_sums:
        assert float(whole_sums[name]) == pytest.approx(float(part_sums[name]), rel=1e-6), name


TWO_PROCESSES = """
    import sys
    sys.path.insert(0, {tests!r})
    import torch
    import test_training as t
    from torch import distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    rank = int(sys.argv[1])
    dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
    large = t.unequal_batch()
    cuts = [[0, 1, 2], [2, 6, 9]][rank]
    parts = [t.rows(large, start, end) for start, end in zip(cuts, cuts[1:])]
    model = t.fresh_model().eval()
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    sums = t.train_step(parallel, optimizer, parts, mask_token_id=4, clip_norm=1e9)
    assert dist.is_initialized()
    torch.save([model.state_dict(), sums], sys.argv[3])
    dist.destroy_process_group()
"""


def unequal_batch():
    draw = torch.Generator().manual_seed(2)
    return masked(
        [
            Pair(torch.randint(5, 65, (3 + 2 * n,), generator=draw).tolist(), [7, 8, 9], n % 2)
            for n in range(9)
        ]
    )


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="PyTorch was built without gloo")
def test_two_processes_make_the_step_of_one(tmp_path):
    """Each of them accumulates two batches, all of different sizes: the single process takes them at once."""
    model = fresh_model().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    expected = train_step(
        model, optimizer, [unequal_batch()], mask_token_id=TOKENIZER.mask_token_id, clip_norm=1e9
    )
    script = textwrap.dedent(TWO_PROCESSES).format(tests=str(Path(__file__).parent))
    environment = os.environ | {"PYTHONPATH": str(Path(bert_edu.__file__).parent.parent)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rank), str(tmp_path / "meet"), str(tmp_path / f"{rank}.pt")],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            assert rank.wait(timeout=120) == 0, rank.stderr.read()
    finally:
        for rank in ranks:
            rank.kill()
    for rank in range(2):
        weights, sums = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, weight in model.state_dict().items():
            torch.testing.assert_close(
                weights[name], weight, rtol=0, atol=1e-6, msg=lambda text: f"{name}: {text}"
            )
        for name in ("mlm_loss", "nsp_loss", "gradient_norm"):
            assert float(sums[name]) == pytest.approx(float(expected[name]), rel=1e-4), name
        assert float(sums["mask_right"] / sums["mask_total"]) == pytest.approx(
            float(expected["mask_right"] / expected["mask_total"])
        )


def test_clipping_is_global():
    model = fresh_model()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    batch = masked([Pair([10, 11, 12, 13], [14, 15], 0)])
    sums = train_step(model, optimizer, [batch], mask_token_id=4, clip_norm=0.01)
    moved = math.sqrt(sum(float((p.detach() - b).square().sum()) for p, b in zip(model.parameters(), before)))
    assert float(sums["gradient_norm"]) > 0.02 and moved == pytest.approx(0.01, rel=1e-3)


def test_it_learns(tmp_path):
    """Documents that repeat one word: whoever reads the neighbours knows the hidden word."""
    repeating = [[" ".join([word] * 6)] * 3 for word in WORDS for _ in range(4)]
    config = BertConfig(
        **(CONFIG.to_dict() | dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    )
    lines = []
    pretrain(
        fresh_model(config=config),
        TOKENIZER,
        TokenStore.build(repeating, TOKENIZER),
        tmp_path,
        recipe(max_steps=200, batch_tokens=512, learning_rate=5e-3, checkpoint_every=1000),
        report=lines.append,
    )
    found = metrics(tmp_path)
    assert found[0]["mlm_loss"] == pytest.approx(math.log(65), abs=0.35)
    assert np.mean([line["mask_accuracy"] for line in found[-10:]]) > 0.8
    assert lines[0].startswith("step      1")


# Precision


@pytest.mark.parametrize(
    "seconds, expected", [({"bf16": 1, "float32": 3}, "bf16"), ({"bf16": 3, "float32": 3}, "float32")]
)
def test_a_cpu_uses_bf16_only_where_it_is_faster(seconds, expected, monkeypatch):
    by_type = {torch.bfloat16: seconds["bf16"], torch.float32: seconds["float32"]}
    monkeypatch.setattr(loop, "seconds_of_a_product", by_type.get)
    assert loop.choose_precision("auto", torch.device("cpu")) == expected
    assert loop.choose_precision("fp16", torch.device("cpu")) == "fp16"
    with pytest.raises(ValueError, match="auto, float32, bf16 or fp16"):
        loop.choose_precision("half", torch.device("cpu"))


@pytest.mark.parametrize(
    "device, precision, length, fused",
    [
        ("cpu", "bf16", 128, False),
        ("cpu", "bf16", 129, True),
        ("cpu", "float32", 128, True),
        ("cuda", "bf16", 128, True),
    ],
)
def test_plain_products_replace_the_fused_kernel_only_where_they_are_faster(device, precision, length, fused):
    with loop.attention_kernels(torch.device(device), precision, length):
        assert torch.backends.cuda.flash_sdp_enabled() == fused  # the switch holds for the CPU's kernel too
    assert torch.backends.cuda.flash_sdp_enabled()


def test_a_training_step_runs_in_the_region_of_its_own_rows(tmp_path, monkeypatch):
    asked = []
    own = loop.attention_kernels

    def attention_kernels_that_tell(*arguments):
        asked.append(arguments)
        return own(*arguments)

    monkeypatch.setattr(loop, "attention_kernels", attention_kernels_that_tell)
    run(tmp_path / "run", max_steps=3, precision="bf16", device="cpu")
    devices, precisions, lengths = zip(*asked)
    assert {str(device) for device in devices} == {"cpu"} and set(precisions) == {"bf16"}
    assert len(lengths) == 3 and all(5 <= length <= recipe().max_length for length in lengths)


def test_a_resumed_run_keeps_the_precision_it_chose(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "seconds_of_a_product", {torch.bfloat16: 1, torch.float32: 3}.get)
    expected, _ = run(tmp_path / "straight")
    log = loop.Run.log

    def log_and_break_off(self, *arguments):
        log(self, *arguments)
        if self.step == 7:
            raise RuntimeError("the power failed")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power"):
        patch.setattr(loop.Run, "log", log_and_break_off)
        run(tmp_path / "resumed")
    monkeypatch.setattr(loop, "seconds_of_a_product", {torch.bfloat16: 3, torch.float32: 1}.get)
    resumed, _ = run(tmp_path / "resumed", resume=True)
    assert_equal_weights(resumed, expected)
    anew, _ = run(tmp_path / "anew")
    assert not torch.equal(anew.nsp_head.weight, expected.nsp_head.weight)


# Metrics


def test_accuracy_by_fate():
    labels = torch.tensor([10, 11, 12, 13, -100, -100])  # the last two are not scored
    shown = torch.tensor([4, 4, 12, 30, 2, 4])
    logits = torch.eye(65)[[10, 9, 12, 9, 2, 4]]
    found = {
        name: (int(right), int(total))
        for name, (right, total) in accuracy_by_fate(logits, labels, shown, 4).items()
    }
    assert found == {"mask": (1, 2), "kept": (1, 1), "random": (0, 1)}


def valid_batches(count=6, seed=9):
    stream = PreTrainingBatches(
        TokenStore.build(corpus(30, seed=50), TOKENIZER),
        TOKENIZER,
        max_length=32,
        batch_tokens=256,
        seed=seed,
        share_masked=1.0,
        share_random=0.0,
    )
    batches = stream.read_from()
    return [next(batches)[1] for _ in range(count)]


def test_evaluation_against_a_plain_recount():
    model, batches = fresh_model(), valid_batches()
    randomise(model)
    model.train()
    found = evaluate_pretraining(model, batches, TOKENIZER)
    assert model.training
    model.eval()
    right = total = characters = 0
    pairs = []  # (label, whether the model says so)
    nats = 0.0
    for batch in batches:
        with torch.no_grad():
            output = model(
                batch.input_ids, attention_mask=batch.attention_mask, token_type_ids=batch.token_type_ids
            )
        for row, column in (batch.labels != IGNORE).nonzero().tolist():
            assert batch.input_ids[row, column] == TOKENIZER.mask_token_id
            label, logits = int(batch.labels[row, column]), output.prediction_logits[row, column].double()
            right += int(logits.argmax()) == label
            nats -= float(logits.log_softmax(-1)[label])
            characters += len(TOKENIZER.id_to_token(label))
            total += 1
        said = output.seq_relationship_logits.argmax(-1).tolist()
        pairs += [(label, label == answer) for label, answer in zip(batch.next_sentence_label.tolist(), said)]
    by_label = [np.mean([right for label, right in pairs if label == wanted]) for wanted in (0, 1)]
    assert 0 < by_label[0] != by_label[1]  # or the two measures below could not be told apart
    assert found == pytest.approx(
        {
            "mask_accuracy": right / total,
            "mlm_loss": nats / total,
            "perplexity": math.exp(nats / total),
            "bits_per_character": nats / math.log(2) / characters,
            "nsp_accuracy": np.mean([right for _, right in pairs]),
            "nsp_balanced_accuracy": np.mean(by_label),
            "scored": total,
        },
        rel=1e-4,
    )


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="nothing to measure"):
        evaluate_pretraining(fresh_model(), [], TOKENIZER)


def test_unigram_entropy_by_hand():
    store = TokenStore.build([["w1 w1 w2 w3"]], TOKENIZER)
    assert unigram_entropy(store, len(TOKENIZER)) == pytest.approx(1.5 * math.log(2))


def test_neighbour_counts_by_hand():
    a, b, c, d = (TOKENIZER.token_to_id(f"w{number}") for number in range(4))
    store = TokenStore.build([["w0 w1 w2", "w0 w1 w2"], ["w0 w3 w2 w2"], ["w3 w1 w0 w0 w0"]], TOKENIZER)
    counts = NeighbourCounts(store, TOKENIZER)
    assert counts.most_frequent == a
    hidden, unseen = TOKENIZER.mask_token_id, TOKENIZER.token_to_id("w9")
    left = np.array([a, a, hidden, d, unseen])
    right = np.array([c, hidden, c, unseen, unseen])
    found = {name: guess.tolist() for name, guess in counts.predict(left, right).items()}
    # after w0: w1 twice, w3 once, w0 twice (of equals the smaller id); before w2: w1 twice, w3 once, w2 once
    assert found["most frequent word"] == [a] * 5
    assert found["left bigram"] == [a, a, a, b, a]
    assert found["right bigram"] == [b, a, b, a, a]
    assert found["two-sided trigram"] == [b, a, b, b, a]


def test_baselines_see_only_what_the_model_sees():
    counts = NeighbourCounts(STORE, TOKENIZER)
    found = counts.accuracy(valid_batches())
    assert found["two-sided trigram"] > found["most frequent word"] + 0.3  # the text is w1 w2 w3 ...
    everything_hidden = valid_batches()
    for batch in everything_hidden:
        batch.input_ids = torch.full_like(batch.input_ids, TOKENIZER.mask_token_id)
    blind = counts.accuracy(everything_hidden)
    assert len(set(blind.values())) == 1


# Runs


def test_a_run_is_not_written_over(tmp_path):
    run(tmp_path, max_steps=5)
    before = metrics(tmp_path)
    with pytest.raises(ValueError, match="holds a run already.*--resume"):
        run(tmp_path, max_steps=5)
    assert metrics(tmp_path) == before


def test_two_runs_with_one_seed_are_equal(tmp_path):
    first, _ = run(tmp_path / "a")
    second, _ = run(tmp_path / "b")
    assert_equal_weights(first, second)
    other, _ = run(tmp_path / "c", seed=1)
    assert not torch.equal(other.nsp_head.weight, first.nsp_head.weight)


def test_a_run_folder_holds_what_it_promises(tmp_path):
    model, _ = run(tmp_path, evaluate_every=4)
    again = BertForPreTraining.from_pretrained(tmp_path)
    assert_equal_weights(again, model)
    assert len(BertTokenizer.from_pretrained(tmp_path)) == len(TOKENIZER)
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert set(lines[0]) >= {
        "mlm_loss",
        "nsp_loss",
        "mask_accuracy",
        "nsp_accuracy",
        "learning_rate",
        "gradient_norm",
        "tokens_per_second",
    }
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["step-00000012", "step-00000010"]


SCRIPT = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    import test_training as t
    from bert_edu.training import loop
    kill_at, resume, optimizer = int(sys.argv[2]), sys.argv[3] == "resume", sys.argv[4]
    log = loop.Run.log
    def log_and_die(self, *arguments):
        log(self, *arguments)
        if self.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    loop.Run.log = log_and_die
    t.run(Path(sys.argv[1]), resume=resume, accumulate=2, optimizer=optimizer)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize(
    "kills, optimizer", [([1], "adamw"), ([7], "adamw"), ([3, 6, 12], "adamw"), ([7], "muon")], ids=str
)
def test_killed_and_resumed_runs_end_bitwise_equal(kills, optimizer, tmp_path):
    # dropout is on: 0.1 everywhere
    expected, _ = run(tmp_path / "straight", accumulate=2, optimizer=optimizer)
    script = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent))
    environment = os.environ | {"PYTHONPATH": str(Path(bert_edu.__file__).parent.parent)}

    def start(kill_at, resume):
        arguments = [str(tmp_path / "killed"), str(kill_at), "resume" if resume else "fresh", optimizer]
        return subprocess.run(
            [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True
        )

    for number, step in enumerate(kills):
        assert start(step, resume=number > 0).returncode == -signal.SIGKILL
    last = start(-1, resume=True)
    assert last.returncode == 0, last.stderr
    found = BertForPreTraining.from_pretrained(tmp_path / "killed")
    assert_equal_weights(found, expected)

    def curve(out):
        return [(line["step"], line["mlm_loss"]) for line in metrics(out)]

    assert curve(tmp_path / "killed") == curve(tmp_path / "straight")


def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path):
    expected, _ = run(tmp_path / "a")
    run(tmp_path / "b")
    newest = checkpoint.list_checkpoints(tmp_path / "b")[0]
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    model, lines = run(tmp_path / "b", resume=True)
    assert (
        lines[0] == "step-00000012 is damaged (weights.safetensors is not what was written): passing it over"
    )
    assert "resuming after step 10" in lines[1]
    assert_equal_weights(model, expected)


@pytest.mark.parametrize(
    "damage, words",
    [
        (
            lambda folder: (folder / "state.json").write_text('{"step": 1'),
            "state.json is missing or cut short",
        ),
        (lambda folder: (folder / "optimizer.safetensors").unlink(), "optimizer.safetensors is missing"),
    ],
)
def test_other_damage(tmp_path, damage, words):
    run(tmp_path)
    damage(checkpoint.list_checkpoints(tmp_path)[0])
    assert words in run(tmp_path, resume=True)[1][0]


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    run(tmp_path, max_steps=5)

    def full(*arguments):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="checkpoint of step 10 could not be written.*No space left.*resume"):
        run(tmp_path, resume=True, max_steps=10)
    monkeypatch.undo()
    whole = checkpoint.newest_whole(tmp_path)
    assert whole.name == "step-00000005"
    assert not list((tmp_path / "checkpoints").glob(".partial*"))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    run(tmp_path, max_steps=5, clip_norm=1e9)
    monkeypatch.setattr(Recipe, "learning_rate_at", lambda *arguments: 1e30)
    with pytest.raises(TrainingError, match=r"not finite at step \d+ \(epoch 0, block 0, batch \d+\)"):
        run(tmp_path, resume=True, max_steps=500, clip_norm=1e9, checkpoint_every=1000)
    assert checkpoint.newest_whole(tmp_path).name == "step-00000005"


def test_ctrl_c_saves(tmp_path, monkeypatch):
    from bert_edu.training import loop

    log = loop.Run.log

    def log_and_interrupt(self, *arguments):
        log(self, *arguments)
        if self.step == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop.Run, "log", log_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    assert checkpoint.newest_whole(tmp_path).name == "step-00000007"
    resumed, _ = run(tmp_path, resume=True)
    assert_equal_weights(resumed, run(tmp_path / "straight")[0])


def test_tensorboard_shows_what_the_metrics_hold(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pretrain(
        fresh_model(),
        TOKENIZER,
        STORE,
        tmp_path,
        recipe(evaluate_every=6),
        valid=valid_batches(1),
        tensorboard=True,
        report=lambda line: None,
    )
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/mlm_loss")]
    training = [line for line in metrics(tmp_path) if "mlm_loss" in line]
    assert shown == [(line["step"], pytest.approx(line["mlm_loss"])) for line in training]
    assert [event.step for event in events.Scalars("valid/mask_accuracy")] == [6, 12]


def test_without_tensorboard_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        pretrain(fresh_model(), TOKENIZER, STORE, tmp_path / "out", recipe(), tensorboard=True)
    assert not (tmp_path / "out").exists()


def test_a_run_with_fixed_shapes_and_other_processes_learns_and_resumes(tmp_path, monkeypatch):
    """What a compiled run does, with the compiler left out: a GPU's test compiles."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    changes = {"compile": True, "workers": 1, "batch_tokens": 256}
    expected, _ = run(tmp_path / "straight", **changes)
    assert compiled == [expected]
    assert len({line["tokens"] for line in metrics(tmp_path / "straight")}) > 1  # padding is not counted
    run(tmp_path / "cut", max_steps=12, **changes)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-00000012")
    resumed, _ = run(tmp_path / "cut", resume=True, **changes | {"workers": 0})
    assert_equal_weights(resumed, expected)


def test_steps_whose_numbers_wait_are_all_read(tmp_path, monkeypatch):
    """As on a GPU, whose numbers are read only now and then."""
    expected, _ = run(tmp_path / "read at once")
    read = loop.Run.read
    calls = []

    def late(self):
        calls.append(len(self.waiting))
        if len(self.waiting) >= 4 or self.step in (5, 10, 12):  # 5, 10 and 12: a checkpoint asks for them
            read(self)

    monkeypatch.setattr(loop.Run, "read", late)
    run(tmp_path / "read late")
    left_out = ("tokens_per_second",)
    for found, line in zip(metrics(tmp_path / "read late"), metrics(tmp_path / "read at once"), strict=True):
        assert {k: v for k, v in found.items() if k not in left_out} == {
            k: v for k, v in line.items() if k not in left_out
        }
    assert max(calls) == 4


def test_the_share_of_predicted_tokens_is_the_recipes(tmp_path, monkeypatch):
    seen = []
    log = loop.Run.log

    def counting(self, sums, learning_rate, tokens):
        seen.append((sum(int(sums[f"{fate}_total"]) for fate in ("mask", "kept", "random")), tokens))
        log(self, sums, learning_rate, tokens)

    monkeypatch.setattr(loop.Run, "log", counting)
    run(tmp_path / "usual", max_steps=4)
    run(tmp_path / "more", max_steps=4, mlm_probability=0.4)
    usual, more = (sum(c for c, _ in part) / sum(t for _, t in part) for part in (seen[:4], seen[4:]))
    assert usual == pytest.approx(0.15, abs=0.02) and more == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("triangle", [0.25, 0.5, 0.75, 1.0, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9]),
        ("google", [0.25, 0.5, 0.75, *(1 - step / 13 for step in range(4, 13))]),
    ],
)
def test_no_step_is_wasted_on_a_learning_rate_of_zero(schedule, expected, tmp_path):
    run(tmp_path, schedule=schedule, warmup=4 / 12, learning_rate=0.5)
    found = [line["learning_rate"] for line in metrics(tmp_path)]
    assert found == pytest.approx([0.5 * multiplier for multiplier in expected])


def test_a_resumed_run_reads_on_where_it_stopped(tmp_path, monkeypatch):
    """The positions in the data, and the metrics' steps, have no gap and nothing twice."""
    read = []
    log = loop.Run.log

    def noting(self, *arguments):
        read.append((self.step, self.positions))
        log(self, *arguments)
        if len(read) == 8:
            raise RuntimeError("the power failed")

    monkeypatch.setattr(loop.Run, "log", noting)
    with pytest.raises(RuntimeError, match="power"):
        run(tmp_path, accumulate=2)
    run(tmp_path, accumulate=2, resume=True)
    again = read[8:]
    assert [step for step, _ in again] == list(range(6, 13))  # the last checkpoint was that of step 5
    assert read[5:8] == again[:3]
    assert [line["step"] for line in metrics(tmp_path)] == list(range(1, 13))


def test_a_run_by_seconds_follows_the_elapsed_share():
    by_time = Recipe(max_seconds=100, learning_rate=2.0, warmup=0.1)
    assert by_time.learning_rate_at(0, 5) == pytest.approx(1.0)
    assert by_time.learning_rate_at(0, 10) == pytest.approx(2.0)
    assert by_time.learning_rate_at(0, 55) == pytest.approx(1.0)
    assert by_time.is_over(10**6, 99) is False and by_time.is_over(0, 100) is True


@pytest.mark.parametrize(
    "changes, words",
    [
        ({}, "either max_steps or max_seconds"),
        ({"max_steps": 1, "max_seconds": 1}, "either max_steps or max_seconds"),
        ({"max_steps": 1, "schedule": "cosine"}, "triangle, google"),
        ({"max_steps": 1, "warmup": 1.0}, "warmup"),
        ({"max_steps": 1, "batch_tokens": 0}, "batch_tokens must be above 0"),
        ({"max_steps": 1, "optimizer": "sgd"}, "adamw, muon"),
        ({"max_steps": 1, "mlm_probability": 0.0}, "mlm_probability"),
    ],
)
def test_impossible_recipes(changes, words):
    with pytest.raises(ValueError, match=words):
        Recipe(**changes)


def test_prefetching_keeps_order_and_passes_errors_on():
    assert list(prefetched(range(50), depth=3)) == list(range(50))

    def broken():
        yield 1
        raise ValueError("the third shelf")

    stream = prefetched(broken())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="third shelf"):
        next(stream)
