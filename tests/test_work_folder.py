"""A long run that is kept, on Google Drive say, outlives its machine; nothing else goes on from it."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
from safetensors import SafetensorError
from test_training import CONFIG, STORE, TOKENIZER, assert_equal_weights, fresh_model, metrics, recipe, run

import bert_edu
import notebooks
from bert_edu import BertForPreTraining
from bert_edu.notebook import WORK, why_not_writable, work_folder
from bert_edu.pretrained import replacing
from bert_edu.training import checkpoint, loop


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """A folder that stays, as a mounted Drive does; BERT_EDU_WORK names a new one in it."""
    (tmp_path / "drive").mkdir()
    monkeypatch.setenv(WORK, str(tmp_path / "drive" / "bert_edu"))
    return tmp_path / "drive"


def test_without_a_place_the_folder_is_temporary(monkeypatch):
    monkeypatch.delenv(WORK, raising=False)
    with work_folder("a-run") as folder:
        (folder / "x").write_text("x")
    assert not folder.exists()


def test_with_a_place_the_folder_stays_and_is_found_again(drive):
    with work_folder("a-run") as folder:
        (folder / "x").write_text("x")
    assert folder == drive / "bert_edu" / "a-run"
    with work_folder("a-run") as folder:
        assert (folder / "x").read_text() == "x"
    assert [file.name for file in folder.iterdir()] == ["x"]  # nothing is left of the trial


def test_where_drive_is_not_mounted_nothing_takes_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv(WORK, str(tmp_path / "drive" / "bert_edu"))
    with pytest.raises(OSError, match=r"bert_edu/a-run cannot be written to \(No such file.*mount Drive"):
        with work_folder("a-run"):
            pass
    assert not (tmp_path / "drive").exists()


def test_a_place_that_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(WORK, str(tmp_path / "file"))
    with pytest.raises(OSError, match=f"cannot be written to .*name another place in {WORK}"):
        with work_folder("a-run"):
            pass


def test_a_full_or_lost_disk_is_noticed(tmp_path, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert why_not_writable(tmp_path / "a-run") == "No space left on device"


# Runs

SCRIPT = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    import test_training as t
    from bert_edu.notebook import work_folder
    from bert_edu.training import loop
    log = loop.Run.log
    def log_and_die(self, *arguments):
        log(self, *arguments)
        if self.step == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
    loop.Run.log = log_and_die
    with work_folder("chapter-11") as folder:
        model, lines = t.run(folder, resume=True)
        print(lines[0].replace(str(folder), "FOLDER"), len(t.metrics(folder)), folder.parts[-2:])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_run_whose_machine_is_taken_away_goes_on_from_drive(drive, tmp_path):
    expected, _ = run(tmp_path / "straight")
    script = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent))
    environment = os.environ | {"PYTHONPATH": str(Path(bert_edu.__file__).parent.parent)}

    def machine(dies_at):
        command = [sys.executable, "-c", script, str(dies_at)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert machine(dies_at=7).returncode == -signal.SIGKILL
    second = machine(dies_at=-1)
    assert second.stdout == "resuming after step 5 12 ('bert_edu', 'chapter-11')\n", second.stderr
    kept = drive / "bert_edu" / "chapter-11"
    assert_equal_weights(BertForPreTraining.from_pretrained(kept), expected)
    third, lines = run(kept, resume=True)  # it is over: it is read, and nothing is trained
    assert lines == ["resuming after step 12"] and len(metrics(kept)) == 12
    assert_equal_weights(third, expected)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"learning_rate": 3e-4}, "learning_rate 0.001, and with 0.0003 it would be another run"),
        ({"betas": (0.9, 0.98)}, r"betas \[0.9, 0.999\], and with \[0.9, 0.98\]"),
        ({"seed": 1}, "seed 0, and with 1"),
    ],
)
def test_another_recipe_is_refused(changes, words, drive):
    with work_folder("a-run") as folder:
        run(folder, max_steps=5)
        before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        with pytest.raises(ValueError, match=f"the run in {folder} was started with {words}.*another folder"):
            run(folder, resume=True, **changes)
        assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_another_model_vocabulary_or_text_is_refused(drive):
    other_shape = fresh_model(config=bert_edu.BertConfig(**CONFIG.to_dict() | {"intermediate_size": 64}))
    swapped = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(list(TOKENIZER.vocab)[5:], reverse=True)]
    less = loop.TokenStore.build([["w1 w2 w3.", "w4 w5 w6."]] * 20, TOKENIZER)
    with work_folder("a-run") as folder:
        run(folder, max_steps=5)
        for name, model, tokenizer, store in (
            ("intermediate_size", other_shape, TOKENIZER, STORE),
            ("vocabulary", fresh_model(), bert_edu.BertTokenizer(swapped), STORE),
            ("documents", fresh_model(), TOKENIZER, less),
        ):
            with pytest.raises(ValueError, match=f"was started with {name}"):
                loop.pretrain(
                    model, tokenizer, store, folder, recipe(), resume=True, report=lambda line: None
                )


def test_what_may_change_does_and_older_runs_go_on(drive):
    with work_folder("a-run") as folder:
        run(folder, max_steps=5)
        settings = json.loads((folder / "recipe.json").read_text())
        for newer in ("vocabulary", "whole_words"):
            del settings[newer]
        (folder / "recipe.json").write_text(json.dumps(settings))
        run(folder, resume=True, max_steps=7, checkpoint_every=3)
        assert len(metrics(folder)) == 7
        assert json.loads((folder / "recipe.json").read_text())["max_steps"] == 7


def test_a_drive_that_goes_away_is_one_sentence(drive, monkeypatch):
    def lost(*arguments):
        raise OSError(107, "Transport endpoint is not connected")

    monkeypatch.setattr(checkpoint, "save_file", lost)
    with work_folder("a-run") as folder:
        with pytest.raises(OSError) as caught:
            run(folder)
    assert re.fullmatch(
        r"the checkpoint of step 5 could not be written to \S+ \(.*Transport endpoint is not connected\): "
        r"see that the folder is there and has room, and resume from the checkpoint before it",
        str(caught.value),
    )


def test_an_old_checkpoint_that_cannot_be_removed_does_not_end_the_run(drive, monkeypatch):
    def stuck(path, ignore_errors=False):
        if not ignore_errors:
            raise OSError(5, "Input/output error")

    with work_folder("a-run") as folder:
        run(folder, max_steps=5, checkpoint_every=1)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.shutil, "rmtree", stuck)
            checkpoint.save(folder, 6, fresh_model(), loop.adamw(fresh_model(), 1e-3), {}, {})


def test_a_model_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match="model.safetensors could not be written .*No space left"):
        with replacing(tmp_path / "model.safetensors"):
            raise SafetensorError("I/O error: No space left on device (os error 28)")
    assert list(tmp_path.iterdir()) == []


# The chapter


def test_the_live_run_is_kept_where_the_reader_says():
    chapter = nbformat.read(notebooks.ROOT / "notebooks" / "11_training_loop.ipynb", as_version=4)
    (live,) = [cell for cell in chapter.cells if 'work_folder("' in cell.source and cell.cell_type == "code"]
    assert "resume=True" in live.source
    every = re.search(r"checkpoint_every=STEPS // (\d+)", live.source)
    assert int(every[1]) >= 4  # a machine that is taken away costs a quarter of the run at most
    told = [cell.source for cell in chapter.cells if f"%env {WORK}=" in cell.source]
    assert len(told) == 1 and "drive.mount" in told[0]
    assert not re.search(
        rf"{WORK}|/content/drive", json.dumps([cell.get("outputs") for cell in chapter.cells])
    )
