"""Several processes that train one model: under `torchrun`, on this machine's processor, through gloo."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scaling_page
import torch
from safetensors.torch import load_file
from test_training import STORE, TOKENIZER, corpus, metrics, run

import bert_edu
from bert_edu.data.pretraining import Position, PreTrainingBatches, TokenStore
from bert_edu.training import distributed
from bert_edu.training.checkpoint import list_checkpoints
from bert_edu.training.distributed import ShardedBatches, farthest
from bert_edu.training.loop import Recipe
from helpers import refuse, succeed

with_torchrun = pytest.mark.skipif(
    not (torch.distributed.is_gloo_available() and hasattr(signal, "SIGKILL")),
    reason="needs PyTorch with gloo, and a system with SIGKILL",
)
SETTINGS = "--device cpu --precision float32 --max-length 16 --batch-tokens 64 --learning-rate 0.003".split()
STEPS, TOLERANCE = 50, 1e-4
# Four passes make a step: with two processes two of each, so that a gradient waits for the second one.
FIFTY = [*SETTINGS, "--accumulate", 4, "--max-steps", STEPS, "--checkpoint-every", 20, "--evaluate-every", 20]
COMPILED = [*SETTINGS, "--accumulate", 4, "--max-steps", 3, "--compile"]

# The program, in which one process kills itself after step 30, unless it has been started again.
DYING = """
import os, signal
from bert_edu.cli import main
from bert_edu.training import distributed, loop
log = loop.Run.log
def log_and_die(self, *arguments):
    log(self, *arguments)
    if self.step == 30 and distributed.rank() == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
loop.Run.log = log_and_die
main()
"""

# Several commands of the program one after the other, in processes that are started once; after each one they
# say how many numbers they held as parameters and means. "eager" compiles without a C++ compiler.
SEVERAL = """
import contextlib, functools, json, sys
import torch
from bert_edu.cli import app
from bert_edu.training import distributed, loop
torch.compile = functools.partial(torch.compile, backend="eager")
step, held = loop.train_step, [0]
def measured_step(model, optimizer, *arguments, **keywords):
    sums = step(model, optimizer, *arguments, **keywords)
    tensors = [*model.parameters(), *(each for state in optimizer.state.values() for each in state.values())]
    held[0] = sum(getattr(each, "_local_tensor", each).numel() for each in tensors)
    return sums
loop.train_step = measured_step
with distributed.together("cpu"):
    distributed.together = lambda device: contextlib.nullcontext()
    for arguments in json.loads(sys.argv[1]):
        if app(arguments, standalone_mode=False):
            sys.exit(1)
        print("held", arguments[2], held.pop(), flush=True)
        held.append(0)
"""


def torchrun(*arguments, processes=2) -> subprocess.CompletedProcess:
    """Runs a Python program in several processes at once, each with one thread."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    environment = {"PYTHONPATH": str(Path(bert_edu.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(part) for part in (*command, *arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=400,
    )


def losses(folder) -> list[float]:
    return [line["mlm_loss"] for line in metrics(folder) if "valid" not in line]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Text, a tokenizer, and what every run here is told about both."""
    folder = tmp_path_factory.mktemp("texts")
    for name, count, seed in (("train", 80, 0), ("valid", 10, 1)):
        documents = ["\n".join(sentences) for sentences in corpus(count, seed)]
        (folder / f"{name}.txt").write_text("\n\n".join(documents) + "\n")
    TOKENIZER.save_pretrained(folder / "words")
    return [
        "--corpus",
        folder / "train.txt",
        "--valid",
        folder / "valid.txt",
        "--tokenizer",
        folder / "words",
    ]


@pytest.fixture(scope="module")
def by_one(texts, tmp_path_factory):
    """Fifty steps by one process, of a text in two shards."""
    out = tmp_path_factory.mktemp("runs") / "one"
    succeed("pretrain", "--out", out, *texts, *FIFTY, "--shards", 2)
    return out


@pytest.fixture(scope="module")
def by_two(texts, tmp_path_factory):
    """The same by two processes, one of which dies on the way; the folder, and what was said."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "dying.py").write_text(DYING)
    arguments = ["pretrain", "--out", folder / "two", "--resume", *texts, *FIFTY]
    done = torchrun("--max-restarts", 1, folder / "dying.py", *arguments)
    assert done.returncode == 0, done.stderr
    return folder / "two", done.stderr


# ---- The run as a whole ------------------------------------------------------------------------------------


@with_torchrun
def test_two_processes_follow_the_curve_of_one(by_one, by_two):
    out, _ = by_two
    expected, found = losses(by_one), losses(out)
    assert len(found) == len(expected) == STEPS
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert max(expected[-5:]) < expected[0] - 0.1  # it is no flat line that they agree on
    training = [[line for line in metrics(each) if "valid" not in line] for each in (by_one, out)]
    for name in ("tokens", "mask_accuracy", "nsp_accuracy"):  # the counts are those of all processes
        assert [line[name] for line in training[0]] == [line[name] for line in training[1]], name
    valid = [[line for line in metrics(each) if "valid" in line] for each in (by_one, out)]
    assert [line["step"] for line in valid[0]] == [line["step"] for line in valid[1]] == [20, 40, 50]


@with_torchrun
def test_after_a_death_all_go_on_from_the_last_checkpoint(by_two):
    out, said = by_two
    assert said.count("exitcode: -9") == 1  # by torchrun: one process was killed
    assert said.count("resuming after step 20\n") == 1 and said.count("in 2 processes") == 2
    errors = [line for line in said.splitlines() if line.startswith("bert-edu: error")]
    assert len(errors) <= 1 and "Traceback" not in said  # the survivor may have time for a word
    assert all("process 0 cannot go on, because another one has ended" in line for line in errors), errors
    assert [line["step"] for line in metrics(out) if "valid" not in line] == list(range(1, 51))
    assert [folder.name for folder in list_checkpoints(out)] == ["step-00000050", "step-00000040"]
    state = json.loads((out / "checkpoints" / "step-00000050" / "state.json").read_text())
    first, second = (Position(**position) for position in state["positions"])
    assert min(first, second) > Position()  # what each process read was told to the one that writes


def sixty(folder, out):
    """The losses of a run when one process has taken ten steps more."""
    shutil.copytree(folder, out)
    result = succeed("pretrain", "--out", out, "--resume", "--max-steps", 60)
    assert "resuming after step 50" in result.stderr and "processes" not in result.stderr
    return losses(out)


@pytest.fixture(scope="module")
def sixty_by_one(by_one, tmp_path_factory):
    return sixty(by_one, tmp_path_factory.mktemp("runs") / "sixty")


@with_torchrun
def test_one_process_goes_on_where_two_stopped(sixty_by_one, by_two, tmp_path):
    assert len(sixty_by_one) == 60
    assert sixty(by_two[0], tmp_path / "sixty") == pytest.approx(sixty_by_one, abs=TOLERANCE)


# ---- A model in parts, and a compiled one ------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_parts(by_one, texts, tmp_path_factory):
    """Runs by two processes, how many parameters and means each of them held, and the losses at the ends."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "several.py").write_text(SEVERAL)
    shutil.copytree(by_one, folder / "continued")
    go_on = ["--resume", "--max-steps", 60, "--shard-model", "--checkpointing"]
    commands = [
        ["pretrain", "--out", folder / "split", *texts, *FIFTY, "--shard-model"],
        ["pretrain", "--out", folder / "split", "--resume"],  # it is over already
        ["pretrain", "--out", folder / "continued", *go_on],
        ["pretrain", "--out", folder / "compiled", *texts, *COMPILED],
        ["pretrain", "--out", folder / "compiled in parts", *texts, *COMPILED, "--shard-model"],
    ]
    done = torchrun(folder / "several.py", json.dumps([[str(part) for part in one] for one in commands]))
    assert done.returncode == 0, done.stderr
    held = {}
    for line in done.stdout.splitlines():
        if line.startswith("held "):
            out, count = line.removeprefix("held ").rsplit(maxsplit=1)
            held.setdefault(Path(out).name, []).append(int(count))
    measured = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("mlm_loss")]
    return folder, held, measured


@with_torchrun
def test_a_model_in_parts_follows_the_curve_of_a_whole_one(by_one, in_parts):
    folder, held, _ = in_parts
    expected, found = metrics(by_one), metrics(folder / "split")
    assert len(found) == len(expected) == STEPS + 3  # steps and evaluations
    assert sum(line.get("gradient_norm", 0) > 1 for line in expected) > STEPS / 2  # they are clipped to 1
    for line, other in zip(expected, found):
        assert other.get("valid") == pytest.approx(line.get("valid"), abs=TOLERANCE)
        for name in ("mlm_loss", "nsp_loss", "gradient_norm"):
            assert other.get(name) == pytest.approx(line.get(name), abs=TOLERANCE), (line["step"], name)
    # Each process had half of it: the numbers, and AdamW's two means of each.
    weights = load_file(folder / "split" / "model.safetensors")
    numbers = 3 * sum(each.numel() for each in weights.values())
    assert sum(held["split"]) == pytest.approx(numbers, rel=0.01)
    assert max(held["split"]) == pytest.approx(numbers / 2, rel=0.01)
    assert min(held["compiled"]) == pytest.approx(numbers, rel=0.01)


@with_torchrun
def test_a_run_in_parts_leaves_what_any_run_leaves(by_one, in_parts):
    folder, _, measured = in_parts
    assert (folder / "split" / "config.json").read_text() == (by_one / "config.json").read_text()
    # The run that was over measured what had been written; the first one what was in parts.
    assert len(measured) == 5 and measured[0] == measured[1]


@with_torchrun
def test_whole_and_in_parts_go_on_from_each_other(sixty_by_one, in_parts, tmp_path):
    folder, held, _ = in_parts
    assert sixty(folder / "split", tmp_path / "sixty") == pytest.approx(sixty_by_one, abs=TOLERANCE)
    assert losses(folder / "continued") == pytest.approx(sixty_by_one, abs=TOLERANCE)
    assert max(held["continued"]) == max(held["split"])


@with_torchrun
def test_two_processes_compile_the_model_that_one_compiles(in_parts, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    succeed("pretrain", "--out", tmp_path, *texts, *COMPILED, "--shards", 2)
    expected = losses(tmp_path)
    for name in ("compiled", "compiled in parts"):
        found = losses(in_parts[0] / name)
        assert len(found) == 3 and found == pytest.approx(expected, abs=TOLERANCE), name


# ---- The text ----------------------------------------------------------------------------------------------


def batches(shards, start=None, **settings):
    stream = ShardedBatches(STORE, TOKENIZER, shards=shards, max_length=32, batch_tokens=128, **settings)
    return stream, stream.read_from(start or [Position()] * shards)


def become(monkeypatch, rank, world_size):
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world_size", lambda: world_size)


def test_every_document_is_in_one_shard():
    stream, _ = batches(3)
    parts = [
        [part.documents[number] for number in range(len(part.documents))] for part in stream.streams.values()
    ]
    assert sorted(map(len, parts)) == [13, 13, 14] and len(STORE) == 40
    key = str
    assert sorted((each for part in parts for each in part), key=key) == sorted(STORE, key=key)


@pytest.mark.parametrize("world_size", [2, 4])
def test_how_many_processes_read_the_shards_changes_no_batch(world_size, monkeypatch):
    _, alone = batches(4)
    expected = [next(alone) for _ in range(24)]  # six from each shard
    found, known, dealt = {}, [], []
    for rank in range(world_size):
        become(monkeypatch, rank, world_size)
        _, reader = batches(4)
        own = list(distributed.own_shards(4))
        dealt += own
        for turn in range(6):
            for shard in own:
                positions, found[turn, shard] = next(reader)
        known.append(positions)
    assert dealt == [0, 1, 2, 3]  # each shard is one process's
    for number, (_, batch) in enumerate(expected):
        other = found[divmod(number, 4)]
        assert torch.equal(batch.input_ids, other.input_ids) and torch.equal(batch.labels, other.labels)
    monkeypatch.setattr(distributed, "gathered", lambda positions: known)
    together = farthest(known[0])
    assert together == expected[-1][0] and Position() not in together
    # And who reads on from there, alone, finds what comes next.
    monkeypatch.undo()
    _, resumed = batches(4, start=together)
    for _ in range(8):
        assert torch.equal(next(resumed)[1].input_ids, next(alone)[1].input_ids)


def test_dropout_falls_elsewhere_in_each_process_and_step(monkeypatch):
    """It is decided anew in each step, so that a resumed run has what an unbroken one had."""

    def draw(rank, step):
        become(monkeypatch, rank, 2)
        distributed.seed_for_step(7, step)
        return torch.rand(3).tolist()

    draws = [draw(rank, step) for rank in (0, 1) for step in (0, 1)]
    assert all(one != other for number, one in enumerate(draws) for other in draws[:number])
    assert draw(0, 1) == draws[1]
    before = torch.get_rng_state()
    become(monkeypatch, 0, 1)
    distributed.seed_for_step(7, 0)
    assert torch.equal(torch.get_rng_state(), before)  # a single process draws on


def test_shards_hide_different_words():
    """With one seed for all, shards of as many documents would be shuffled alike."""
    stream, _ = batches(2)
    assert len({part.seed for part in stream.streams.values()}) == 2


def test_one_shard_is_the_text_as_it_was():
    _, sharded = batches(1, seed=5)
    plain = PreTrainingBatches(STORE, TOKENIZER, max_length=32, batch_tokens=128, seed=5).read_from()
    for _ in range(10):
        ((position,), batch), (expected, other) = next(sharded), next(plain)
        assert position == expected and torch.equal(batch.input_ids, other.input_ids)


def test_a_run_of_several_shards_resumes_in_the_middle(tmp_path):
    settings = {"shards": 2, "accumulate": 4}
    run(tmp_path / "straight", **settings)
    run(tmp_path / "cut", **settings)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-00000012")
    run(tmp_path / "cut", resume=True, **settings)
    assert losses(tmp_path / "cut") == losses(tmp_path / "straight")


@pytest.mark.parametrize("together", [1, 100, 10**9])
def test_documents_that_are_encoded_together_stay_apart(together, monkeypatch, tmp_path):
    monkeypatch.setattr("bert_edu.data.pretraining.ENCODED_TOGETHER", together)
    text = [*corpus(7), [], [""], ["w1", "", "w2 w3"], *corpus(3, seed=1)]
    alone = [[ids for ids in TOKENIZER.encode_many(sentences) if ids] for sentences in text]
    TokenStore.build(text, TOKENIZER, tmp_path)
    store = TokenStore.open(tmp_path, TOKENIZER)
    assert list(store) == [document for document in alone if document] and len(store) == 11
    assert isinstance(store._ids, np.memmap)  # a file larger than memory can be read


# ---- Bad input ---------------------------------------------------------------------------------------------


def test_processes_and_shards_must_fit(monkeypatch, texts, tmp_path):
    become(monkeypatch, 0, 3)
    complaint = refuse("pretrain", "--out", tmp_path / "new", *texts, *FIFTY, "--shards", 2)
    assert "3 processes cannot share 2 shards of text alike: start 1 or 2, or begin" in complaint
    assert not (tmp_path / "new").exists()


def test_more_processes_than_the_run_was_begun_for(monkeypatch, by_one, tmp_path):
    out = shutil.copytree(by_one, tmp_path / "one")
    become(monkeypatch, 0, 4)
    complaint = refuse("pretrain", "--out", out, "--resume", "--max-steps", 60)
    assert "4 processes cannot share 2 shards of text alike: start 1 or 2, or begin" in complaint


def test_passes_that_cannot_be_shared_are_refused(texts, tmp_path):
    with pytest.raises(ValueError, match=r"accumulate \(3\) must be a multiple of shards \(2\)"):
        Recipe(max_steps=1, accumulate=3, shards=2)
    with pytest.raises(ValueError, match="shards must be above 0"):
        Recipe(max_steps=1, shards=0)
    complaint = refuse("pretrain", "--out", tmp_path, *texts, *FIFTY, "--shards", 3)
    assert "accumulate (4) must be a multiple of shards (3)" in complaint


def test_a_text_too_small_for_its_shards_is_refused(texts, tmp_path):
    complaint = refuse("pretrain", "--out", tmp_path, *texts, *SETTINGS, "--shards", 81)
    assert "shard 81 of 81 has 0 documents and not one sentence pair to train on" in complaint


def test_restarts_need_resume(monkeypatch, texts, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    complaint = refuse("pretrain", "--out", tmp_path / "new", *texts, *FIFTY)
    assert "torchrun --max-restarts needs --resume" in complaint


def test_muon_takes_whole_matrices(texts, tmp_path):
    complaint = refuse("pretrain", "--out", tmp_path, *texts, *FIFTY, "--shard-model", "--optimizer", "muon")
    assert "shard_model deals out the rows of a matrix, and muon needs them all" in complaint


def test_a_pytorch_that_cannot_split_a_model_is_refused(monkeypatch):
    become(monkeypatch, 0, 2)
    monkeypatch.setattr(distributed, "gathered", lambda failed: [failed, failed])
    monkeypatch.setitem(sys.modules, "torch.distributed.fsdp", ModuleType("fsdp"))
    with pytest.raises(ValueError, match=r"--shard-model needs PyTorch 2\.6 or later, and this is"):
        distributed.split(torch.nn.Linear(1, 1), torch.device("cpu"))


@with_torchrun
def test_a_process_without_text_says_so_and_none_hangs(texts, tmp_path):
    (tmp_path / "uneven.txt").write_text(
        "w1 w2\nw3 w4\nw5 w6\n\nw7 w8\n"
    )  # the second document makes no pair
    texts = ["--corpus", tmp_path / "uneven.txt", *texts[2:]]
    started = time.monotonic()
    done = torchrun("-m", "bert_edu", "pretrain", "--out", tmp_path / "out", *texts, *FIFTY)
    assert done.returncode != 0 and time.monotonic() - started < distributed.TIMEOUT.total_seconds() / 2
    complaints = [line for line in done.stderr.splitlines() if line.startswith("bert-edu: ")]
    assert len(complaints) == 1, done.stderr
    assert "shard 2 of 2 has 1 document and not one sentence pair to train on" in complaints[0]


STALLING = """
import time
from datetime import timedelta
from bert_edu.training import distributed
distributed.TIMEOUT = timedelta(seconds=10)
with distributed.together("cpu"):
    assert distributed.world_size() == 2 and distributed.total(distributed.rank() + 1) == 3
    assert distributed.gathered("ab"[distributed.rank()]) == ["a", "b"]
    assert distributed.once(lambda: distributed.rank()) == 0
    print("all here", flush=True)
    if distributed.rank() == 1:
        time.sleep(1000)
    distributed.largest(1.0)
"""


@with_torchrun
def test_who_stalls_is_given_up(tmp_path):
    (tmp_path / "stalling.py").write_text(STALLING)
    done = torchrun(tmp_path / "stalling.py")
    assert done.returncode != 0 and done.stdout.count("all here") == 2, done.stderr
    assert "ConnectionError: process 0 cannot go on, because another one has ended or does not" in done.stderr


def test_the_time_out_is_what_the_help_says():
    assert f"given up after {distributed.TIMEOUT.seconds // 60} minutes" in " ".join(
        succeed("pretrain", "--help").output.split()
    )


# ---- The page ----------------------------------------------------------------------------------------------


def test_the_page_is_made_from_the_measured_figures():
    speed = scaling_page.measured_speed()
    page = scaling_page.page(speed)
    assert scaling_page.PAGE.read_text(encoding="utf-8") == page
    assert scaling_page.STEPS_TESTED == STEPS
    assert f"run for {STEPS} steps: by less than {TOLERANCE:.4f}" in " ".join(page.split())
    assert f"runs for {STEPS} steps this way too, to the same {TOLERANCE:.4f}" in " ".join(page.split())


def test_the_page_reckons_with_what_was_measured_for_base():
    mini = {"ours_tokens_per_second": 5e6, "ours_share_of_matrix_peak": 0.2}
    base = {"ours_tokens_per_second": 5e5, "ours_share_of_matrix_peak": 0.5}
    speed = {"gpu": "a GPU", "precision": "bf16", "matrix_peak_tflops": 1000.0, "mini, 128 tokens": mini}
    without, with_base = scaling_page.page(speed), scaling_page.page(speed | {"base, 512 tokens": base})
    hours = [
        int(page.split("| BERT-base as published |")[1].split("|")[1].removesuffix(" hours "))
        for page in (without, with_base)
    ]
    assert hours[0] == pytest.approx(2.5 * hours[1], rel=0.1)  # 20 % of the peak, and 50 %
    assert "BERT-base was not measured" in without and "BERT-base was not measured" not in with_base


def test_costs_by_hand():
    """About six operations for each weight of the layers and token; what a ring of two GPUs sends."""
    length, rows, scored, steps = scaling_page.PAPER[0]
    found = scaling_page.operations(scaling_page.BertConfig.preset("base"), length, rows, scored)
    assert 6 * 85e6 < found / (rows * length) < 7 * 85e6  # 12 layers of 12 * 768 * 768 weights
    assert scaling_page.sent_bytes(1000, 2) == 4000
    assert scaling_page.sent_in_parts(1000, 2, passes=1) == 6000  # half of it fetched twice and given once
    assert scaling_page.tokens_needed(1000, 2, 1e-6, seconds_a_token=1.0) == 40  # 4 s to send, 40 to compute
