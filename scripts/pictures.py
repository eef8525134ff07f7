"""Draw docs/pictures from the demo's run: what the terminal shows as SVG, the report as PNG (needs chromium)."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs/pictures"
STORE = ROOT / ".demo/store"
COLUMNS = 100


def main() -> None:
    """All pictures; the run is the newest of the demo's store."""
    runs = sorted(path.parent.name for path in STORE.glob("*/run.json"))
    if not runs:
        sys.exit("no run in .demo: `make demo` first")
    PICTURES.mkdir(exist_ok=True)
    for name, words in {"list": ["list"], "status": ["status", runs[-1]], "results": ["results", runs[-1]]}.items():
        draw(name, words)
        print(PICTURES / f"{name}.svg")
    print(photograph(runs[-1:]))


def draw(name: str, words: list[str]) -> None:
    """A command and what it prints on a terminal, as ``docs/pictures/NAME.svg``."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    shown = " ".join(word.replace("--backend=local", "") for word in ["tspctl", *words])
    console.print(f"[bold]$ {shown}[/bold]", highlight=False)
    console.print(Text.from_ansi(on_terminal(["-m", "tspctl", *words, "--backend", "local", "--store", str(STORE)])))
    console.save_svg(str(PICTURES / f"{name}.svg"), title="tspctl")


def on_terminal(arguments: list[str]) -> str:
    """What Python with these arguments writes to a terminal."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": "40", "TERM": "xterm-256color"}
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
            ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1100,1500",
             f"--screenshot={picture}", page.as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
    return picture


if __name__ == "__main__":
    main()
