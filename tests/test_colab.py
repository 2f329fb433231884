"""Chapters as Colab sees them: a notebook alone in an empty folder, torch there already, `bert_edu` not yet.

The repository's address in the first cell is replaced by a wheel that is built from this tree; the rest is as
in Colab. One chapter is run in every test run, all of them where BERT_EDU_NIGHTLY is set.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv

import nbformat
import pytest

import notebooks

CHAPTERS = sorted((notebooks.ROOT / "notebooks").glob("*.ipynb"))
SAMPLE = "04_attention"
# The set-up cell knows Colab by a module that is there before it.
COLAB = """
import sys, types
sys.modules["google.colab"] = types.ModuleType("google.colab")
from ipykernel import kernelapp
kernelapp.launch_new_instance()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package, built from a copy of the tree, so that the build leaves nothing behind here."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "tree"
    copy.mkdir()
    for name in ("bert_edu", "results", "pyproject.toml", "README.md", "LICENSE"):
        source = notebooks.ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(copy),
    ]
    subprocess.run(build, check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture
def colab(tmp_path):
    """A Python of its own that finds everything installed here, torch too, but not `bert_edu`."""
    builder = venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt")
    builder.create(tmp_path / "python")
    python = builder.ensure_directories(tmp_path / "python").env_exe
    paths = {"base": str(tmp_path / "python"), "platbase": str(tmp_path / "python")}
    own = sysconfig.get_path("purelib", "venv", paths)
    # A folder on the path, not a site: its own .pth files, one of which leads back to this tree, do nothing.
    with open(os.path.join(own, "here.pth"), "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    return python, own


def run(python, folder, notebook):
    """Executes a notebook in a folder with another Python; returns it with its outputs."""
    file = folder / "chapter.ipynb"
    nbformat.write(notebook, file)
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": [python, "-c", COLAB, "-f", "{connection_file}"], "display_name": "Colab"}
    (kernel / "kernel.json").write_text(json.dumps(spec | {"language": "python"}))
    program = (
        "import sys, nbclient, nbformat\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "nbclient.NotebookClient(notebook, timeout=600).execute()\n"
        "nbformat.write(notebook, sys.argv[1])\n"
    )
    environment = os.environ | {"JUPYTER_PATH": str(folder), "BERT_EDU_DATA": str(folder / "texts")}
    subprocess.run([sys.executable, "-c", program, str(file)], check=True, cwd=folder, env=environment)
    return nbformat.read(file, as_version=4)


def as_in_colab(chapter, wheel):
    """The chapter without its outputs; the package comes from the wheel instead of the repository."""
    notebook = nbformat.read(chapter, as_version=4)
    address = f"git+{notebooks.repository_address()}@v{notebooks.package_version()}"
    (set_up,) = [cell for cell in notebook.cells if notebooks.is_set_up(cell)]
    assert address in set_up.source
    set_up.source = set_up.source.replace(address, wheel.as_uri())
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_chapter_alone(chapter, wheel, colab, tmp_path):
    if chapter.stem != SAMPLE and not os.environ.get("BERT_EDU_NIGHTLY"):
        pytest.skip(f"only {SAMPLE} here; all of them where BERT_EDU_NIGHTLY is set")
    python, own = colab
    notebook = run(python, tmp_path, as_in_colab(chapter, wheel))
    (set_up,) = [cell for cell in notebook.cells if notebooks.is_set_up(cell)]
    said = "".join(output.get("text", "") for output in set_up.outputs).strip().splitlines()
    assert said[-1] == f"bert_edu {notebooks.package_version()} is ready"
    assert all("restart the kernel" in line for line in said[:-1])  # IPython's %pip says so, Colab's does not
    assert os.path.isdir(os.path.join(own, "bert_edu"))
    assert not os.path.exists(os.path.join(own, "torch"))  # Colab's own stays
