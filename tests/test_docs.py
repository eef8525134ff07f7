"""The documentation is held against the code, so that it cannot drift."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from cli.main import tspctl
from tsp import errors

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
FOLDERS = ["benchmarks", "charts/tsp", "cli", "image", "k8s", "tests", "tests/e2e", "tsp",
           *(f"tsp/{name}" for name in ("data", "extract", "model", "prepare", "run", "train"))]  # fmt: skip


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
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line[2:] for line in text.splitlines() if line.startswith("$ tspctl")]


@pytest.mark.parametrize("line", _lines())
def test_every_command_line_of_the_readme_exists_with_its_options(line):
    command, arguments = _command(shlex.split(line, comments=True)[1:])
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in arguments if word.startswith("-") and word.split("=")[0] not in known]
    assert unknown == []


def _named_commands() -> set[str]:
    table = README.split("## Commands")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([a-z- ]+)", table, flags=re.MULTILINE))


def _all_commands() -> set[str]:
    context = click.Context(tspctl)
    names = set()
    for name in tspctl.list_commands(context):
        command = tspctl.get_command(context, name)
        if isinstance(command, click.Group):
            names |= {f"{name} {inner}" for inner in command.list_commands(click.Context(command))}
        else:
            names.add(name)
    return names


def test_the_readme_lists_every_command_and_no_other():
    assert {name.strip() for name in _named_commands()} == _all_commands()


def test_the_readme_lists_every_exit_code_and_no_other():
    table = README.split("## Exit codes")[1].split("\n## ")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)}
    commands = {kind.exit_code for kind in (errors.TspError, errors.ConfigError, errors.DataError,
                                            errors.ClusterError, errors.StoreError)}  # fmt: skip
    assert codes == commands | set(errors.OUTCOME_EXIT_CODES.values())


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_explains_itself_and_its_decisions(folder):
    text = (ROOT / folder / "README.md").read_text()
    assert "## Decisions" in text
    assert len(text.split()) > 60


@pytest.mark.parametrize("page", sorted(ROOT.glob("README.md")) + sorted(ROOT.glob("[a-z]*/**/README.md")), ids=str)
def test_every_relative_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert broken == []


def test_the_documented_rights_are_those_of_the_role():
    rules = yaml.safe_load((ROOT / "k8s/role.yaml").read_text())["rules"]
    table = (ROOT / "k8s/README.md").read_text().split("## Rights")[1].split("\n## ")[0]
    named = [name for row in re.findall(r"^\| ([a-z/, ]+) \|", table, re.MULTILINE) for name in row.split(", ")]
    assert sorted(set(named) - {"right"}) == sorted({item for rule in rules for item in rule["resources"]})
    assert "kubectl apply -n NAMESPACE -f k8s/role.yaml" in table


def test_the_readmes_data_set_is_the_example():
    assert (ROOT / "examples/real/dataset.yaml").read_text().strip() in README


def test_every_make_target_the_docs_name_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\$ make ([a-z0-9-]+)", README))
    assert named <= targets
