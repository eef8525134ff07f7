"""The documentation is held against the code, so that it cannot drift."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from cli.main import tspctl
from scripts import docs_hook, reference
from tsp import errors

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
FOLDERS = ["benchmarks", "charts/tsp", "cli", "image", "k8s", "tests", "tests/e2e", "tsp",
           *(f"tsp/{name}" for name in ("config", "data", "extract", "model", "prepare", "run", "train"))]  # fmt: skip


def _command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words of a line name, and its arguments."""
    command: click.Command = tspctl
    context = click.Context(tspctl)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        assert found is not None, f"README names a command that does not exist: {words[0]}"
        command, words = found, words[1:]
    return command, words


def _lines() -> list[str]:
    pages = [README, *(path.read_text() for path in sorted((ROOT / "docs").glob("**/*.md")))]
    blocks = re.findall(r"```console\n(.*?)```", "\n".join(pages), flags=re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return list(dict.fromkeys(line[2:] for line in text.splitlines() if line.startswith("$ tspctl")))


@pytest.mark.parametrize("line", _lines())
def test_every_command_line_of_readme_and_docs_exists_with_its_options(line):
    command, arguments = _command(shlex.split(line, comments=True)[1:])
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in arguments if word.startswith("-") and word.split("=")[0] not in known]
    assert unknown == []


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/stores.md", "k8s/README.md"])
def test_what_kubectl_makes_is_made_in_a_namespace_that_is_named(page):
    """The context's own need not be that of the runs: a Secret elsewhere is none to their pods."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ kubectl")]
    assert lines
    assert [line for line in lines if " -n " not in line and "clusterrole" not in line] == []


@pytest.mark.parametrize(("path", "text"), reference.pages().items(), ids=lambda item: getattr(item, "name", ""))
def test_generated_pages_are_what_the_code_says(path, text):
    assert path.read_text() == text, f"{path.relative_to(ROOT)} is out of date: run `make reference` and commit it"


def test_no_tracked_file_holds_the_marks_of_a_merge():
    marks = ["-e", "^<<<<<<< ", "-e", "^>>>>>>> "]
    done = subprocess.run(["git", "grep", "-nI", *marks], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_the_documentation_builds_without_a_broken_link(tmp_path):
    command = [
        Path(sys.executable).with_name("mkdocs"),
        "build",
        "--quiet",
        "--strict",
        "--site-dir",
        tmp_path / "site",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    icon = yaml.safe_load((ROOT / "charts/tsp/Chart.yaml").read_text())["icon"]
    assert (tmp_path / "site" / icon.removeprefix("https://tspctl.github.io/tspctl/")).is_file()
    page = (tmp_path / "site/tutorials/cluster/index.html").read_text()
    assert "A run is one Helm release of" in page, "the section of the README is missing"
    assert 'href="https://github.com/tspctl/tspctl/blob/main/charts/tsp/README.md"' in page


def test_a_section_ends_at_the_next_heading_of_its_level_and_code_is_no_heading():
    text = "# T\n\n## A\none\n```\n## no heading\n```\n### A1\ntwo\n## B\nthree\n"
    assert docs_hook.section_of(text, "## A") == "one\n```\n## no heading\n```\n### A1\ntwo"
    assert docs_hook.section_of(text, "## C") is None


def test_the_reference_has_every_command_and_exit_code():
    commands = (ROOT / "docs/reference/commands.md").read_text()
    assert [name for name in tspctl.list_commands(click.Context(tspctl)) if f"## `tspctl {name}" not in commands] == []
    codes = (ROOT / "docs/reference/exit-codes.md").read_text()
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", codes, flags=re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TspError)]
    assert listed >= {kind.exit_code for kind in kinds} | set(errors.OUTCOME_EXIT_CODES.values())


def _messages():
    rows = (ROOT / "docs/troubleshooting.md").read_text()
    return re.findall(r"^\| `([^`]+)`", rows, flags=re.MULTILINE)


@pytest.mark.parametrize("message", _messages())
def test_every_message_of_the_troubleshooting_page_is_one_the_code_prints(message):
    sources = [path.read_text() for top in ("cli", "k8s", "tsp") for path in (ROOT / top).rglob("*.py")]
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    assert [part for part in message.split("...") if part.strip() and part.strip() not in code] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_explains_itself_and_its_decisions(folder):
    text = (ROOT / folder / "README.md").read_text()
    assert "## Decisions" in text
    assert len(text.split()) > 60


@pytest.mark.parametrize(
    "page",
    sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("[a-z]*/**/README.md")),
    ids=str,
)
def test_every_relative_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert broken == []


def test_the_documented_rights_are_those_of_the_role():
    rules = yaml.safe_load((ROOT / "k8s/role.yaml").read_text())["rules"]
    table = (ROOT / "k8s/README.md").read_text().split("## Rights")[1].split("\n## ")[0]
    named = [name for row in re.findall(r"^\| ([a-z/, ]+) \|", table, re.MULTILINE) for name in row.split(", ")]
    assert sorted(set(named) - {"permission"}) == sorted({item for rule in rules for item in rule["resources"]})
    assert "kubectl apply -n NAMESPACE -f k8s/role.yaml" in table


def test_the_readmes_data_set_is_the_example():
    assert (ROOT / "examples/real/dataset.yaml").read_text().strip() in README


def test_every_make_target_the_docs_name_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:\$ |`)make ([a-z0-9-]+)", README + CONTRIBUTING))
    assert named <= targets


def _named_files():
    return sorted({word for word in re.findall(r"`([\w./-]+)`", CONTRIBUTING) if "/" in word})


@pytest.mark.parametrize("name", _named_files())
def test_every_file_that_contributing_names_exists(name):
    assert list(ROOT.glob(name)), f"CONTRIBUTING.md names {name}, which is not there"
