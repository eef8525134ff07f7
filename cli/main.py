"""The command ``tspctl``: finds the command's module, turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import io
import logging
import sys
from typing import NoReturn

import click

from tsp.errors import TspError

INTERRUPTED_EXIT_CODE = 130
LOGGERS = ("cli", "k8s", "tsp")

COMMANDS: dict[str, tuple[str, str]] = {
    "submit": ("cli.commands.submit:submit", "Start a training run."),
    "list": ("cli.commands.list:list_command", "List runs, newest first."),
    "status": ("cli.commands.status:status", "Show how a run is doing, and why it waits or failed."),
    "logs": ("cli.commands.logs:logs", "Print what the ranks of a run wrote, merged in the order of time."),
    "results": ("cli.commands.results:results", "Show accuracy and loss of every epoch."),
    "wait": ("cli.commands.wait:wait", "Wait until a run has ended; the exit code is its outcome."),
    "fetch-best": ("cli.commands.fetch:fetch_best", "Download the checkpoint of the best epoch."),
    "fetch": ("cli.commands.fetch:fetch", "Download an epoch, features, logs, or everything of a run."),
    "cancel": ("cli.commands.stop:cancel", "Stop a run for good, its state saved."),
    "suspend": ("cli.commands.stop:suspend", "Stop a run so that it can go on later."),
    "resume": ("cli.commands.resume:resume", "Go on with a run from its newest saved state."),
    "delete": ("cli.commands.delete:delete", "Remove a run that has ended, with all it stored."),
    "exec": ("cli.commands.exec:execute", "Run a command beside a rank of a running run."),
    "extract": ("cli.commands.extract:extract", "Features of every video, in one H5 file or a .npy file each."),
    "gvf": ("cli.commands.extract:gvf", "Global video features, which TSP's region head needs."),
    "features": ("cli.commands.features:features", "Convert features, or say what they are."),
    "models": ("cli.commands.models:models", "List released checkpoints, or download one."),
    "data": ("cli.commands.data:data", "Make and check data sets."),
    "doctor": ("cli.commands.doctor:doctor", "Check that this machine, the store and the cluster are ready."),
    "version": ("cli.commands.version:version", "Show the release, its commit, chart and image."),
    "completion": ("cli.commands.doctor:completion", "Print the completion script of a shell."),
}
"""Name -> module and function (imported only when the command runs), and the line that --help shows."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when help is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which a run needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        _add_verbosity(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _set_level(context: click.Context, option: click.Parameter, given: bool) -> None:
    if given:
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.DEBUG if option.name == "verbose" else logging.WARNING)


def _verbosity() -> list[click.Parameter]:
    """-v and -q, which work before the command and after it."""
    return [
        click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=_set_level,
                     help="Say more, tracebacks included."),
        click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_set_level,
                     help="Say nothing but warnings and errors."),
    ]  # fmt: skip


def _add_verbosity(command: click.Command) -> None:
    """Give a command and its subcommands -v and -q; not one that hands unknown options on to another program."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _add_verbosity(child)
    elif not command.ignore_unknown_options and all(item.name != "verbose" for item in command.params):
        command.params += _verbosity()


@click.command(
    cls=LazyGroup, name="tspctl", context_settings={"help_option_names": ["-h", "--help"]}, params=_verbosity()
)
@click.version_option(package_name="tspctl")
def tspctl() -> None:
    """Pretrain video clip encoders with TSP and TAC, on Kubernetes or on this machine."""


def _start_logging() -> None:
    """Narrate on stderr as it is now."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Narration())
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).handlers = [handler]


def _accept_any_text() -> None:
    """A terminal or file of another encoding shows what it lacks as an escape; it never ends the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Narration(logging.Formatter):
    """Plain sentences; only warnings and errors say what they are."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def main() -> NoReturn:
    """Run ``tspctl`` and exit; an error is one message on stderr, a traceback only with -v."""
    _accept_any_text()
    _start_logging()
    try:
        code = tspctl.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        # click raises Abort from the KeyboardInterrupt, which knows what was interrupted.
        notes = [note for item in (error, error.__cause__) for note in getattr(item, "__notes__", ())]
        click.echo("\n".join(["interrupted", *notes]), err=True)
        code = INTERRUPTED_EXIT_CODE
    except TspError as error:
        _show(error, f"error: {error}")
        code = error.exit_code
    except Exception as error:
        _show(error, f"unexpected error: {type(error).__name__}: {error} (tspctl -v shows the traceback)")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _show(error: Exception, message: str) -> None:
    if logging.getLogger("cli").isEnabledFor(logging.DEBUG):
        import traceback

        traceback.print_exception(error)
    click.echo("\n".join([message, *getattr(error, "__notes__", ())]), err=True)


if __name__ == "__main__":
    main()
