"""The chart as a part of another one, whose global values Helm hands down."""

import json
import subprocess

import pytest
import yaml

from tests.chart.conftest import CHART, ENOUGH, HelmError, enough, go_tool
from tests.chart.variants import VARIANTS


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory):
    """A chart that contains ours, with values for all of its charts."""
    folder = tmp_path_factory.mktemp("umbrella")
    (folder / "charts").mkdir()
    (folder / "charts" / "tsp").symlink_to(CHART)
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: umbrella, version: 1.0.0}\n")
    (folder / "values.yaml").write_text("global: {imageRegistry: registry.example}\n")
    return folder


def objects(program, chart, values):
    command = [program, "template", "my-run", str(chart), "-f", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=True)
    return sorted((item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item), key=str)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_chart_that_contains_ours_renders_the_same_objects(helm, umbrella, variant):
    values = {**enough(VARIANTS[variant]), **VARIANTS[variant]}
    assert objects(helm, umbrella, {"tsp": values}) == objects(helm, CHART, values)


def test_so_it_does_with_helm_4(umbrella):
    assert objects(go_tool("helm4"), umbrella, {"tsp": ENOUGH})


def test_a_misspelt_value_is_refused_there_too(helm, umbrella):
    with pytest.raises(subprocess.CalledProcessError):
        objects(helm, umbrella, {"tsp": {**ENOUGH, "gpu": 2}})


def test_global_values_of_the_chart_alone_would_have_no_effect_and_are_refused(render):
    with pytest.raises(HelmError, match="global has no effect: it is for charts that contain this one"):
        render(**{"global": {"imageRegistry": "registry.example"}})
