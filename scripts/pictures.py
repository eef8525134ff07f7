"""Generate docs/pictures from the demo's run: the terminal's output as SVG, the report as PNG (needs chromium)."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli.options.user_folders import user_folder

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs/pictures"
STORE = ROOT / ".demo/store"
COLUMNS = {"list": 140, "status": 100, "results": 150}
"""Width of each picture: room for every column of its table."""


def main() -> None:
    """All pictures; the run is the newest of the demo's store."""
    runs = sorted(path.parent.name for path in STORE.glob("*/run.json"))
    if not runs:
        sys.exit("no run in .demo: `make demo` first")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as state:
        only_demo(Path(state), runs)
        for name, words in {"list": ["list"], "status": ["status", runs[-1]], "results": ["results", runs[-1]]}.items():
            draw(name, words)
            print(PICTURES / f"{name}.svg")
        print(photograph(runs[-1:]))


def only_demo(state: Path, runs: list[str]) -> None:
    """Let this process and its children know the demo's runs alone, whatever else ran on this machine."""
    (state / "tspctl/runs").mkdir(parents=True)
    for name in runs:
        (state / "tspctl/runs" / name).symlink_to(user_folder("STATE") / "runs" / name)
    os.environ["XDG_STATE_HOME"] = str(state)


def draw(name: str, words: list[str]) -> None:
    """A command and what it prints on a terminal, as ``docs/pictures/NAME.svg``."""
    columns = COLUMNS[name]
    console = Console(record=True, width=columns, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, kept open
    shown = " ".join(word.replace("--backend=local", "") for word in ["tspctl", *words])
    console.print(f"[bold]$ {shown}[/bold]", highlight=False)
    arguments = ["-m", "tspctl", *words, "--backend", "local", "--store", str(STORE)]
    console.print(Text.from_ansi(on_terminal(arguments, columns)))
    console.save_svg(str(PICTURES / f"{name}.svg"), title="tspctl")


def on_terminal(arguments: list[str], columns: int) -> str:
    """What Python with these arguments writes to a terminal."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color"}
    with subprocess.Popen([sys.executable, *arguments], stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        written = b""
        while True:
            try:
                piece = os.read(controller, 65536)
            except OSError:  # how a pseudo-terminal says that its other end is closed
                piece = b""
            if not piece:
                break
            written += piece
    os.close(controller)
    if process.returncode:
        sys.exit(written.decode())
    return written.decode().replace("\r\n", "\n").replace(str(ROOT), "~/tspctl").rstrip("\n")


def photograph(runs: list[str]) -> Path:
    """The report of runs, as ``docs/pictures/report.png``."""
    picture = PICTURES / "report.png"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        command = [sys.executable, "-m", "tspctl", "report", *runs, "--store", str(STORE), "--backend", "local"]
        subprocess.run([*command, "--out", str(page)], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(
            ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1240,1455",
             f"--screenshot={picture}", page.as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
    return picture


if __name__ == "__main__":
    main()
