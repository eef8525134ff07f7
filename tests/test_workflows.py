"""What the workflows run is a make target, so that it can be run anywhere; what publishes is tried with stand-ins."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ONLY_THERE = {
    "make room for gigabytes of CUDA": "a runner's disk is full of other languages",
    "what the cluster says of it": "printed when the tests have failed",
}
"""Names of the steps that run a command of their own, and why."""
VERSION = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


def steps():
    """(workflow, job, step) of every step with a command."""
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            for step in job["steps"]:
                if "run" in step:
                    yield path.stem, name, step


@pytest.mark.parametrize(
    ("workflow", "job", "step"), [pytest.param(*each, id=f"{each[0]}-{each[1]}") for each in steps()]
)
def test_every_command_of_a_workflow_is_a_make_target(workflow, job, step):
    if step.get("name") in ONLY_THERE:
        return
    (line,) = step["run"].strip().splitlines()
    words = shlex.split(re.sub(r"\$\{\{.*?\}\}", "3.11", line))
    assert words[0] == "make", f"{workflow}, {job}: {line} is no make target"
    # What its variables are called, and that make knows the target.
    recipe = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert recipe.returncode == 0, recipe.stderr
    makefile = (ROOT / "Makefile").read_text()
    for name in (word.split("=")[0] for word in words[2:]):
        assert f"$({name})" in makefile or f",{name})" in makefile, f"no target reads {name}"


def test_every_exception_is_needed():
    assert {step.get("name") for _, _, step in steps()} >= set(ONLY_THERE)


def test_the_issues_workflows_are_there():
    names = {path.stem: set(yaml.safe_load(path.read_text())["jobs"]) for path in WORKFLOWS}
    assert names["release"] >= {"wheel", "chart", "image", "github"}
    assert {"test", "e2e", "docs"} <= set(names)


STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$(basename "$0") $1" in
"helm push") echo "Pushed: ghcr.io/team/charts/tsp:1" >&2; echo "Digest: $DIGEST" >&2 ;;
"docker inspect") echo "ghcr.io/team/tspctl@sha256:feed" ;;
"docker image") echo 1000000000 ;;
esac
"""


@pytest.fixture
def publishing(tmp_path):
    """Runs a make target or script beside stand-ins that note how they are called; returns it and the calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("helm", "cosign", "docker", "gh"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()

    def run(*command, **environment):
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls), "DIGEST": "sha256:beef",
                 "GITHUB_OUTPUT": str(tmp_path / "output"), **environment},
        )  # fmt: skip
        return done, calls.read_text().splitlines()

    return run


def test_a_tag_that_is_not_the_version_is_refused(publishing):
    assert publishing("make", "version-check", f"TAG=v{VERSION}")[0].returncode == 0
    done, _ = publishing("make", "version-check", "TAG=v9.9.9")
    assert done.returncode != 0
    assert f"the tag is v9.9.9, but pyproject.toml says {VERSION}" in done.stderr


def test_the_chart_is_pushed_and_signed_by_its_digest(publishing):
    done, calls = publishing("scripts/publish_chart.sh", "ghcr.io/team", ACTOR="me", TOKEN="secret")
    assert done.returncode == 0, done.stderr
    assert calls == [
        "helm registry login ghcr.io --username me --password-stdin",
        "cosign login ghcr.io --username me --password-stdin",
        f"helm push dist/tsp-{VERSION}.tgz oci://ghcr.io/team/charts",
        "cosign sign --yes ghcr.io/team/charts/tsp@sha256:beef",
    ]
    assert "secret" not in done.stdout + done.stderr + str(calls)


def test_a_chart_without_a_digest_is_not_signed(publishing):
    done, calls = publishing("scripts/publish_chart.sh", "ghcr.io/team", DIGEST="")
    assert done.returncode == 1
    assert not [call for call in calls if call.startswith("cosign sign")]


@pytest.mark.parametrize(
    ("variables", "tag"),
    [
        ((), VERSION),
        (("FLAVOUR=cpu",), f"{VERSION}-cpu"),
        (("FLAVOUR=cu126", "COMPILER=1"), f"{VERSION}-cu126-compile"),
    ],
)
def test_an_image_is_pushed_by_its_own_tag_and_tag_and_digest_are_told(publishing, tmp_path, variables, tag):
    done, calls = publishing("make", "publish-image", "REGISTRY=ghcr.io/team", *variables)
    assert done.returncode == 0, done.stderr
    assert f"docker push ghcr.io/team/tspctl:{tag}" in calls
    assert (tmp_path / "output").read_text() == f"tag={tag}\ndigest=sha256:feed\n"
