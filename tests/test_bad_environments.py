"""What somebody sees whose Python, packages or folders are not as they should be: a sentence with a way out.

What is missing or old is played by stubs, in a process of its own.
"""

import json
import os
import subprocess
import sys
import tomllib

import nbclient
import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import notebooks
from bert_edu import doctor, environment
from bert_edu.data.downloads import download
from bert_edu.doctor import FINE, NOTE, WRONG, Finding
from bert_edu.pretrained import resolve_folder

ROOT = notebooks.ROOT
TORCH = 'print("PyTorch was imported")\n__version__ = "{}"\n'


@pytest.fixture
def stubs(tmp_path):
    """Writes empty modules in place of real packages; returns the folder for PYTHONPATH."""

    def write(**content):
        for name, text in content.items():
            (tmp_path / "stubs" / name).mkdir(parents=True)
            (tmp_path / "stubs" / name / "__init__.py").write_text(text)
        return tmp_path / "stubs"

    return write


def python(program, *arguments, first=""):
    """Runs a program in a Python that finds `first` and the package before all else."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(first), str(ROOT)])}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True)


WITHOUT = "import sys; sys.modules.update(dict.fromkeys({}))\n"
OLD_PYTHON = "import sys; sys.version_info = (3, 10, 4, 'final', 0)\n"
IMPORT = "from bert_edu import BertModel"
PROGRAM = "from bert_edu.cli import main\nmain()"


def last_line(result):
    return result.stderr.strip().splitlines()[-1]


def test_the_oldest_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = {requirement.name: requirement for requirement in map(Requirement, project["dependencies"])}
    assert SpecifierSet(project["requires-python"]) == SpecifierSet(
        ">=" + ".".join(map(str, environment.OLDEST_PYTHON))
    )
    assert ranges["torch"].specifier == SpecifierSet(">=" + ".".join(map(str, environment.OLDEST_TORCH)))
    assert set(environment.NEEDED) <= set(ranges)


# The package


def test_an_old_python():
    result = python(OLD_PYTHON + IMPORT)
    assert "ImportError: bert_edu needs Python 3.11 or later, and" in last_line(result)
    assert "is Python 3.10.4: make a virtual environment with a newer one" in last_line(result)


@pytest.mark.parametrize("name", environment.NEEDED)
def test_a_package_without_which_nothing_works(name, stubs):
    others = [each for each in environment.NEEDED if each != name]
    result = python(WITHOUT.format([name]) + IMPORT, first=stubs(**dict.fromkeys(others, "")))
    assert last_line(result).endswith(f"{name} is not installed, and bert_edu needs it: pip install {name}")


@pytest.mark.parametrize("version, fits", [("2.3.1+cu121", False), ("1.13.0", False), ("2.10.0a0", True)])
def test_an_old_pytorch(version, fits, stubs):
    first = stubs(torch=TORCH.format(version))
    result = python("from bert_edu import environment\nenvironment.check()", first=first)
    if fits:
        assert result.returncode == 0, result.stderr
    else:
        sentence = f"bert_edu needs PyTorch 2.4 or later, and this is {version}: pip install --upgrade torch"
        assert last_line(result) == f"ImportError: {sentence}"


def test_a_pytorch_that_cannot_be_loaded(stubs):
    first = stubs(torch='raise OSError("libcudart.so.12: cannot open shared object")')
    assert last_line(python(IMPORT, first=first)) == "OSError: libcudart.so.12: cannot open shared object"
    result = python(PROGRAM, "doctor", first=first)
    assert result.stderr == "bert-edu cannot start: libcudart.so.12: cannot open shared object\n"
    assert "WRONG processor      OSError: libcudart.so.12" in result.stdout


def test_other_names_are_missing_as_in_any_module():
    result = python(WITHOUT.format(["torch"]) + "import bert_edu\nprint(hasattr(bert_edu, 'Bert'))")
    assert result.stdout == "False\n"


def test_a_folder_for_downloads_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refuse(*arguments, **more):
        raise PermissionError("read-only")

    monkeypatch.setenv("BERT_EDU_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.retrieve", refuse)
    with pytest.raises(
        PermissionError, match=f"tinyshakespeare could not be kept in {tmp_path}.*BERT_EDU_DATA"
    ):
        download("tinyshakespeare")


def test_a_cache_of_published_models_that_cannot_be_written_to(monkeypatch):
    def refuse(*arguments, **more):
        raise PermissionError(13, "Permission denied", "/home/me/.cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(PermissionError, match="kept in /home/me/.cache .Permission denied.*HF_HUB_CACHE"):
        resolve_folder("someone/model", ["config.json"])


# The program


def test_every_command_says_why_it_cannot_start_and_what_the_doctor_finds():
    for command in ("doctor", "fill-mask"):
        result = python(WITHOUT.format(["torch"]) + PROGRAM, command)
        assert result.returncode == 1 and "Traceback" not in result.stderr
        assert result.stderr == (
            "bert-edu cannot start: torch is not installed, and bert_edu needs it: pip install torch\n"
        )
        assert "WRONG processor      cannot be looked at without torch: pip install torch" in result.stdout
        assert f"fine  Python         {sys.version.split()[0]}" in result.stdout
        assert "things are wrong: see the lines above" in result.stdout


def test_the_program_without_the_package_that_reads_its_options():
    result = python(WITHOUT.format(["typer"]) + PROGRAM, "doctor")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.startswith("bert-edu cannot start: ") and "typer" in result.stderr


def test_an_old_python_has_nothing_else_looked_at():
    result = python(OLD_PYTHON + PROGRAM, "doctor")
    assert result.returncode == 1 and "needs Python 3.11 or later" in last_line(result)
    assert len(result.stdout.splitlines()) == 3 and "WRONG Python" in result.stdout


# The doctor on what the program can do without


def test_a_package_that_the_doctor_itself_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    found = next(finding for finding in doctor.examination() if finding.what == "packages")
    assert found == Finding(
        WRONG,
        "packages",
        "cannot be looked at without packaging: pip install packaging",
    )


def test_a_tree_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(doctor, "_version_or_none", lambda name: None)
    (finding,) = doctor.packages()
    assert finding.state == WRONG and "is not installed: pip install it" in finding.says


def test_comparisons_need_transformers(monkeypatch):
    monkeypatch.setattr(doctor, "_version_or_none", lambda name: None if name == "transformers" else "1.0")
    *_, comparisons = doctor.extras()
    assert comparisons.state == NOTE and comparisons.says.endswith("missing; pip install transformers")


def test_where_the_published_model_comes_from(monkeypatch, tmp_path):
    monkeypatch.setattr("bert_edu.notebook.published_model", lambda: "someone/model")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    (finding,) = doctor.hub_folder()
    assert finding.state == WRONG and "HF_HUB_CACHE" in finding.says
    monkeypatch.setattr("bert_edu.notebook.published_model", lambda: str(tmp_path))
    (finding,) = doctor.hub_folder()
    assert finding.state == FINE


def test_where_long_runs_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("BERT_EDU_WORK", raising=False)
    (finding,) = doctor.work()
    assert finding.state == FINE and "BERT_EDU_WORK" in finding.says
    monkeypatch.setenv("BERT_EDU_WORK", str(tmp_path / "drive"))
    (finding,) = doctor.work()
    assert finding.state == FINE and str(tmp_path / "drive") in finding.says
    monkeypatch.setenv("BERT_EDU_WORK", str(tmp_path / "not mounted" / "drive"))
    (finding,) = doctor.work()
    assert finding.state == WRONG and not (tmp_path / "not mounted").exists()


# The first cell of a notebook

ADDRESS = f"git+{notebooks.repository_address()}@v{notebooks.package_version()}"
IN_COLAB = "import types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
KERNEL = "import sys\n{}from ipykernel import kernelapp\nkernelapp.launch_new_instance()"


def first_cell(tmp_path, before, monkeypatch, first=""):
    """What the set-up cell shows, and one after it, in a kernel that runs `before` first."""
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": [sys.executable, "-c", KERNEL.format(before), "-f", "{connection_file}"]}
    (kernel / "kernel.json").write_text(json.dumps(spec | {"display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(first), str(ROOT)]))
    sources = [notebooks.set_up_cell(), "print('went on')"]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    try:
        nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute(cwd=tmp_path)
    except nbclient.exceptions.CellExecutionError:
        pass
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    return "".join(output.get("text", "") or "".join(output.get("traceback", "")) for output in outputs)


WITHOUT_THE_PACKAGE = """
class AllBut:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name == "bert_edu" else self.finder.find_spec(name, path, target)
sys.meta_path = [AllBut(finder) for finder in sys.meta_path]
"""


def test_a_kernel_without_the_package(tmp_path, monkeypatch):
    shown = first_cell(tmp_path, WITHOUT_THE_PACKAGE, monkeypatch)
    assert "No module named 'bert_edu'" in shown and "Traceback" not in shown and "went on" not in shown
    assert f"This kernel is Python {sys.version.split()[0]}, {sys.executable}" in shown
    assert f'%pip install "bert-edu[viz] @ {ADDRESS}"' in shown and "git clone" not in shown


def test_colab_without_a_network(tmp_path, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    shown = first_cell(tmp_path, IN_COLAB + WITHOUT_THE_PACKAGE, monkeypatch)
    assert "git clone" in shown and "error" in shown.lower()  # what pip tried; not every pip writes ERROR
    assert "No module named 'bert_edu'" in shown
    assert "Traceback" not in shown and "went on" not in shown


def test_a_package_without_what_draws_its_figures(tmp_path, monkeypatch, stubs):
    before = "sys.modules['matplotlib'] = None\n"
    shown = first_cell(tmp_path, before, monkeypatch, stubs(torch=TORCH.format("2.4.0")))
    assert 'matplotlib is not installed, and bert_edu.viz draws with it: pip install "bert-edu[viz]"' in shown
    assert "Traceback" not in shown and "went on" not in shown


@pytest.mark.parametrize(
    "before, words",
    [
        ("sys.version_info = (3, 10, 4, 'final', 0)", "bert_edu needs Python 3.11 or later"),
        ("sys.modules['torch'] = None", "torch is not installed, and bert_edu needs it: pip install torch"),
    ],
)
def test_a_kernel_with_something_wrong(before, words, tmp_path, monkeypatch):
    shown = first_cell(tmp_path, f"import ipykernel.kernelapp\n{before}\n", monkeypatch)
    assert words in shown and "Traceback" not in shown and "went on" not in shown


def test_what_only_some_chapters_need_is_a_line_more():
    result = python(WITHOUT.format(["transformers"]) + "from bert_edu.notebook import ready\nready()")
    missing, greeting = result.stdout.splitlines()
    assert missing == "transformers is missing, which some chapters compare with: %pip install transformers"
    assert greeting == f"bert_edu {notebooks.package_version()} is ready"
