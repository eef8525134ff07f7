"""``tspctl evaluate``: the validation results of a checkpoint, without training."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cli.commands._job import job_options_with, run_job, s3_config
from cli.options.ignored import refuse_typed_except
from cli.options.locations import LOCATION
from cli.options.recipe import like_options, some_recipe_options
from cli.options.shared import SHARED_KEYS
from cli.output import FORMATS
from cli.runs.argument import checkpoint_argument
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from cli.runs.checkpoint import Checkpoint
    from tsp.config.run import RunConfig

RECIPE_FLAGS = (
    "--backbone", "--precision", "--batch-per-gpu", "--clips-per-segment", "--bad-clips",
    "--training-copy/--no-training-copy",
)  # fmt: skip
PRESETS = {"model.precision": "fp32", "model.pretrained": "none"}
"""As the published system validates; no initial weights are needed."""


SHOWS = ("show", "out", "plot", "output", *SHARED_KEYS)
"""Options that --show reads."""
NO_DATASET = "no data set: the checkpoint does not record the one it was trained on; give --dataset"


@click.command()
@checkpoint_argument
@click.option("--epoch", type=click.IntRange(0), metavar="N", help="Epoch of RUN; default: its best.")
@like_options
@some_recipe_options(*RECIPE_FLAGS)
@click.option("--workers", type=click.IntRange(0), metavar="N", help="Data worker processes per GPU.")
@click.option(
    "--out", type=LOCATION, metavar="JSON", help="File or URI to write; default: in evaluations/ of RUN, or here."
)
@click.option("--plot", type=LOCATION, metavar="FILE.png", help="Also draw accuracies and confusion matrices.")
@click.option("--show", is_flag=True, help="Only show what an earlier evaluation wrote to --out.")
@job_options_with(*FORMATS, "csv")
@with_session
def evaluate(session: Session, epoch: int | None, plot: str | None, show: bool, **given: Any) -> None:
    """Validate a checkpoint, class by class, without training.

    Prints the results line that training would write, and accuracy and confusion of every class.
    RUN|CHECKPOINT is a run (its best epoch), a .pth file, an s3:// or https:// address, or a released checkpoint that
    'tspctl models' lists. For a RUN, data set, method, heads and encoder are the run's own unless given; for a released
    checkpoint they are known; for other checkpoints, give --dataset and whatever differs from TSP. Results do not
    depend on --gpus.
    """
    from cli.runs.checkpoint import find_checkpoint
    from tsp.config.codec import to_dict

    if show:
        answer = _earlier_evaluation(session, epoch, given)
        print_evaluation(answer, given["output"], plot)
        return
    checkpoint = given["checkpoint"]
    source = find_checkpoint(session, given.pop("checkpoint"), epoch)
    job = {key: given.pop(key) for key in ("output", "name", "image", "queue", "on_cluster", "out", "workers")}
    backend = session.job_backend("evaluate", on_cluster=job["on_cluster"])
    config = backend.with_paths(config_for(session, source, given), given["dataset"])
    job["out"] = job["out"] or _default_out(source, config.data.name)
    config = _reaching(session, config, source.address, job["out"])
    fields = {"config": to_dict(config), "checkpoint": source.address}
    out = job["out"]

    def show_evaluation(answer: dict[str, Any], output: str) -> None:
        print_evaluation(answer, output, plot)

    if not run_job(session, "evaluate", fields, job, gpus=given["gpus"] or 1, show=show_evaluation):
        words = ["tspctl", "evaluate", checkpoint, "--show", "--out", out]
        words += [*(["--plot", plot] if plot is not None else []), *session.shared_options]
        echo(f"when it has ended, show its results with: {shlex.join(words)}", err=True)


def _default_out(source: Checkpoint, dataset: str) -> str:
    return f"{source.out_stem('evaluations')}-on-{dataset}.json"


def _earlier_evaluation(session: Session, epoch: int | None, given: dict[str, Any]) -> dict[str, Any]:
    """What --show shows.

    Raises: click.UsageError for options that only an evaluation reads; ConfigError, DataError.
    """
    from cli.runs.checkpoint import find_checkpoint
    from tsp.config.recipes import load_dataset
    from tsp.errors import ConfigError

    if given["out"] is not None:
        # All is in the file: neither checkpoint nor data set is needed.
        refuse_typed_except(SHOWS, "with --show and --out, which shows that file")
        asked, out = given["checkpoint"], given["out"]
    else:
        refuse_typed_except((*SHOWS, "epoch", "dataset"), "with --show, which only finds an earlier evaluation")
        source = find_checkpoint(session, given["checkpoint"], epoch)
        dataset = source.dataset if given["dataset"] is None else load_dataset(given["dataset"]).name
        if dataset is None:
            raise ConfigError(NO_DATASET)
        asked, out = source.address, _default_out(source, dataset)
    answer = read_evaluation(session, out)
    _warn_of_another(answer, asked, out)
    return answer


def _warn_of_another(answer: dict[str, Any], asked: str, where: str) -> None:
    """Warn if an earlier evaluation is of another file than the one named now; a run's name does not tell."""
    found = str(answer.get("checkpoint", ""))
    if found and asked.endswith(".pth") and found.rpartition("/")[2] != asked.rpartition("/")[2]:
        echo(f"warning: {where} is the evaluation of {found}, not of {asked}", err=True)


def config_for(session: Session, source: Checkpoint, given: dict[str, Any]) -> RunConfig:
    """The configuration to validate: that of RUN, or what is known of the checkpoint, overridden by the given options.

    Raises: ConfigError if the data set is neither given nor known.
    """
    from cli.options.run_config import build_config, config_like, given_values
    from cli.options.without_effect import refuse_training_values
    from tsp.config.recipes import shipped_datasets
    from tsp.errors import ConfigError, NoSuchRunError

    refuse_training_values(given_values(session.settings, given))
    presets = dict(PRESETS)
    if source.run is not None:
        try:
            like, store = _as_trained(source), source.store or session.store_config()
            return config_like(session.settings, "evaluate", {**given, **_own_precision(given)}, like, store=store)
        except NoSuchRunError:
            pass  # a run of the original scripts, of which only checkpoints are known
    known = source.released
    if given["dataset"] is None and known is not None and known.dataset in shipped_datasets():
        given = {**given, "dataset": known.dataset}
    if given["dataset"] is None:
        raise ConfigError(NO_DATASET)
    if known is not None:
        presets["model.backbone"] = known.backbone
        given = {**given, "method": given["method"] or known.method, "gvf": given["gvf"] or known.gvf}
    given = {**given, "method": given["method"] or "tsp"}
    config = build_config(session.settings, "evaluate", given, needs_store=False, presets=presets)
    return config if source.store is None else replace(config, store=source.store)


def _reaching(session: Session, config: RunConfig, *addresses: str) -> RunConfig:
    """The configuration with a server for ``s3://`` addresses, if the store is a folder."""
    from tsp.config.store import StoreConfig

    remote = [address for address in addresses if address.startswith("s3://")]
    if not remote or config.store.uri.startswith("s3://"):
        return config
    return replace(config, store=StoreConfig(**s3_config(session, remote[0])))


def _own_precision(given: dict[str, Any]) -> dict[str, Any]:
    return {"precision": given["precision"] or PRESETS["model.precision"]}


def _as_trained(source: Checkpoint) -> RunConfig:
    """The run's configuration with the batch that its ranks had: losses are means over batches.

    Raises: NoSuchRunError for a run of the original scripts.
    """
    assert source.run is not None
    config, effective = source.run.config(), source.run.about().get("effective")
    batch = config.batch_per_gpu if effective is None else int(effective["batch_per_gpu"])
    model = replace(config.model, pretrained="none", pretrained_sha256=None)
    return replace(config, batch_per_gpu=batch, downscale="1", model=model, resume=None, start_epoch=None)


def read_evaluation(session: Session, address: str) -> dict[str, Any]:
    """The answer of an earlier evaluation.

    Raises: DataError if there is none; ConfigError if the file is something else.
    """
    from cli.options.store import absolute_unless_uri
    from tsp.errors import DataError
    from tsp.run.evaluation import EvaluationFile, answer_of

    folder, _, name = absolute_unless_uri(address).rpartition("/")
    file = EvaluationFile(session.open_store(session.store_config(folder or "/")), name)
    found = file.read()
    if found is None:
        raise DataError(f"there is no evaluation at {file.address}: run the command without --show first")
    return answer_of(found, file.address).to_dict()


def print_evaluation(answer: dict[str, Any], output: str, plot: str | None) -> None:
    """The results line, every class, and the configuration of the evaluation; a shard that is not the last has only
    counts."""
    from cli.classes import draw_classes, print_classes, print_confusions
    from cli.output import print_pairs, print_value

    rows = answer.get("rows") or []
    if plot is not None and rows:
        draw_classes(rows, plot, title=answer["results_line"])
        echo(f"drew {plot}", err=True)
    if output == "csv":
        print_confusions(rows)
    elif output != "table":
        print_value(answer, output)
    else:
        if rows:
            echo(answer["results_line"] + "\n")
            print_classes(rows)
            echo()
        plain = {key: value for key, value in answer.items() if not isinstance(value, list | dict)}
        plain.pop("results_line", None)
        print_pairs([(key.replace("_", " "), value) for key, value in plain.items()])
