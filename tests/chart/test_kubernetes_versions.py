"""Every object against the schemas of the Kubernetes versions that people run, unknown fields refused."""

import copy

import kubernetes_validate
import pytest

from tests.chart.variants import VARIANTS

VERSIONS = [f"1.{minor}" for minor in range(29, 35)]


def objects(rendered):
    """The release's own objects; for one that Kubernetes does not know, a Pod of each of its templates."""
    for item in rendered.objects:
        if item["apiVersion"].partition("/")[0] not in {"kubeflow.org", "trainer.kubeflow.org"}:
            yield item
    for template in rendered.templates:
        metadata = {"name": "pod", **(template.get("metadata") or {})}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.fixture(scope="module")
def variants(render):
    return {name: render(**values) for name, values in VARIANTS.items()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", VARIANTS)
def test_kubernetes_knows_every_field_of_every_object(variants, name, version):
    for item in objects(variants[name]):
        assert kubernetes_validate.validate(item, version, strict=True).startswith(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_field_of_a_pod_is_seen(variants, version):
    pod = copy.deepcopy(list(objects(variants["a run"]))[-1])
    pod["spec"]["automountServiceAccountTokn"] = False
    with pytest.raises(kubernetes_validate.ValidationError, match="automountServiceAccountTokn"):
        kubernetes_validate.validate(pod, version, strict=True)
