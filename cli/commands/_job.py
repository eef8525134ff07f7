"""What all commands for jobs beside training share: options, sending, showing the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.output import FORMATS, format_option, print_pairs, print_table, print_value

if TYPE_CHECKING:
    from cli.options.settings import Settings


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every job."""
    for option in (
        format_option(*FORMATS),
        click.option("--on-cluster", is_flag=True,
                     help="In a pod, with paths as pods see them; probe, annotate, check and demo run here otherwise."),
        click.option("--queue", metavar="Q", help="Kueue queue (on a cluster)."),
        click.option("--image", metavar="REF", help="Container image (on a cluster)."),
        click.option("--name", help="Name of the job (on a cluster)."),
    ):  # fmt: skip
        command = option(command)
    return command


def run_job(
    settings: Settings,
    kind: str,
    fields: dict[str, Any],
    given: dict[str, Any],
    *,
    paths: Sequence[str] = (),
    gpus: int = 1,
) -> None:
    """Send a job and show its answer; ends the program with the job's exit code unless that is 0.

    Args: fields and given, together the job's fields and the options of ``job_options``; paths, fields that may hold
        paths of this machine, or addresses in S3; gpus, processes that share the work.
    Raises: ConfigError for a bad field.
    """
    from datetime import datetime

    from cli.backends.base import BackendOptions
    from cli.backends.open import open_backend
    from cli.options.store import absolute_unless_uri
    from tsp.config.jobs import LOCAL_UNLESS_TOLD, job_from_dict

    output, name, given_on_cluster = given.pop("output"), given.pop("name", None), given.pop("on_cluster", False)
    options = BackendOptions(
        image=given.pop("image", None) or settings.image, queue=given.pop("queue", None) or settings.queue
    )
    values = {key: value for key, value in {**fields, **given}.items() if value is not None}
    addresses = [str(values[key]) for key in paths if str(values.get(key)).startswith("s3://")]
    if addresses and "store" not in values:
        values["store"] = way_to_s3(settings, addresses[0])
    on_cluster = given_on_cluster or (kind not in LOCAL_UNLESS_TOLD and settings.backend == "kubernetes")
    backend = open_backend(settings, "kubernetes" if on_cluster else "local")
    if backend.name == "local":
        values |= {key: absolute_unless_uri(values[key]) for key in paths if key in values}
    job = job_from_dict(kind, values)
    name = name or f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"
    end = backend.run_job(name, kind, job, options, gpus=gpus)
    if end is None:
        click.echo(f"submitted {name}: follow it with 'tspctl logs -f {name}'", err=True)
        click.echo(name)
        return
    if end.answer is not None:
        show_answer(end.answer, output)
    if end.exit_code:
        raise click.exceptions.Exit(end.exit_code)


def way_to_s3(settings: Settings, address: str) -> dict[str, Any]:
    """How to speak to the server that ``s3://`` addresses mean: as to the store, or by default.

    A job reads and writes where its own addresses say; the URI only tells ``status`` where runs live.
    """
    from dataclasses import asdict

    from cli.options.store import store_config

    bucket = "/".join(address.split("/")[:3])
    return asdict(store_config(settings, settings.store if (settings.store or "").startswith("s3://") else bucket))


def show_answer(answer: dict[str, Any], output: str) -> None:
    """The whole answer as JSON or YAML; as a table its ``rows``, and the plain values below."""
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
        click.echo()
    print_pairs(plain)
