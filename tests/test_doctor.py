"""`bert-edu doctor` finds what is wrong, says what to do, and goes on whatever breaks."""

import importlib.metadata

import pytest
import torch

from bert_edu import doctor
from bert_edu.doctor import FINE, NOTE, WRONG, Finding
from helpers import bert, succeed


def test_a_good_environment():
    output = succeed("doctor").stdout
    assert "a cup of tea" in output and "nothing is wrong" in output and WRONG not in output
    looked_at = ("Python", "packages", "notebooks", "processor", "GPU", "texts", "real model", "long runs")
    for what in (*looked_at, "shipped model"):
        assert f" {what} " in output


def test_a_folder_that_cannot_be_written_to(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BERT_EDU_DATA", str(tmp_path / "file" / "texts"))
    (finding,) = doctor.data_folder()
    assert finding.state == WRONG and "BERT_EDU_DATA" in finding.says and "Not a directory" in finding.says


def test_little_space(monkeypatch, tmp_path):
    monkeypatch.setenv("BERT_EDU_DATA", str(tmp_path))
    monkeypatch.setattr(doctor, "LITTLE_SPACE", float("inf"))
    (finding,) = doctor.data_folder()
    assert finding.state == NOTE and "GB are free" in finding.says


def test_packages_that_are_missing_or_old():
    installed = {"torch": "2.3.1", "numpy": "2.4.0", "scipy": "1.12"}

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    wanted = ["torch>=2.4", "numpy>=1.26", "typer>=0.20", 'altair<6,>=5.4; extra == "viz"']
    findings = {finding.what: finding for finding in doctor.packages(wanted, version)}
    assert findings["torch"] == Finding(WRONG, "torch", 'is version 2.3.1: pip install "torch>=2.4"')
    assert findings["typer"].says == 'is not installed: pip install "typer>=0.20"'
    assert findings["packages"] == Finding(FINE, "packages", "numpy 2.4.0")
    assert set(findings) == {"torch", "typer", "packages"}  # an extra is no requirement


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 4))
    (finding,) = doctor.python()
    assert finding.state == WRONG and "3.11 or later" in finding.says


def test_figures_are_an_extra(monkeypatch):
    monkeypatch.setattr(doctor, "_version_or_none", lambda name: None if name == "altair" else "1.0")
    figures, board, comparisons = doctor.extras()
    assert figures == Finding(
        NOTE, "viz", 'the chapters\' figures: altair missing; pip install "bert-edu[viz]"'
    )
    assert board.state == comparisons.state == FINE


def test_a_kernel_of_another_python(monkeypatch, tmp_path):
    kernels = tmp_path / "kernels" / "python3"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        '{"argv": ["/usr/bin/env", "-m", "ipykernel"], "display_name": "other", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    (finding,) = doctor.kernel()
    assert finding.state == WRONG and "ipykernel install" in finding.says


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 999)
    (finding,) = doctor.processor()
    assert finding.state == NOTE and "OMP_NUM_THREADS" in finding.says


@pytest.fixture
def broken(monkeypatch):
    def no_model():
        raise FileNotFoundError("model.safetensors is missing")

    monkeypatch.setattr("bert_edu.mini.load_mini", no_model)


def test_what_breaks_is_named_and_the_rest_is_looked_at(broken):
    findings = list(doctor.examination())
    assert findings[-1] == Finding(WRONG, "shipped model", "FileNotFoundError: model.safetensors is missing")
    assert len(findings) >= 8


def test_exit_code_when_something_is_wrong(broken):
    result = bert("doctor")
    assert result.exit_code == 1 and "1 thing is wrong" in result.stdout
