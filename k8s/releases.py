"""Helm's releases on the cluster: ownership, remains of broken ones, installing and removing.

One release is one run. Two users can choose the same name at the same moment, and an installation can end halfway:
refused, interrupted, killed. So nothing is removed by its name alone. Helm's record of a release is a Secret, which
``install`` labels with its own nonce. A failed installation is cleaned up only while that Secret is the release's only
revision and has this nonce, so a process that lost the race for a name leaves the winner's run alone. Objects belong to
a run by their labels.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from k8s.answers import ForbiddenError, NotFoundError
from k8s.client import Cluster
from k8s.helm import Chart, Helm, objects_in
from k8s.names import PART_OF, RUN_LABEL, RUN_RESOURCES, RUNTIMES, is_controlled, is_of_run, is_ours, may_be_run
from k8s.permissions import Right, missing_rights
from k8s.release_claims import Claim, held
from k8s.release_record import INSTALL_LABEL, Release, release_in
from k8s.train_jobs import as_helm_has_it
from tsp.errors import ClusterError, ConfigError

logger = logging.getLogger(__name__)

CHART_NAME = "tsp"
_PART_OF_KEY, _, _PART_OF_VALUE = PART_OF.partition("=")
_READERS = 8
_MADE_BY_CHART = (*RUN_RESOURCES, RUNTIMES, ("v1", "configmaps"), ("v1", "serviceaccounts"))
_PODS = ("v1", "pods")
_UNINSTALLED = "uninstalled"
_KINDS = ("ConfigMap", "ServiceAccount", "PyTorchJob", "TrainJob", "TrainingRuntime", "Job")


class Releases:
    """The releases of one namespace."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._secrets = cluster.namespaced("v1", "secrets")

    def find(self, name: str) -> Release | None:
        """The release of that name, whoever owns it; None if there is none."""
        return next(iter(self._newest(f"owner=helm,name={name}")), None) if may_be_run(name) else None

    def find_own(self, name: str) -> Release | None:
        """The same, if it is a release of our chart."""
        found = self.find(name)
        return found if found is not None and self._is_own(found) else None

    def without_job(self, names: Iterable[str]) -> Iterator[Release]:
        """Releases of our chart except those names: their installation failed or was interrupted, or the job is
        gone."""
        known = set(names)
        try:
            rest = [release for release in self._newest("owner=helm") if release.name not in known]
            with ThreadPoolExecutor(_READERS) as readers:
                own = list(readers.map(self._is_own, rest))
        except ForbiddenError as error:
            logger.debug("%s", error)
            return
        yield from (release for release, is_own in zip(rest, own, strict=True) if is_own)

    def _newest(self, selector: str) -> list[Release]:
        """Requests only metadata, since a record contains the whole chart."""
        newest: dict[str, Release] = {}
        for item in self.cluster.items(self._secrets, metadata_only=True, labelSelector=selector):
            release = release_in(item["metadata"])
            if release is not None and release.revision >= newest.get(release.name, release).revision:
                newest[release.name] = release
        return list(newest.values())

    def _is_own(self, release: Release) -> bool:
        return release.labels.get(_PART_OF_KEY) == _PART_OF_VALUE or _is_of_our_chart(self.content(release))

    def why_taken(self, name: str) -> str | None:
        """The error for a name that a release has already; None if none has it."""
        found = self.find(name)
        if found is None:
            return None
        other = self._other_chart(found)
        if other is None:
            return self.has_run(name)
        return (
            f"namespace {self.cluster.namespace} already has a Helm release {name!r} of another chart ({other}): "
            "choose another --name"
        )

    def other_chart(self, name: str) -> str | None:
        """The chart of a release of that name, if it is not ours, though it may contain ours."""
        found = self.find(name)
        return None if found is None else self._other_chart(found)

    def _other_chart(self, release: Release) -> str | None:
        return None if self._is_own(release) else _chart_name(self.content(release)) or "unknown"

    def has_run(self, name: str) -> str:
        """The error for the name of a run that is there."""
        return (
            f"namespace {self.cluster.namespace} already has a run {name!r}: choose another --name, or remove it with "
            f"'tspctl delete {name}'"
        )

    def path_of(self, release: Release) -> str:
        """Where Helm's record of a release is."""
        return f"{self._secrets}/{release.secret}"

    def content(self, release: Release) -> dict[str, Any]:
        """What Helm recorded: ``config`` (the values given), ``manifest``, ``chart``; empty if that cannot be read."""
        try:
            secret = self.cluster.get(self.path_of(release))
            return _unpacked(base64.b64decode(secret["data"]["release"]))
        except (NotFoundError, KeyError, ValueError) as error:
            logger.debug("release %s: %s", release.name, error)
            return {}

    def install(
        self, helm: Helm, name: str, chart: Chart, values: Mapping[str, Any], *, claim: Claim | None = None
    ) -> None:
        """Install a release; if that fails or is interrupted, nothing remains.

        Args: claim, of the release that it takes the place of, whose record is removed at the end.
        Raises: ConfigError if there is a release of that name; ClusterError with both errors if the clean-up failed.
        """
        nonce, before = secrets.token_hex(8), None if claim is None else held(self, claim)
        labels = {_PART_OF_KEY: _PART_OF_VALUE, INSTALL_LABEL: nonce}
        try:
            (helm.install_again if before else helm.install)(name, chart, values, labels=labels)
        except (ClusterError, KeyboardInterrupt) as error:
            self._clean_up(helm, name, nonce, before.revision + 1 if before else 1, error)
            raise
        if before is not None:
            self.cluster.delete(self.path_of(before))

    def _clean_up(self, helm: Helm, name: str, nonce: str, revision: int, error: BaseException) -> None:
        """Remove what this process has installed, and nothing else."""
        cause = str(error) or "interrupted"
        try:
            found = self.find(name)
            if found is not None and (found.nonce != nonce or found.revision != revision):
                raise ConfigError(self.why_taken(name) or cause) from error
            if found is not None:
                helm.uninstall(name)
        except ClusterError as second:
            raise ClusterError(
                f"{cause}; the objects installed so far could not be removed ({second}): see 'tspctl list', and "
                f"remove the run with 'tspctl delete {name}'"
            ) from error

    def remove(self, helm: Helm, name: str, *, claim: Claim | None = None) -> bool:
        """Uninstall a release of our chart, then delete what else has the run's labels; pods take their time to go.
        Those whose job was deleted without them (``--cascade=orphan``) would stay.

        Args: claim, of the release, whose record then stays, so that nothing is lost if this process is killed.
        Returns: whether there was anything. Raises: as ``held``.
        """
        # Listed before the claim is checked: what another process installs later is none of it.
        before = None if claim is None else list(self._made(name))
        release = held(self, claim) if claim else self.find_own(name)
        there = release is not None
        if release is not None:
            self._refuse_half_removal(release)
            if claim is None:
                helm.uninstall(name)
            elif release.status != _UNINSTALLED:
                helm.uninstall_objects(name)
        for path in self._made(name) if before is None else before:
            there = True
            logger.debug("deleting %s", path)
            self.cluster.delete(path, propagationPolicy="Background")
        for pod in self._labelled(_PODS, name):
            if not is_controlled(pod):
                there = True
                self.cluster.delete(self.cluster.namespaced(*_PODS, pod["metadata"]["name"]))
        return self._forget_in_configmaps(name) or there

    def _made(self, name: str) -> Iterator[str]:
        """Paths of what the chart has made for a run."""
        for kind in _MADE_BY_CHART:
            for item in [*self._labelled(kind, name), *self._relabelled(kind, name)]:
                yield self.cluster.namespaced(*kind, item["metadata"]["name"])

    def _refuse_half_removal(self, release: Release) -> None:
        """Helm removes what it may, and does not say what it may not.

        Raises: ForbiddenError naming the permissions.
        """
        objects = (item for item in self.objects_of(release) if item["kind"] in _KINDS)
        kinds = {
            (item["apiVersion"].rpartition("/")[0] if "/" in item["apiVersion"] else "", item["kind"])
            for item in objects
        }
        rights: list[Right] = [("delete", group, f"{kind.lower()}s", "") for group, kind in sorted(kinds)]
        missing = missing_rights(self.cluster, [*rights, ("delete", "", "secrets", "")])
        if missing:
            raise ForbiddenError(
                f"{release.name} is left as it is, since Helm could remove only a part of it (missing permission: "
                f"{', '.join(missing)} in namespace {self.cluster.namespace}; see k8s/role.yaml)"
            )

    def _forget_in_configmaps(self, name: str) -> bool:
        """Delete the record of a release that was installed with HELM_DRIVER=configmap; it would block the name."""
        configmaps = self.cluster.namespaced("v1", "configmaps")
        try:
            found = list(self.cluster.items(configmaps, labelSelector=f"owner=helm,name={name}"))
        except (ForbiddenError, NotFoundError) as error:
            logger.debug("%s", error)
            return False
        there = False
        for item in found:
            content = _unpacked((item.get("data") or {}).get("release", ""))
            if release_in(item["metadata"]) is not None and _is_of_our_chart(content):
                there = True
                self.cluster.delete(f"{configmaps}/{item['metadata']['name']}")
        return there

    def _labelled(self, kind: tuple[str, str], name: str) -> list[dict[str, Any]]:
        try:
            found = self.cluster.items(self.cluster.namespaced(*kind), labelSelector=f"{PART_OF},{RUN_LABEL}={name}")
            return [item for item in found if is_of_run(item, name) and not _is_going(item)]
        except NotFoundError:
            return []
        except ForbiddenError as error:
            logger.debug("%s", error)
            return []

    def _relabelled(self, kind: tuple[str, str], name: str) -> Iterator[dict[str, Any]]:
        """What the chart calls so, where the label of the run was overwritten (``names.is_ours``)."""
        called = f"{name}-config" if kind[1] == "configmaps" else name
        try:
            found = self.cluster.get(self.cluster.namespaced(*kind, called))
        except (NotFoundError, ForbiddenError) as error:
            logger.debug("%s", error)
            return
        if is_ours(found) and not is_of_run(found, name) and not _is_going(found):
            yield found

    def objects_of(self, release: Release) -> list[dict[str, Any]]:
        """What Helm has sent for a release."""
        return objects_in(str(self.content(release).get("manifest") or ""))

    def restore(self, release: Release, *, but: Iterable[str]) -> list[str]:
        """Create again what the release's manifest has and the cluster lost. Returns: kind and name of each.

        Args: but, kinds that are left out.
        """
        restored = []
        for item in self.objects_of(release):
            if item["kind"] in but or item["kind"] not in _KINDS:
                continue
            path = self.cluster.namespaced(item["apiVersion"], f"{item['kind'].lower()}s")
            try:
                self.cluster.get(f"{path}/{item['metadata']['name']}")
            except NotFoundError:
                self.cluster.create(path, as_helm_has_it(item, release.name, self.cluster.namespace))
                restored.append(f"{item['kind']} {item['metadata']['name']}")
        return restored


def _chart_name(content: Mapping[str, Any]) -> str | None:
    name = ((content.get("chart") or {}).get("metadata") or {}).get("name")
    return str(name) if name else None


def _is_of_our_chart(content: Mapping[str, Any]) -> bool:
    """Whether a record is of our chart: others may be called so, too, but do not label their objects as we do."""
    labelled = f"{_PART_OF_KEY}: {_PART_OF_VALUE}"
    return _chart_name(content) == CHART_NAME and labelled in str(content.get("manifest"))


def _unpacked(text: str | bytes) -> dict[str, Any]:
    """What Helm packed into a record; empty if that cannot be read."""
    try:
        found = json.loads(gzip.decompress(base64.b64decode(text)))
    except (ValueError, OSError, EOFError) as error:
        logger.debug("record of a release: %s", error)
        return {}
    return found if isinstance(found, dict) else {}


def _is_going(item: Mapping[str, Any]) -> bool:
    return bool(item["metadata"].get("deletionTimestamp"))
