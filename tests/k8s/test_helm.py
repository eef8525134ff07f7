"""Where the chart is, and how long Helm may take."""

import pytest

from k8s import helm
from k8s.client import Cluster, ClusterAddress
from tsp.errors import ClusterError, ConfigError


def test_the_installed_chart_wins_over_the_checkouts_and_none_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(helm, "__file__", str(tmp_path / "k8s" / "helm.py"))
    with pytest.raises(ConfigError) as refused:
        helm.shipped_chart()
    assert f"neither in {tmp_path / 'cli/charts'} nor in {tmp_path / 'charts'}: set 'chart'" in str(refused.value)
    for place in ("charts/tsp", "cli/charts/tsp"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "Chart.yaml").touch()
        assert helm.shipped_chart() == str(tmp_path / place)


def test_a_charts_image_is_of_its_tag_else_of_its_version(tmp_path):
    assert helm.chart_facts("oci://registry.example/charts/tsp") is None
    (tmp_path / "Chart.yaml").write_text("{name: mine, version: 1.2.3, appVersion: '4.5'}")
    for tag, image in (("", "a/b:4.5"), ("x", "a/b:x")):
        (tmp_path / "values.yaml").write_text(f"image: {{repository: a/b, tag: '{tag}'}}")
        assert helm.chart_facts(str(tmp_path)) == helm.ChartFacts("mine", "1.2.3", image)


def test_a_helm_that_hangs_is_ended_and_named(tmp_path, monkeypatch):
    program = tmp_path / "helm"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(helm, "program", lambda: str(program))
    monkeypatch.setattr(helm, "_TIMEOUT_SEC", 0.05)
    with pytest.raises(ClusterError, match=r"helm version did not answer within 0\.05 s"):
        helm.Helm(ClusterAddress(), "video").version()


IN_USE = "release name check failed: cannot reuse a name that is still in use"


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (f"Error: INSTALLATION FAILED: {IN_USE}\n", IN_USE),
        # Helm 4.3
        (f'level=ERROR msg="release name check failed" error="x"\nError: INSTALLATION FAILED: {IN_USE}\n', IN_USE),
        ('time=2030-01-01T00:00:00Z level=WARN msg="old"\nWARNING: group-readable\nError: gone\n', "gone"),
        ('level=ERROR msg="all there is"\n', 'level=ERROR msg="all there is"'),
        ("", "without a word"),
    ],
)
def test_of_what_helm_writes_its_error_is_told(tmp_path, monkeypatch, stderr, said):
    program = tmp_path / "helm"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{stderr}END\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(helm, "program", lambda: str(program))
    with pytest.raises(ClusterError) as refused:
        helm.Helm(ClusterAddress(), "video").version()
    assert str(refused.value) == f"helm version failed: {said}"


def test_helm_reads_the_kubeconfig_that_we_read(api, real_helm, tmp_path, monkeypatch):
    """A shell expands no ``~`` within quotes, and neither does Helm."""
    (tmp_path / "config").write_text(api.kubeconfig())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "~/none:~/config")
    assert Cluster(ClusterAddress()).server == api.address
    api.objects["/version"] = {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
    assert helm.Helm(ClusterAddress(), "video").uninstall("nothing") is False
