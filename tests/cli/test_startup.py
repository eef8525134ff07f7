import subprocess
import sys
import time

import click
import pytest

from cli.main import COMMANDS, tspctl

HEAVY = ("boto3", "botocore", "kubernetes", "yaml", "rich", "torch", "numpy", "av", "h5py", "matplotlib", "asyncio")
LOADED = "import sys, json; from cli.main import main\ntry: main()\nexcept SystemExit: print(sorted(sys.modules))"


def loaded_by(*arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True)
    return [name.strip(" '[]") for name in done.stdout.splitlines()[-1].split(",")]


@pytest.mark.parametrize("arguments", [["--help"], ["submit", "--help"], ["status", "--help"], ["data", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    loaded = loaded_by(*arguments)
    assert "click" in loaded
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)
    assert not {"tsp.store.base", "tsp.config.run", "cli.backends.local.backend"} & set(loaded)


def test_help_loads_no_command() -> None:
    assert {name for name in loaded_by("--help") if name.startswith("cli.")} <= {"cli.main"}


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cli.main", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    # 0.1 s on an idle machine; the rest is for one that is busy with other tests.
    assert min(seconds) < 1.0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_its_line_in_the_list_is_its_own(name: str) -> None:
    command = tspctl.get_command(click.Context(tspctl), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").splitlines()[0] == COMMANDS[name][1]
    for option in command.params:
        if isinstance(option, click.Option) and option.help is None:
            assert option.show_default or option.name in ("output", "name"), f"{name} {option.opts} has no help"
