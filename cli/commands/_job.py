"""Shared code of the commands for auxiliary jobs: options, starting the job, printing its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.output import FORMATS, format_option, print_pairs, print_table, print_value
from cli.streams import echo

if TYPE_CHECKING:
    from cli.runs.session import Session


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every job has."""
    return job_options_with(*FORMATS)(command)


def job_options_with(*formats: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The same with other formats of the answer."""
    return lambda command: _add_options(command, formats)


def _add_options(command: Callable[..., Any], formats: Sequence[str]) -> Callable[..., Any]:
    for option in (
        format_option(*formats),
        click.option("--on-cluster", is_flag=True,
                     help="Run in a pod, where paths are those of the pod."),
        click.option("--queue", metavar="Q", help="Kueue queue (cluster only)."),
        click.option("--image", metavar="REF", help="Container image (cluster only)."),
        click.option("--name", help="Name of the job (cluster only)."),
    ):  # fmt: skip
        command = option(command)
    return command


def run_job(
    session: Session,
    kind: str,
    fields: dict[str, Any],
    given: dict[str, Any],
    *,
    gpus: int = 1,
    show: Callable[[dict[str, Any], str], None] | None = None,
) -> bool:
    """Run a job and print its answer; exits with the job's exit code unless that is 0.

    Args: fields and given, together the job's fields and the options of ``job_options``; gpus, processes that share
        the work; show, prints the answer in the format of -o.
    Returns: False if it now runs in the background.
    Raises: ConfigError for an invalid field.
    """
    from datetime import datetime

    from cli.backends.base import BackendOptions
    from tsp.config.job import StoreJob, path_fields
    from tsp.config.jobs import JOBS, job_from_dict

    output, name, on_cluster = given.pop("output"), given.pop("name"), given.pop("on_cluster")
    backend = session.job_backend(kind, on_cluster=on_cluster)
    backend.refuse_ignored({"--name": name, "--image": given["image"], "--queue": given["queue"]})
    options = BackendOptions(
        image=given.pop("image") or session.settings.image, queue=given.pop("queue") or session.settings.queue
    )
    values = {key: value for key, value in {**fields, **given}.items() if value is not None}
    paths = list(path_fields(JOBS[kind]))
    addresses = [str(values[key]) for key in paths if str(values.get(key)).startswith("s3://")]
    if addresses and "store" not in values and issubclass(JOBS[kind], StoreJob):
        values["store"] = s3_config(session, addresses[0])
    job = job_from_dict(kind, backend.with_job_paths(values, paths))
    name = name or f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"
    end = backend.run_job(name, job, options, gpus=gpus)
    if end is None:
        echo(f"submitted {name}: follow it with 'tspctl logs -f {name}'", err=True)
        print_name(name, output)
        return False
    if end.answer is not None:
        (show or show_answer)(end.answer, output)
    if end.exit_code:
        raise click.exceptions.Exit(end.exit_code)
    return True


def print_name(name: str, output: str) -> None:
    """Print the name of a job that was submitted."""
    if output in ("json", "yaml"):
        print_value({"name": name}, output)
    else:
        echo(name)


def s3_config(session: Session, address: str) -> dict[str, Any]:
    """Connection settings for a job's ``s3://`` addresses: those of the store.

    The job uses its own addresses; the URI only completes the settings.
    """
    from dataclasses import asdict

    bucket = "/".join(address.split("/")[:3])
    store = session.settings.store or ""
    return asdict(session.store_config(store if store.startswith("s3://") else bucket))


def show_answer(answer: dict[str, Any], output: str) -> None:
    """Print an answer: complete as JSON or YAML; as a table its ``rows``, with the plain values below."""
    if output != "table":
        print_value(answer, output)
        return
    rows = answer.get("rows") or []
    if rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        print_table(
            [column.replace("_", " ").upper() for column in columns], [[r.get(c) for c in columns] for r in rows]
        )
    plain = [(key.replace("_", " "), value) for key, value in answer.items() if not isinstance(value, list | dict)]
    if rows and plain:
        echo()
    print_pairs(plain)
