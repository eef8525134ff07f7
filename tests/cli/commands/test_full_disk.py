"""Files that commands draw or write when the system takes no more bytes: an error names the file, no half is left."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands.test_fetch import original as original
from tests.cli.conftest import Tspctl

COMMANDS = {
    "plot": ("results", "--plot", "out/curves.png"),
    "report": ("report", "--out", "out/page.html"),
    "events": ("tensorboard", "--export", "out/events"),
}


@pytest.fixture
def full() -> Iterator[None]:
    """No file of this process may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("before", ["full", "a file in the way"])
def test_what_cannot_be_written_is_named_and_not_left_half_done(
    tspctl: Tspctl,
    original: Path,
    request: pytest.FixtureRequest,
    kind: str,
    before: str,
) -> None:
    pytest.importorskip({"plot": "matplotlib", "events": "tensorboard"}.get(kind, "sys"))
    command, option, out = COMMANDS[kind]
    assert tspctl(command, original, option, f"fine/{out}").code == 0
    assert files(Path("fine")), "and it can be written elsewhere"
    if before == "full":
        Path("out").mkdir()
        request.getfixturevalue("full")
    else:
        Path("out").touch()
    ended = tspctl(command, original, option, out)
    assert ended.code in (2, 5), ended.err
    assert out in ended.err
    assert "unexpected" not in ended.err
    assert "Traceback" not in ended.err
    assert files(Path("out")) == []
