"""The project's papers agree with each other: versions, pins, commands, the repository's address."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement

import conftest
import notebooks


def read(name):
    return (notebooks.ROOT / name).read_text(encoding="utf-8")


def test_every_requirement_is_an_exact_version():
    lines = [line.split("#")[0].strip() for line in read("requirements.txt").splitlines()]
    lines = [line for line in lines if line and line != "-e ."]
    assert len(lines) > 50
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_pins_lie_in_the_ranges_of_the_package():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    ranges = sum(project["optional-dependencies"].values(), project["dependencies"])
    pins = conftest.pins()
    for requirement in map(Requirement, ranges):
        assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert set(conftest.DECISIVE) <= set(pins)


def test_a_wheel_holds_every_package():
    """The list in pyproject.toml is complete; `results` stands beside the package and is put into it."""
    listed = tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["packages"]
    files = (notebooks.ROOT / "bert_edu").rglob("__init__.py")
    folders = [file.parent.relative_to(notebooks.ROOT) for file in files]
    assert sorted(listed) == sorted([".".join(folder.parts) for folder in folders] + ["bert_edu.results"])


def test_every_dependency_has_its_reason():
    """CONTRIBUTING.md names each pinned package; those below jupyter-book in the list are named together."""
    directly = read("requirements.txt").split("# The rendered book")[0]
    for name in re.findall(r"^([\w.-]+)==", directly, re.MULTILINE):
        assert f"`{name}`" in read("CONTRIBUTING.md"), name


def test_the_two_commands_stand_in_the_readme():
    for command in ("jupyter-book build .", "pytest"):
        assert f"pip install -r requirements.txt && {command}" in read("README.md")


def test_the_citation_has_the_version_and_the_address():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == notebooks.package_version()
    assert citation["repository-code"] == notebooks.repository_address()


def test_the_changelog_has_the_version():
    assert f"\n## {notebooks.package_version()}\n" in read("CHANGELOG.md")


def test_no_other_address_of_the_repository():
    """Where a file names the address itself, because nothing can fill it in there, it names the right one."""
    address = notebooks.repository_address()
    name = address.rsplit("/", 1)[1]
    for file in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml", "index.md"):
        for found in re.findall(rf"https://[\w.-]+/[\w-]+/{name}\b", read(file)):
            assert found == address, f"{file} names {found}"


def test_the_makefile_calls_what_there_is():
    """Each target is one that phony names, and each program it starts exists."""
    text = read("Makefile")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split()
    assert phony == re.findall(r"^(\w+):", text, re.MULTILINE)
    programs = re.findall(r"^\tpython (\S+)", text, re.MULTILINE)
    assert "book/tools/pdf.py" in programs
    for program in programs:
        assert (notebooks.ROOT / program).is_file(), program
