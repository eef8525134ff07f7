"""What TAB offers where a path may be typed."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.types import StringParamType

from cli.main import tspctl
from tests.terminal import Terminal

NO_PATHS = {
    "assignments", "chart_values", "context", "endpoint_url", "env", "filename_prefix", "folder", "image", "last",
    "name", "namespace", "node_selector", "prefix", "pretrained_sha256", "priority", "pull_secrets", "queue", "since",
    "subset", "tolerations", "volumes",
}  # fmt: skip
"""Parameters that take other text."""


def texts_of(command: click.Command) -> Iterator[tuple[click.Context, click.Parameter]]:
    """The parameters of a command, and of those below it, that take text."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from texts_of(found)
    for parameter in command.params:
        if isinstance(parameter.type, StringParamType | click.Path):
            yield context, parameter


@pytest.mark.usefixtures("home")
def test_whatever_may_be_a_path_is_completed_as_one() -> None:
    completed, not_completed = set(), set()
    for context, parameter in texts_of(tspctl):
        offered = [item.type for item in parameter.shell_complete(context, "./some")]
        (completed if offered in (["file"], ["dir"]) else not_completed).add(parameter.name)
    assert not_completed == NO_PATHS
    assert {"source", "videos", "store", "checkpoint", "run", "dataset", "metadata", "pretrained"} <= completed


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("data standardize raw-v", "raw-videos/"),
        ("submit --pretrained weig", "weights.pth"),
        ("submit --dataset th", "thumos14"),
        ("submit --dataset mi", "mine.yaml"),
        ("extract ./weig", "./weights.pth"),
        ("models pull r2plus1d_34-tsp_on_t", "r2plus1d_34-tsp_on_thumos14"),
    ],
)
def test_bash_completes_it(home: Path, typed: str, completed: str) -> None:
    (home / "raw-videos").mkdir()
    for name in ("weights.pth", "mine.yaml"):
        (home / name).touch()
    script = home / "rc"
    script.write_text(
        f'cd "{home}"\nPATH="{Path(sys.executable).parent}:$PATH"\neval "$(tspctl completion bash)"\nPS1="ready> "\n'
    )
    terminal = Terminal(["bash", "--noprofile", "--rcfile", str(script), "-i"])
    terminal.wait_for(b"ready> ")
    terminal.press(f"tspctl {typed}\t".encode())
    terminal.wait_for(completed.encode())
    terminal.press(b"\x15exit 0\r")
    assert terminal.close() == 0
