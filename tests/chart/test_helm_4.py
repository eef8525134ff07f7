"""Helm 4 renders the same objects as Helm 3. It drops values that are null by default; templates find them missing."""

import json
import shutil
import subprocess

import pytest
import yaml

from tests.chart.conftest import CHART, enough, go_tool
from tests.chart.variants import VARIANTS


@pytest.fixture(scope="session")
def helm4():
    return go_tool("helm4")


def rendered(program, chart, variant):
    """Objects by kind and name: the order of kinds that Helm does not know is its own."""
    values = json.dumps({**enough(VARIANTS[variant]), **VARIANTS[variant]})
    command = [program, "template", "my-run", str(chart), "--namespace", "video", "-f", "-"]
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=True)
    found = [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]
    return {(item["kind"], item.get("metadata", {}).get("name")): item for item in found}


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_3_and_4_render_the_same_objects(helm, helm4, variant):
    assert rendered(helm4, CHART, variant) == rendered(helm, CHART, variant)


@pytest.fixture(scope="session")
def without_nulls(tmp_path_factory):
    """The chart as Helm 4 reads it."""

    def pruned(value):
        if not isinstance(value, dict):
            return value
        return {key: pruned(item) for key, item in value.items() if item is not None}

    chart = tmp_path_factory.mktemp("chart") / "tsp"
    shutil.copytree(CHART, chart)
    values = yaml.safe_load((chart / "values.yaml").read_text())
    assert pruned(values) != values
    (chart / "values.yaml").write_text(yaml.safe_dump(pruned(values)))
    return chart


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_that_are_null_by_default_may_be_missing(helm, without_nulls, variant):
    assert rendered(helm, without_nulls, variant) == rendered(helm, CHART, variant)
