"""Helm: the only caller of the program. One release is one run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k8s.client import ClusterAddress
from tsp.errors import ClusterError, ConfigError

_TIMEOUT_SEC = 330
_ASKING = ("install", "uninstall")
"""Those that ask the API server."""
_IS_LOG = re.compile(r"WARNING:|(time=\S+ )?level=(WARN|ERROR|INFO)\b")
OLDEST = "v3.14"
"""Version of the program that will do; v4 does, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A chart and the values users gave for it, which win over ours in this order."""

    reference: str
    """A folder, an archive or an OCI reference."""
    value_files: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    """``KEY=VALUE`` as Helm's --set reads it."""


def shipped_chart() -> str:
    """The chart that ships with tspctl: inside the installed package, or in the checkout.

    Raises: ConfigError if it is in neither.
    """
    top = Path(__file__).resolve().parents[1]
    for folder in (top / "cli" / "charts" / "tsp", top / "charts" / "tsp"):
        if (folder / "Chart.yaml").is_file():
            return str(folder)
    raise ConfigError(
        f"the chart is neither in {top / 'cli' / 'charts'} nor in {top / 'charts'}: set 'chart' in tspctl.toml"
    )


@dataclass(frozen=True, slots=True)
class ChartFacts:
    """The metadata of a chart in a folder."""

    name: str
    version: str
    image: str
    """Of its pods, unless values say otherwise."""


def chart_facts(reference: str) -> ChartFacts | None:
    """Read a chart's own files; None where it is no folder: an archive or an OCI reference."""
    folder = Path(reference)
    if not (folder / "Chart.yaml").is_file():
        return None
    chart = yaml.safe_load((folder / "Chart.yaml").read_text())
    image = yaml.safe_load((folder / "values.yaml").read_text())["image"]
    return ChartFacts(chart["name"], chart["version"], f"{image['repository']}:{image['tag'] or chart['appVersion']}")


def objects_in(manifest: str) -> list[dict[str, Any]]:
    """The objects of a rendered release, those of its lists among them, in the order in which Helm sends them."""
    # Ten times as fast, where PyYAML was built with it: a submit reads every object that it sends.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = [item for item in yaml.load_all(manifest, loader) if item]
    return [item for one in found for item in (one["items"] if one["kind"] == "List" else [one])]


class Helm:
    """Helm on the cluster and namespace that ``where`` means.

    Args: token, what a credential plugin gave. Helm, whose streams are pipes, cannot run one that asks somebody.
    """

    def __init__(
        self, where: ClusterAddress, namespace: str, *, token: Callable[[], str | None] = lambda: None
    ) -> None:
        self._where, self._namespace, self._token = where, namespace, token

    def render(self, name: str, chart: Chart, values: Mapping[str, Any]) -> str:
        """The manifest that ``install`` would send, as text. Needs no cluster.

        Raises: ConfigError if the chart refuses the values.
        """
        try:
            return self._with_values("template", name, chart, values, "--skip-tests")
        except ClusterError as error:
            raise ConfigError(str(error)) from error

    def install(self, name: str, chart: Chart, values: Mapping[str, Any], *, labels: Mapping[str, str]) -> None:
        """Install a release. Something of it may be left if that fails: ``Releases.install`` cleans up.

        Args: labels, of Helm's own record of the release.
        """
        self._install(name, chart, values, labels)

    def install_again(self, name: str, chart: Chart, values: Mapping[str, Any], *, labels: Mapping[str, str]) -> None:
        """The same with the name of a release that was uninstalled, whose record is there."""
        self._install(name, chart, values, labels, "--replace")

    def _install(
        self, name: str, chart: Chart, values: Mapping[str, Any], labels: Mapping[str, str], *flags: str
    ) -> None:
        labelled = ("--labels", ",".join(f"{key}={value}" for key, value in labels.items()))
        self._with_values("install", name, chart, values, "--output", "json", *labelled, *flags)

    def uninstall_objects(self, name: str) -> None:
        """Remove the objects of a release; its record stays and says so."""
        self._run("uninstall", name, "--keep-history")

    def uninstall(self, name: str) -> bool:
        """Remove a release with all its objects, without waiting for their end. Returns: whether there was one."""
        try:
            self._run("uninstall", name)
        except ClusterError as error:
            if "release: not found" in str(error):
                return False
            raise
        return True

    def version(self) -> str:
        """``v3.x.y``."""
        return self._run("version", "--short", on_cluster=False).strip()

    def _with_values(self, verb: str, name: str, chart: Chart, values: Mapping[str, Any], *flags: str) -> str:
        given: list[str] = ["--values", "-"]
        for path in chart.value_files:
            given += ["--values", path]
        for assignment in chart.assignments:
            given += ["--set", assignment]
        return self._run(verb, name, chart.reference, *given, *flags, text=json.dumps(values))

    def _run(self, verb: str, *arguments: str, text: str | None = None, on_cluster: bool = True) -> str:
        command = [program(), verb, *arguments, *(self._address() if on_cluster else [])]
        token = self._token() if verb in _ASKING else None
        code, out, err = _finish(command, text, token, timeout_sec=_TIMEOUT_SEC)
        if code is None:
            raise ClusterError(f"helm {verb} did not answer within {_TIMEOUT_SEC:g} s")
        if code:
            raise ClusterError(f"helm {verb} failed: {_said(err)}")
        return out

    def _address(self) -> Sequence[str]:
        flags = ["--namespace", self._namespace]
        if self._where.context:
            flags += ["--kube-context", self._where.context]
        if self._where.kubeconfig:
            flags += ["--kubeconfig", str(Path(self._where.kubeconfig).expanduser())]
        return flags


def _finish(
    command: Sequence[str], text: str | None, token: str | None, *, timeout_sec: float
) -> tuple[int | None, str, str]:
    """Run a program to its end. Returns: exit code (None: it took too long and was killed), stdout and stderr.

    Ctrl-C does not reach it, and is raised when it has ended, since half of an installation is harder to clean up than
    a complete one. A second Ctrl-C kills it.
    """
    process = subprocess.Popen(
        command,
        env={**_environment(), **({"HELM_KUBETOKEN": token} if token else {})},
        stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        try:
            out, err = process.communicate(text, timeout=timeout_sec)
        except KeyboardInterrupt:
            process.communicate(timeout=timeout_sec)
            raise
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, "", ""
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process.returncode, out, err


def is_new_enough(version: str) -> bool:
    """Whether ``v3.22.0+g...`` is at least the oldest supported version; texts that are not versions are accepted."""
    found, oldest = _major_and_minor(version), _major_and_minor(OLDEST)
    return not found or found >= oldest


def _major_and_minor(version: str) -> list[int]:
    match = re.match(r"v(\d+)\.(\d+)", version)
    return [int(number) for number in match.groups()] if match else []


def program() -> str:
    """Path of helm.

    Raises: ConfigError saying how to get it.
    """
    found = shutil.which("helm")
    if found is None:
        raise ConfigError(
            "helm is not on PATH; tspctl installs runs with it: get version 3.14 or newer from "
            "https://helm.sh/docs/intro/install (or run scripts/go_tool.sh helm of the checkout, which needs Go)"
        )
    return found


def _environment() -> dict[str, str]:
    """Ours without what would send Helm to another cluster or namespace than was checked, have it keep its records
    anywhere but in Secrets, where ``k8s.releases`` finds them, or write traces among its errors."""
    elsewhere = ("HELM_KUBE", "HELM_NAMESPACE", "HELM_DRIVER", "HELM_DEBUG")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(elsewhere)}
    if "KUBECONFIG" in kept:
        # As we read it: Helm expands no ~, which a shell leaves in quotes.
        kept["KUBECONFIG"] = os.pathsep.join(
            str(Path(path).expanduser()) if path else "" for path in kept["KUBECONFIG"].split(os.pathsep)
        )
    return kept


def _said(stderr: str) -> str:
    """What helm wrote, without its warnings, its prefixes and what Helm 4 logs beside its error."""
    lines = [line for line in stderr.strip().splitlines() if line and not _IS_LOG.match(line)]
    text = " ".join(" ".join(lines or stderr.split()).split())
    text = text.removesuffix(" Use --debug flag to render out invalid YAML")
    return text.removeprefix("Error: ").removeprefix("INSTALLATION FAILED: ") or "without a word"
