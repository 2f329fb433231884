"""What publishes the project: the workflows, the templates for issues, another address for a fork."""

import re
import shutil
import subprocess

import nbformat
import pytest
import yaml

import notebooks
import repository

GITHUB = notebooks.ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_are_whole(file):
    """They parse, stop by themselves, may not write more than they must, and run what is there."""
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"]["contents"] == "read"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
            for path in re.findall(
                r"(?:^|\s)((?:\.ci|book|tests|notebooks)\b/[\w./-]+)", step.get("run", "")
            ):
                assert (notebooks.ROOT / path).exists(), path
            for name in re.findall(r"--ignore=(\S+)", step.get("run", "")):
                assert (notebooks.ROOT / name).exists(), name


def test_the_named_versions_are_those_of_the_package():
    text = (GITHUB / "workflows" / "tests.yml").read_text(encoding="utf-8")
    project = (notebooks.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"3.11"' in text and 'requires-python = ">=3.11"' in project
    assert "torch==2.4.*" in text and "torch>=2.4" in project


def test_a_report_of_a_problem_asks_for_the_doctor():
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "problem.yml").read_text(encoding="utf-8"))
    (asked,) = [part for part in form["body"] if part["attributes"].get("render") == "text"]
    assert "bert-edu doctor" in asked["attributes"]["label"] and asked["validations"]["required"]


# ---- Another address ---------------------------------------------------------------------------------------


@pytest.fixture
def fork(tmp_path):
    """A small repository with some of the project's files."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in ("_config.yml", "CITATION.cff", "notebooks/04_attention.ipynb", "book/static/logo.svg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(notebooks.ROOT / name, tmp_path / name)
    old = notebooks.repository_address()
    (tmp_path / "weights.bin").write_bytes(b"\xff\xfe" + old.encode())
    (tmp_path / "other.md").write_text(f"{old}-extras is another project\n")
    (tmp_path / "untracked.md").write_text(old)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", ".", ":!untracked.md"], cwd=tmp_path, check=True)
    return tmp_path


def test_a_fork_gets_its_address_everywhere(fork):
    new = "https://gitlab.example.org/school/bert.course"
    changed = repository.rewrite(f"{new}.git", fork)
    names = sorted(str(file.relative_to(fork)) for file in changed)
    assert names == ["CITATION.cff", "_config.yml", "notebooks/04_attention.ipynb"]
    assert notebooks.repository_address(fork) == new
    notebook = nbformat.read(fork / "notebooks" / "04_attention.ipynb", as_version=4)
    (set_up,) = [cell for cell in notebook.cells if notebooks.is_set_up(cell)]
    assert set_up.source == notebooks.set_up_cell().replace(notebooks.repository_address(), new)
    assert repository.rewrite(notebooks.repository_address(), fork) == changed  # and back again
    for name in names:
        assert (fork / name).read_bytes() == (notebooks.ROOT / name).read_bytes()


@pytest.mark.parametrize("address", ["me/course", "https://github.com/me", "https://github.com/me/a b", ""])
def test_what_is_no_address_is_refused(fork, address):
    with pytest.raises(ValueError, match="looks like https://github.com/name/project"):
        repository.rewrite(address, fork)
    assert notebooks.repository_address(fork) == notebooks.repository_address()
