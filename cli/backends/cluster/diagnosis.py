"""The checks of ``doctor`` for a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from k8s import preflight as checks
from k8s.answers import ForbiddenError
from k8s.client import Cluster
from k8s.controllers import check_job_api, check_webhooks
from k8s.drivers import check_drivers
from k8s.gpus import other_gpus
from k8s.helm import OLDEST, Helm, is_new_enough
from k8s.job_apis import served_apis
from k8s.node_plan import plan_nodes
from k8s.nodes import nodes_for
from k8s.permissions import check_permissions
from k8s.references import check_credentials, check_references
from k8s.values import with_dotted
from tsp.config.codec import flat
from tsp.errors import ClusterError, ConfigError
from tsp.run.status import Finding
from tsp.wording import counted

if TYPE_CHECKING:
    from cli.options.settings import Settings

GPU_RESOURCE = "nvidia.com/gpu"
GPU_MEMORY_LABEL = "nvidia.com/gpu.memory"


def diagnose(settings: Settings, cluster: Cluster, helm: Callable[[], Helm]) -> Iterator[Finding]:
    """Check Helm, API server, operator, permissions, Pod Security Standard and GPU nodes."""
    try:
        version = helm().version()
        advice = "" if is_new_enough(version) else f", older than {OLDEST}: see https://helm.sh/docs/intro/install"
        yield Finding("helm", "warning" if advice else "ok", version + advice)
    except (ConfigError, ClusterError) as error:
        yield Finding("helm", "error", str(error))
    for check in (
        checks.check_server,
        lambda cluster: check_job_api(cluster, None),
        lambda cluster: check_webhooks(cluster, served_apis(cluster)),
        lambda cluster: check_permissions(cluster, served_apis(cluster)),
        lambda cluster: checks.check_security_standard(cluster, workers="pytorchjob" in served_apis(cluster)),
        checks.check_sidecars,
        partial(_check_settings, settings),
        partial(_check_gpu_nodes, settings),
    ):
        try:
            yield from check(cluster)
        except ClusterError as error:
            yield Finding("cluster", "error", str(error))
            return


def _check_settings(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    """Do the Secrets and claims exist that the settings name for every run?"""
    names = {key: str(value) for key, value in flat(with_dotted({}, settings.chart_values)).items() if value}
    claims = [names[key] for key in ("data.claim", "cache.claim") if key in names]
    secrets = [names[key] for key in ("store.existingSecret",) if key in names]
    pod = {
        "volumes": [{"persistentVolumeClaim": {"claimName": name}} for name in claims],
        "containers": [{"envFrom": [{"secretRef": {"name": name}}]} for name in secrets],
    }
    found = [
        *check_references(cluster, pod, own=(), queue=settings.queue),
        *check_credentials(cluster, pod),
    ]
    yield from found
    if not found and any(pod.values()):
        yield Finding("Secrets and claims", "ok", "those in the settings exist")


def _check_gpu_nodes(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    """Which downscale factor would a run of one GPU get here, and do the drivers run the image?"""
    pod: dict[str, Any] = {"tolerations": [{"key": GPU_RESOURCE, "operator": "Exists"}]}
    try:
        found = list(cluster.items("/api/v1/nodes"))
        nodes = nodes_for(found, pod, gpu_resource=GPU_RESOURCE, memory_label=GPU_MEMORY_LABEL)
        plan = plan_nodes(nodes, gpus=1, downscale="auto")
    except ForbiddenError:
        return
    except ConfigError as error:
        yield Finding("GPUs", "error", str(error))
        return
    others = None if nodes else other_gpus(found, GPU_RESOURCE)
    explanation = "; ".join(filter(None, [*plan.explanation, others]))
    what = f"{plan.gpus} on {counted(len(nodes), 'node')}"
    yield Finding("GPUs", "ok" if nodes else "warning", f"{what}; {explanation}")
    yield from check_drivers(found, settings.image, gpu_resource=GPU_RESOURCE)
