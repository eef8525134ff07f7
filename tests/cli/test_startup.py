import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

import cli
from cli.main import COMMANDS, tspctl

CLI = Path(cli.__path__[0])
HEAVY = ("boto3", "botocore", "kubernetes", "yaml", "rich", "torch", "numpy", "av", "h5py", "matplotlib", "asyncio")
LOADED = "import sys, json; from cli.main import main\ntry: main()\nexcept SystemExit: print(sorted(sys.modules))"


def loaded_by(*arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True)
    return [name.strip(" '[]") for name in done.stdout.splitlines()[-1].split(",")]


def test_ctrl_c_while_the_program_is_imported_is_said_as_later() -> None:
    script = (
        "import sys, signal\n"
        "import tspctl\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'cli.main': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "tspctl.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "interrupted\n")


@pytest.mark.parametrize("arguments", [["--help"], ["submit", "--help"], ["status", "--help"], ["data", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    loaded = loaded_by(*arguments)
    assert "click" in loaded
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)
    assert not {"tsp.store.base", "tsp.config.run", "cli.backends.local.backend"} & set(loaded)


def test_help_loads_no_command() -> None:
    assert {name for name in loaded_by("--help") if name.startswith("cli.")} <= {
        "cli.main",
        "cli.signals",
        "cli.streams",
    }


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(3):
        start = os.times()
        subprocess.run([sys.executable, "-m", "cli.main", "--help"], capture_output=True, check=True)
        end = os.times()
        seconds.append(end.children_user + end.children_system - start.children_user - start.children_system)
    # Computing time, which other processes hardly change: 0.1 s alone on its core, three times that beside a neighbour.
    assert min(seconds) < 0.4


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_its_line_in_the_list_is_its_own(name: str) -> None:
    command = tspctl.get_command(click.Context(tspctl), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").splitlines()[0] == COMMANDS[name][1]


def defining_modules(command: click.Command) -> set[str]:
    """The modules that a command and its subcommands come from."""
    found = {command.callback.__module__} if command.callback is not None else set()
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found |= defining_modules(inner)
    return found


def test_every_module_of_commands_is_reached_from_the_list() -> None:
    modules = {f"cli.commands.{path.stem}" for path in (CLI / "commands").glob("[a-z]*.py")}
    assert modules <= defining_modules(tspctl)


def lacking_help(command: click.Command, path: str) -> list[str]:
    """The command, its subcommands and options that say nothing of themselves."""
    lacking = [] if (command.help or "").strip() else [path]
    options = [item for item in command.params if isinstance(item, click.Option)]
    lacking += [f"{path} {option.opts[0]}" for option in options if not (option.help or "").strip()]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            lacking += lacking_help(found, f"{path} {name}")
    return lacking


def test_every_command_and_option_has_help() -> None:
    assert lacking_help(tspctl, "tspctl") == []


def test_what_has_no_help_is_noticed() -> None:
    @click.group(help="A group.")
    def group() -> None: ...

    @group.command()
    @click.option("--mute")
    @click.option("--told", help="Told.")
    def silent(mute: str, told: str) -> None: ...

    assert lacking_help(group, "group") == ["group silent", "group silent --mute"]


@pytest.mark.parametrize("folder", ["commands", "runs"])
def test_nothing_asks_which_backend_it_talks_to(folder: str) -> None:
    """What differs between backends is a method of ``Backend``; import contracts keep their modules out."""
    files = sorted(CLI.glob(f"{folder}/*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare):
                texts = {item.value for item in ast.walk(node) if isinstance(item, ast.Constant)}
                assert not texts & {"local", "kubernetes"}, f"{file.name}:{node.lineno} asks for a backend's name"
