"""What ``make quick`` runs for a change."""

import subprocess
from pathlib import Path

import pytest

from scripts import touched_tests
from scripts.touched_tests import ROOT, outermost


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("tsp/data/video/reader.py", {"tests/data/video"}),
        ("tsp/train/loop.py", {"tests/train"}),
        ("tsp/errors.py", {"tests/test_entrypoint.py"}),
        ("cli/commands/submit.py", touched_tests.OF_COMMANDS),
        ("charts/tsp/values.yaml", {"tests/chart"}),
        ("docs/time.md", {"tests/test_docs.py"}),
        ("tests/run/test_states.py", {"tests/run/test_states.py"}),
        ("tests/train/worlds.py", {"tests/train"}),
        ("tests/videos.py", set()),
        ("LICENSE", set()),
    ],
)
def test_a_change_leads_to_the_tests_of_its_package(changed, tests):
    assert touched_tests.tests_of(changed) == tests


def test_a_change_beside_a_package_leads_past_the_tests_of_that():
    found = touched_tests.tests_of("tsp/data/loader.py")
    assert "tests/data/test_loader.py" in found
    assert not [path for path in found if path.startswith("tests/data/video")]


def test_every_module_has_tests_that_exist():
    listed = subprocess.run(
        ["git", "ls-files", "cli/*.py", "k8s/*.py", "tsp/*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = listed.stdout.split()
    assert len(modules) > 100
    for module in modules:
        found = touched_tests.tests_of(module)
        assert found, module
        assert all((ROOT / path).exists() for path in found), module


def test_what_lies_inside_another_path_is_run_once():
    folder = Path(__file__).parent.relative_to(ROOT) / "data"
    assert outermost({str(folder), f"{folder}/test_loader.py", "tests/not-there"}) == [str(folder)]
