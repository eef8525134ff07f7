"""``tspctl tensorboard``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options.numbers import REFRESH_SECONDS
from cli.runs.argument import runs_argument
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from cli.tensorboard.events import EventMirror


@click.command()
@runs_argument
@click.option("--export", "dest", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Only write the event files, a folder for each run.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=6006, show_default=True,
              help="Port of TensorBoard on localhost; 0 picks a free one.")  # fmt: skip
@click.option("--every", "every_sec", type=REFRESH_SECONDS, default=15.0, show_default=True, metavar="SEC",
              help="Seconds between reads of the stores.")  # fmt: skip
@with_session
def tensorboard(runs: tuple[str, ...], dest: Path | None, port: int, every_sec: float, session: Session) -> None:
    """Show the histories of runs in TensorBoard, refreshed while they train.

    Ctrl-C ends it. Runs without a history, such as those of the original scripts, show their epochs.
    """
    from cli.options.ignored import refuse_typed
    from tsp.errors import ConfigError
    from tsp.store.scratch import temporary_folder
    from tsp.version import install_command

    if dest is not None:
        refuse_typed(("port", "every_sec"), "with --export, which starts no server")
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(f"TensorBoard is not installed: {install_command('tensorboard')}")
    from cli.runs.several import find_several
    from cli.tensorboard.events import EventMirror

    several = find_several(session, runs)
    with contextlib.ExitStack() as stack:
        if dest is None:
            dest = stack.enter_context(temporary_folder())
            serve = True
        else:
            serve = False
        mirrors = [EventMirror(item.found.run, dest / folder_of(item.name)) for item in several]
        for mirror in mirrors:
            stack.callback(mirror.close)
            mirror.refresh()
        if serve:
            _serve(dest, mirrors, port, every_sec)
        else:
            echo(dest)


def folder_of(name: str) -> str:
    """A run's folder below TensorBoard's, which shows it as the run's name; of an address its host and path."""
    return name.partition("://")[2].strip("/") or name.strip("/") or "run"


def _serve(folder: Path, mirrors: list[EventMirror], port: int, every_sec: float) -> None:
    """Run TensorBoard until it ends, or Ctrl-C; it prints its address itself."""
    from tsp.errors import TspError
    from tsp.run.rank_group import end_with

    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "localhost", "--port",
               str(port), "--reload_interval", str(every_sec)]  # fmt: skip
    server = subprocess.Popen(command, preexec_fn=end_with(os.getpid()))
    try:
        while server.poll() is None:
            time.sleep(every_sec)
            for mirror in mirrors:
                try:
                    mirror.refresh()
                except TspError as error:
                    echo(f"warning: not refreshed: {error}", err=True)
    except KeyboardInterrupt:
        echo("stopped", err=True)
    finally:
        server.terminate()
        code = server.wait()
    if code > 0:
        raise click.exceptions.Exit(code)
