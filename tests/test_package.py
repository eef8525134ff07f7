"""What a user installs: wheel and source distribution, built and installed into a new environment."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import hatch_build
from tsp.version import install_command

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UV = ROOT / ".venv" / "bin" / "uv"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def build(source: Path, dest: Path, kind: str, **environment: str) -> Path:
    """Build ``kind`` (wheel or sdist) with the hatchling of the lock file, and return its path."""
    command = [UV, "build", "--quiet", "--offline", "--no-build-isolation", f"--{kind}", "--out-dir", dest, source]
    variables = {**os.environ, "VIRTUAL_ENV": str(ROOT / ".venv"), **environment}
    done = subprocess.run(
        [*command, "--python", sys.executable], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = dest.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist", SOURCE_COMMIT=COMMIT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel", SOURCE_COMMIT=COMMIT)


def install(wheel, folder):
    """A new environment with the wheel, and the dependencies that this one has; returns its ``site-packages``."""
    subprocess.run([UV, "venv", "--quiet", "--offline", "--python", sys.executable, folder], check=True)
    command = [UV, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", folder / "bin" / "python", wheel]
    subprocess.run(command, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (here,) = (ROOT / ".venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{here}\n")  # a .pth file in that folder, such as ours, is not read
    return packages


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("env")
    install(wheel, folder)
    return folder


def tspctl(folder, *arguments, cwd="/"):
    return subprocess.run(
        [folder / "bin" / "tspctl", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )  # fmt: skip


def contents(wheel):
    """Name -> bytes of every file; of RECORD its lines, whose order is that in which files were added."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return {name: sorted(data.splitlines()) if name.endswith("/RECORD") else data for name, data in files.items()}


def test_the_source_distribution_builds_the_same_wheel(sdist, wheel, tmp_path):
    (tmp_path / "source").mkdir()
    subprocess.run(["tar", "-xf", sdist, "-C", tmp_path / "source"], check=True)
    (source,) = (tmp_path / "source").iterdir()
    # No commit is given this time and there is no .git: it comes from the record in the distribution.
    again = build(source, tmp_path / "out", "wheel", SOURCE_COMMIT="")
    assert contents(again) == contents(wheel)


def test_the_wheel_has_the_programs_the_chart_and_the_licence_and_no_tests(wheel):
    names = set(contents(wheel))
    assert {"tspctl.py", "cli/main.py", "k8s/helm.py", "tsp/entrypoint.py", "tsp/commit.txt"} <= names
    assert {"cli/charts/tsp/Chart.yaml", "cli/charts/tsp/values.schema.json", "cli/page/report.html"} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    tracked = subprocess.run(["git", "ls-files", "charts"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {f"cli/{name}" for name in tracked.stdout.split()} <= names
    assert {name.partition("/")[0] for name in names} == {
        "cli", "k8s", "tsp", "tspctl.py", f"tspctl-{PROJECT['version']}.dist-info"
    }  # fmt: skip


def test_pypi_shows_a_readme_whose_links_and_pictures_are_absolute(wheel):
    (metadata,) = [data for name, data in contents(wheel).items() if name.endswith(".dist-info/METADATA")]
    text = metadata.decode().replace("\r\n", "\n").partition("\n\n")[2]
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert [target for target in targets if not target.startswith("https://")] == []
    tag, repository = f"v{PROJECT['version']}", "tspctl/tspctl"
    files = [target for target in targets if f"{repository}/" in target]
    assert len(files) == len(re.findall(r"\]\((?!https)", (ROOT / "README.md").read_text())) > 15
    for target in files:
        is_picture = target.endswith((".svg", ".png"))
        base = (
            f"https://raw.githubusercontent.com/{repository}" if is_picture else f"https://github.com/{repository}/blob"
        )
        path = target.removeprefix(f"{base}/{tag}/").partition("#")[0]
        assert (ROOT / path).exists(), target


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[a](docs/x.md#b)", "[a](S/blob/v1/docs/x.md#b)"),
        ("![a\nb](p.svg)", "![a\nb](R/v1/p.svg)"),
        ("[a](https://x/y) [b](#c) [c](mailto:d)", "[a](https://x/y) [b](#c) [c](mailto:d)"),
    ],
)
def test_relative_links_lead_to_the_tag_and_others_stay(link, shown):
    source = "https://github.com/o/r"
    shown = shown.replace("R/", "https://raw.githubusercontent.com/o/r/").replace("S/", f"{source}/")
    assert hatch_build.absolute_links(link, source, "v1") == shown


def test_an_installed_tspctl_runs_anywhere_and_says_what_it_is(installed, tmp_path):
    done = tspctl(installed, "version", "-o", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    version = PROJECT["version"]
    assert (facts["tspctl"], facts["commit"]) == (version, COMMIT)
    assert (facts["chart"], facts["image"]) == (f"tsp {version}", f"tspctl:{version}")
    assert "submit" in tspctl(installed, "--help", cwd=tmp_path).stdout
    assert tspctl(installed, "--version", cwd=tmp_path).stdout.strip().endswith(version)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_an_installed_tspctl_prints_the_completion_of_every_shell(installed, shell):
    done = tspctl(installed, "completion", shell)
    assert done.returncode == 0
    assert "_TSPCTL_COMPLETE" in done.stdout


@pytest.mark.parametrize("package", ["cli", "k8s"])
def test_packages_of_another_distribution_are_reported_instead_of_failing_somewhere_inside(wheel, tmp_path, package):
    packages = install(wheel, tmp_path / "env")
    (packages / package / "__init__.py").unlink()  # the file is a hard link into uv's cache
    (packages / package / "__init__.py").write_text('"""A client of another project."""\n')
    done = tspctl(tmp_path / "env", "list")
    assert done.returncode == 2
    assert f"{packages / package / '__init__.py'} belongs to another distribution" in done.stderr
    assert "uv tool install" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_file_names_the_same_release():
    version = PROJECT["version"]
    chart = yaml.safe_load((ROOT / "charts/tsp/Chart.yaml").read_text())
    (argument,) = re.findall(r"^ARG VERSION=(.+)$", (ROOT / "image/Dockerfile").read_text(), re.MULTILINE)
    newest = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {chart["version"], chart["appVersion"], argument, newest, citation["version"]} == {version}


@pytest.mark.parametrize(
    ("mark", "command"),
    [
        ("uv-receipt.toml", "uv tool install 'tspctl[train]'"),
        ("pipx_metadata.json", "pipx install --force 'tspctl[train]'"),
        ("pyvenv.cfg", "pip install 'tspctl[train]'"),
    ],
)
def test_a_missing_extra_is_installed_as_the_program_was(tmp_path, mark, command):
    (tmp_path / mark).touch()
    assert install_command("train", tmp_path) == command
