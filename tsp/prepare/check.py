"""Finds everything that would make a run fail or train wrongly, before it uses a GPU."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tsp.config.job import Answer
from tsp.config.jobs import CheckJob
from tsp.config.run import RunConfig, SubsetConfig
from tsp.data.dataset_files import DatasetFiles
from tsp.data.label_map import load_label_map
from tsp.data.tables import refuse_shared_names
from tsp.errors import DataError
from tsp.prepare.check_gvf import GvfOrigin, check_gvf, other_gvf
from tsp.prepare.check_table import TableCheck, check_table
from tsp.prepare.check_videos import check_videos
from tsp.prepare.findings import ERROR, WARNING, DataFinding, count, in_order
from tsp.prepare.histogram import draw_histogram
from tsp.wording import counted

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Report:
    """The findings about a data set."""

    findings: list[DataFinding] = field(default_factory=list)
    tables: dict[str, TableCheck] = field(default_factory=dict)
    """By subset; a table that cannot be read has none."""
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The label map of each head's column."""
    gvf_made_of: dict[str, GvfOrigin] = field(default_factory=dict)
    """By subset."""

    def kept(self, column: str, subset: str) -> Counter[str]:
        """Kept segments per class."""
        table = self.tables.get(subset)
        return Counter() if table is None else table.kept_per_class[column]


def run(job: CheckJob) -> Answer:
    """Do a check job; ``rows`` are the findings, and an error among them gives exit code 3."""
    report = check_data(job.config, decode_all=job.decode, workers=job.workers)
    if job.plot is not None:
        draw_histogram(
            Path(job.plot), report.classes, {name: table.kept_per_class for name, table in report.tables.items()}
        )
    num_errors, num_warnings = count(report.findings, ERROR), count(report.findings, WARNING)
    logger.info("%s, %s", counted(num_errors, "error"), counted(num_warnings, "warning"))
    facts = {
        "errors": num_errors,
        "warnings": num_warnings,
        **{f"{name}_segments": _told(table, job.config) for name, table in report.tables.items()},
        "classes": {
            column: {
                label: {subset: report.kept(column, subset)[label] for subset in report.tables} for label in labels
            }
            for column, labels in report.classes.items()
        },
        "counts": {
            name: {
                "rows": table.num_rows,
                "kept": table.num_kept,
                "too_short": table.num_too_short,
                "clamped": table.num_clamped,
                "clips_per_epoch": table.num_kept * job.config.clips.per_segment,
            }
            for name, table in report.tables.items()
        },
    }
    rows = [finding.as_row() for finding in in_order(report.findings)]
    return Answer(rows=rows, facts=facts, exit_code=DataError.exit_code if num_errors else 0)


def _told(table: TableCheck, config: RunConfig) -> str:
    return (
        f"{table.num_kept} kept of {table.num_rows} rows ({table.num_too_short} shorter than a clip left out, "
        f"{table.num_clamped} cut to their video), {table.num_kept * config.clips.per_segment} clips an epoch"
    )


def check_data(config: RunConfig, *, decode_all: bool, workers: int | None = None) -> Report:
    """Check the tables, label maps, GVF and videos of a run.

    Raises: ConfigError if the data set's folder is not there, StoreError; all else is a finding.
    """
    files = DatasetFiles(config.data, config.store)
    report = Report()
    for head in config.model.heads:
        try:
            report.classes[head.label_column] = load_label_map(files.table(head.labels))
        except DataError as error:
            report.findings.append(DataFinding(ERROR, "both", head.labels, None, str(error)))
    for name, subset in (("train", config.data.train), ("valid", config.data.valid)):
        _check_subset(report, name, files, subset, config, decode_all, workers)
    report.findings += _between_subsets(report, config)
    return report


def _check_subset(
    report: Report,
    name: str,
    files: DatasetFiles,
    subset: SubsetConfig,
    config: RunConfig,
    decode_all: bool,
    workers: int | None,
) -> None:
    path = files.table(subset.csv)
    try:
        table = check_table(name, path, report.classes, config.clips)
    except DataError as error:
        report.findings.append(DataFinding(ERROR, name, str(path), None, str(error)))
        return
    report.tables[name] = table
    report.findings += table.findings
    report.findings += check_videos(
        name, files.videos(subset.videos), path, table.rows, config, decode_all=decode_all, workers=workers
    )
    if subset.gvf is not None and config.model.gvf != "none":
        kept = [row for row in table.rows if row.holds_a_clip(config.clips)]
        try:
            refuse_shared_names(path, dict.fromkeys(row.filename for row in kept))
        except DataError as error:
            report.findings.append(DataFinding(ERROR, name, str(path), None, str(error)))
        videos = list(dict.fromkeys(row.video for row in kept))
        report.findings += check_gvf(name, files.table(subset.gvf), videos)
        report.gvf_made_of[name] = GvfOrigin.of(files, subset.gvf)
        report.findings += other_gvf(name, subset.gvf, report.gvf_made_of[name], config.model)


def _between_subsets(report: Report, config: RunConfig) -> list[DataFinding]:
    """Problems that only show when both subsets are compared: shared videos, classes that one of them lacks."""
    if len(report.tables) < 2:
        return []
    folders = {"train": config.data.train.videos, "valid": config.data.valid.videos}
    used = {
        name: {posixpath.normpath(posixpath.join(folders[name], row.filename)) for row in table.rows}
        for name, table in report.tables.items()
    }
    findings = [
        DataFinding(WARNING, "both", file, None, "in both training and validation: the accuracy will be too high")
        for file in sorted(used["train"] & used["valid"])
    ]
    checkpoints = {origin.checkpoint_sha256 for origin in report.gvf_made_of.values() if origin.checkpoint_sha256}
    if len(checkpoints) > 1:
        text = "its global video features were made by another checkpoint than those of the training subset"
        findings.append(DataFinding(WARNING, "valid", str(config.data.valid.gvf), None, text))
    for column, labels in report.classes.items():
        train, valid = report.kept(column, "train"), report.kept(column, "valid")
        for label in labels:
            if not train[label]:
                also = f", but {valid[label]} to validate on" if valid[label] else ""
                text = f"{column} {label!r} has no segment to train on{also}"
                findings.append(DataFinding(WARNING, "train", config.data.train.csv, None, text))
    return findings
