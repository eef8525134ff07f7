"""Scan everything that the chart can render with checkov; exit code 1 for findings that are not accepted below."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from checkov.kubernetes.runner import Runner
from checkov.runner_filter import RunnerFilter

from tests.chart.conftest import Rendered, enough
from tests.chart.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
ACCEPTED = {
    "CKV_K8S_11": "CPU limits throttle data workers while cores are idle; requests share the node",
    "CKV_K8S_13": "a memory limit kills a run whose data workers grew; set resources.limits where it is demanded",
    "CKV_K8S_15": "a tag is a release and never moves; pulling gigabytes again at each restart would only cost time",
    "CKV_K8S_43": "image.digest pins one; a chart cannot know the digest of an image that is built from it",
    "CKV_K8S_35": "the AWS chain reads credentials from the environment, in every SDK and in rclone alike",
    "CKV_K8S_8": "a rank serves nothing to probe; it ends itself when a deadline passes (exit codes 150 and above)",
    "CKV_K8S_9": "a rank serves nothing to probe; ranks wait for each other when they join",
    "CKV2_K8S_6": "which addresses a namespace may reach is its administrator's choice, and names the store's",
}
"""Check -> why the chart does otherwise."""


def main() -> None:
    """Render, scan, print what is not accepted and which acceptances have become needless."""
    with tempfile.TemporaryDirectory() as folder:
        for name, values in VARIANTS.items():
            path = Path(folder, f"{name.replace(' ', '-')}.yaml")
            path.write_text(yaml.safe_dump_all(judged_objects(rendered(values))))
        failed = list(findings(Path(folder)))
    news = [line for check, line in failed if check not in ACCEPTED]
    needless = sorted(set(ACCEPTED) - {check for check, _ in failed})
    if news or needless:
        sys.exit("\n".join([*news, *(f"{check} is accepted but not found: remove it" for check in needless)]))
    print(f"checkov: {len(VARIANTS)} variants of the chart, nothing but the {len(ACCEPTED)} accepted findings")


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Objects of a release with these values over those that are enough."""
    helm = subprocess.run([ROOT / "scripts/go_tool.sh", "helm"], stdout=subprocess.PIPE, text=True, check=True)
    command = [helm.stdout.strip(), "template", "run", str(ROOT / "charts/tsp"), "--namespace", "video", "-f", "-"]
    done = subprocess.run(
        command, input=json.dumps({**enough(values), **values}), stdout=subprocess.PIPE, text=True, check=True
    )
    documents = [item for item in yaml.safe_load_all(done.stdout) if item]
    return [item for document in documents for item in document.get("items", [document])]


def judged_objects(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The objects, in a namespace that is not the default one; of those that checkov does not know, their pods."""
    for item in objects:
        item["metadata"].setdefault("namespace", "video")
        if item["apiVersion"] in ("v1", "batch/v1"):
            yield item
    for number, template in enumerate(Rendered(objects).templates):
        metadata = {**template.get("metadata", {}), "name": f"run-{number}", "namespace": "video"}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def findings(folder: Path) -> Iterator[tuple[str, str]]:
    """Id and description of every failed check."""
    report = Runner().run(root_folder=str(folder), runner_filter=RunnerFilter(framework=["kubernetes"]))
    if not report.passed_checks or report.parsing_errors:
        sys.exit(f"checkov judged nothing, or could not read something: {report.parsing_errors}")
    for check in report.failed_checks:
        where = f"{Path(check.file_path).name}: {check.resource}"
        yield check.check_id, f"{check.check_id} {check.check_name} ({where})"


if __name__ == "__main__":
    main()
