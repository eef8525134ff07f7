"""The command ``tspctl``: imports the module of the command that is run, turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from typing import NoReturn

import click

from cli.signals import DeadlySignal, number_of, run
from cli.streams import echo, prepare_streams
from tsp.config.address import MaskingFormatter, masked
from tsp.errors import TspError, interruption

LOGGERS = ("cli", "k8s", "tsp")

COMMANDS: dict[str, tuple[str, str]] = {
    "submit": ("cli.commands.submit:submit", "Start a training run."),
    "list": ("cli.commands.list:list_command", "List runs, newest first."),
    "watch": ("cli.commands.watch:watch", "Watch runs on a live screen."),
    "status": ("cli.commands.status:status", "Show how a run is doing, and why it is waiting or failed."),
    "logs": ("cli.commands.logs:logs", "Print the logs of all ranks, merged by time."),
    "results": ("cli.commands.results:results", "Show accuracy and loss of each epoch."),
    "metrics": (
        "cli.commands.metrics:metrics",
        "Show losses, learning rates, speed and memory over the steps of a run.",
    ),
    "report": ("cli.commands.report:report", "Write runs side by side to one HTML page."),
    "tensorboard": (
        "cli.commands.tensorboard:tensorboard",
        "Show the histories of runs in TensorBoard, refreshed while they train.",
    ),
    "wait": ("cli.commands.wait:wait", "Wait until a run ends; the exit code is its outcome."),
    "fetch-best": ("cli.commands.fetch:fetch_best", "Download the checkpoint of the best epoch."),
    "fetch": ("cli.commands.fetch:fetch", "Download an epoch, features, logs, or all files of a run."),
    "cancel": ("cli.commands.stop:cancel", "Save a run's state and stop it for good."),
    "suspend": ("cli.commands.stop:suspend", "Save a run's state and stop it until it is resumed."),
    "resume": ("cli.commands.resume:resume", "Continue a run from its newest saved state."),
    "delete": ("cli.commands.delete:delete", "Delete a run that has ended, and its files in the store."),
    "exec": ("cli.commands.exec:execute", "Run a command in the environment of a rank."),
    "extract": ("cli.commands.extract:extract", "Extract the features of all videos, to an H5 file or .npy files."),
    "gvf": ("cli.commands.extract:gvf", "Extract global video features, which TSP's region head needs."),
    "evaluate": ("cli.commands.evaluate:evaluate", "Validate a checkpoint, class by class, without training."),
    "features": ("cli.commands.features:features", "Convert or describe features."),
    "models": ("cli.commands.models:models", "List or download released checkpoints."),
    "gpus": ("cli.commands.gpus:gpus", "List GPUs by node, and which runs use them."),
    "data": ("cli.commands.data:data", "Prepare and check data sets."),
    "doctor": ("cli.commands.doctor:doctor", "Check this machine, the store and the cluster."),
    "version": ("cli.commands.version:version", "Show the release, its commit, chart and image."),
    "completion": ("cli.commands.doctor:completion", "Print a shell completion script."),
}
"""Name -> module and function (imported when the command runs), and its line in --help."""


class LazyGroup(click.Group):
    """A group that imports a command when it is run, not when help is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of a run's life, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        _complete(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _set_level(context: click.Context, option: click.Parameter, given: bool) -> None:
    if given:
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.DEBUG if option.name == "verbose" else logging.WARNING)


def _verbosity() -> list[click.Parameter]:
    """-v and -q, accepted before and after the command."""
    return [
        click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=_set_level,
                     help="Print details, and tracebacks of errors."),
        click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_set_level,
                     help="Print only warnings and errors."),
    ]  # fmt: skip


def _complete(command: click.Command) -> None:
    """What all commands and subcommands have in common, once; those that pass options on to another program lack it."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _complete(child)
    if isinstance(command, click.Group) and not command.invoke_without_command:
        return
    if not command.ignore_unknown_options and all(item.name != "verbose" for item in command.params):
        from cli.options.empty_value import refuse_empty_values

        refuse_empty_values(command)
        command.params += _verbosity()


@click.command(
    cls=LazyGroup, name="tspctl", context_settings={"help_option_names": ["-h", "--help"]}, params=_verbosity()
)
@click.version_option(package_name="tspctl")
def tspctl() -> None:
    """Pretrain video clip encoders with TSP and TAC, on Kubernetes or on this machine."""


def _start_logging() -> None:
    """Log to the current stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Narration())
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).handlers = [handler]


class _Narration(MaskingFormatter):
    """Plain sentences; only warnings and errors get a prefix."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def main() -> NoReturn:
    """Run ``tspctl`` and exit; errors are one message on stderr, with a traceback only under -v."""
    prepare_streams()
    _start_logging()
    try:
        code = tspctl.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except TspError as error:
        _show(error, f"error: {error}")
        code = error.exit_code
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, click.Abort) or interruption(error):
            _die_of(error)
        _show(error, f"unexpected error: {type(error).__name__}: {error} (run it with -v for the traceback)")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _die_of(error: BaseException) -> NoReturn:
    notes = getattr(interruption(error), "__notes__", ())
    number = number_of(error)
    what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    echo("\n".join([what, *notes]), err=True)
    raise DeadlySignal(number) from None


def program() -> NoReturn:
    """``main`` as a program of its own, which signals end."""
    run(main)


def _show(error: BaseException, message: str) -> None:
    if logging.getLogger("cli").isEnabledFor(logging.DEBUG):
        import traceback

        echo(masked("".join(traceback.format_exception(error))), err=True, nl=False)
    echo(masked("\n".join([message, *getattr(error, "__notes__", ())])), err=True)


if __name__ == "__main__":
    program()
