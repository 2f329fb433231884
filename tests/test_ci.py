"""`.ci/run` itself: it fails when any part fails. Its tools are stand-ins here that only succeed or fail."""

import os
import shutil
import subprocess
import sys

import pytest

import notebooks

SUCCEED = "exit 0"
FAIL = "exit 1"
STAND_INS = {
    # `-m venv FOLDER` makes a folder with a python in it; anything else is done by a real Python.
    "python3.11": f"""[[ $1 == -m ]] || exec {sys.executable} "$@"
mkdir -p "$3/bin" && ln -s {sys.executable} "$3/bin/python" """,
    "pip": SUCCEED,
    "pytest": "echo 'notebooks: strict, outputs are compared'",
    "jupyter-book": 'mkdir -p "$4/_build/html" && echo page > "$4/_build/html/index.html"',
    "jupytext": 'echo text > "$5"',
    "ruff": SUCCEED,
    "codespell": SUCCEED,
    "chromium": SUCCEED,
    "apt-get": FAIL,
}


def run_ci(folder, **changes):
    """Runs `.ci/run` in a small project below `folder`, with stand-ins for all but the shell's own tools."""
    tools = folder / "tools"
    tools.mkdir()
    for name, script in (STAND_INS | changes).items():
        if script is not None:
            (tools / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
            (tools / name).chmod(0o755)
    for name in ("bash", "basename", "dirname", "env", "grep", "ln", "mkdir", "mktemp", "rm", "tee"):
        (tools / name).symlink_to(shutil.which(name))
    project = folder / "project"
    for file in (".ci/run", "README.md", "notebooks/01.ipynb"):
        (project / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(notebooks.ROOT / ".ci" / "run", project / ".ci" / "run")
    shutil.copy(notebooks.ROOT / "README.md", project / "README.md")
    (project / "notebooks" / "01.ipynb").touch()
    environment = {"PATH": str(tools), "HOME": str(folder), "TMPDIR": str(folder)}
    command = [project / ".ci" / "run"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert not list(folder.glob("tmp.*")), "the fresh folder was not removed"
    return run


def outcomes(run):
    """The table at the end: part -> passed or FAILED."""
    return dict(line.split()[:2] for line in run.stdout.rsplit("\n\n", 1)[1].splitlines())


ALL_PASS = dict.fromkeys(("browser", "environment", "tests", "book", "style", "spelling"), "passed")


def test_all_parts_pass(tmp_path):
    run = run_ci(tmp_path)
    assert run.returncode == 0, run.stderr
    assert outcomes(run) == ALL_PASS
    assert "pip install -r requirements.txt && pytest" in run.stdout


@pytest.mark.parametrize(
    "tool, script, part",
    [
        ("pip", FAIL, "tests"),
        ("pytest", "echo 'notebooks: strict'; exit 1", "tests"),
        ("pytest", "echo 'notebooks: lax'", "tests"),
        ("jupyter-book", STAND_INS["jupyter-book"] + "; exit 1", "book"),
        ("jupyter-book", SUCCEED, "book"),
        ("ruff", FAIL, "style"),
        ("jupytext", FAIL, "spelling"),
        ("codespell", FAIL, "spelling"),
        ("chromium", None, "browser"),
    ],
)
def test_one_part_fails(tmp_path, tool, script, part):
    run = run_ci(tmp_path, **{tool: script})
    assert run.returncode == 1
    assert outcomes(run) == ALL_PASS | {part: "FAILED"}


def test_a_missing_browser_is_installed(tmp_path):
    install = '[[ $1 == update ]] || ln -s "$(command -v bash)" "${0%/*}/chromium"'
    run = run_ci(tmp_path, **{"chromium": None, "apt-get": install})
    assert run.returncode == 0, run.stderr
    assert outcomes(run) == ALL_PASS


def test_no_python(tmp_path):
    run = run_ci(tmp_path, **{"python3.11": FAIL})
    assert run.returncode == 1
    assert outcomes(run) == {"browser": "passed", "environment": "FAILED"}
    assert "No Python 3.11" in run.stderr


def test_the_executable_bit_is_set():
    assert os.access(notebooks.ROOT / ".ci" / "run", os.X_OK)
