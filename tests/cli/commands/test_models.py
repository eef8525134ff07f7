"""``tspctl models``, and names of released checkpoints where a checkpoint is asked for."""

import hashlib
from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl
from tests.store.test_fetch import CONTENT, DIGEST, Web
from tests.store.test_fetch import web as web
from tsp.config import released
from tsp.config.backbones import PublishedWeights
from tsp.config.released import INITIAL, RELEASED, Released
from tsp.errors import StoreError
from tsp.store import fetch
from tsp.store.fetch import fetch_object

NAME = "r3d_18-tac_on_kinetics"
FILE = f"r3d_18-tac_on_kinetics-{DIGEST[:8]}.pth"
REST = ("--data", "videos", "--metadata", "m.csv", "-o", "json")


source, size = fetch.http_source, fetch.http_size


@pytest.fixture(autouse=True)
def _small_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of that name whose bytes we have."""
    row = Released("r3d_18", "tac", "kinetics", "none", FILE)
    monkeypatch.setitem(RELEASED, NAME, row)
    monkeypatch.setitem(released.PUBLISHED, NAME, row)
    monkeypatch.setitem(released.RELEASED_FILES, FILE, row)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / FILE).write_bytes(CONTENT)
    return tmp_path / "mirror"


def test_names_are_listed_with_what_they_are(tspctl: Tspctl, home: Path) -> None:
    for words in (("models",), ("models", "list")):
        rows = tspctl(*words, "-o", "json").json
        assert [row["name"] for row in rows] == [*RELEASED, *INITIAL]
        row = next(row for row in rows if row["name"] == NAME)
        assert (row["backbone"], row["method"], row["dataset"], row["cached"]) == ("r3d_18", "tac", "kinetics", False)
        assert row["address"].endswith(f"/{FILE}")
    assert NAME in tspctl("models").out


def test_a_checkpoint_is_downloaded_once_verified_and_copied_to_a_mirror(
    tspctl: Tspctl,
    home: Path,
    web: Web,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The server has its one file under another name.
    monkeypatch.setattr(fetch, "http_source", lambda url, retry: source(url.replace(FILE, "weights.pth"), retry))
    monkeypatch.setenv("TSPCTL_MODELS_URL", web.url)
    pulled = tspctl("models", "pull", NAME)
    assert pulled.code == 0, pulled.err
    path = Path(pulled.out.strip())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DIGEST
    again = tspctl("models", "pull", NAME, "--to", str(home / "copies"))
    assert again.out.strip() == str(home / "copies" / FILE)
    assert (home / "copies" / FILE).read_bytes() == CONTENT
    assert len(web.asked) == 1
    row = next(row for row in tspctl("models", "-o", "json").json if row["name"] == NAME)
    assert (row["cached"], row["size_bytes"]) == (True, len(CONTENT))


def test_sizes_are_asked_for_where_a_checkpoint_is_not_cached(
    tspctl: Tspctl,
    home: Path,
    mirror: Path,
    web: Web,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TSPCTL_MODELS_URL", str(mirror))
    asked = tspctl("models", "--sizes", "-o", "json")
    sizes = {row["name"]: row["size_bytes"] for row in asked.json}
    assert sizes.pop(NAME) == len(CONTENT)
    assert set(sizes.values()) == {None}
    assert f"{len(sizes)} sizes are unknown: there is no file" in asked.err
    assert "3.0 MiB" in tspctl("models", "list", "--sizes").out
    assert {row["size_bytes"] for row in tspctl("models", "-o", "json").json} == {None}
    monkeypatch.setattr(fetch, "http_size", lambda url: size(url.replace(FILE, "weights.pth")))
    monkeypatch.setenv("TSPCTL_MODELS_URL", web.url)
    rows = tspctl("models", "--sizes", "-o", "json").json
    assert {row["name"]: row["size_bytes"] for row in rows if row["size_bytes"]} == {NAME: len(CONTENT)}


@pytest.mark.parametrize("backbone", ["r2plus1d_34", "r3d_18"])
def test_initial_weights_come_from_the_mirror_too(
    tspctl: Tspctl, local: Path, home: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, backbone: str
) -> None:
    recipe = ("data", "check", "--dataset", "demo", "--method", "tac", "--backbone", backbone, "-o", "json")

    def model_of(*options: str) -> dict[str, str]:
        model: dict[str, str] = tspctl(*recipe, *options).json["job"]["config"]["model"]
        return model

    assert model_of("--pretrained", "default")["pretrained"] == "default"
    monkeypatch.setenv("TSPCTL_MODELS_URL", "s3://mirror/tsp")
    weights = INITIAL[f"{backbone}-initial"]
    found = model_of("--pretrained", "default")
    assert found["pretrained"] == f"s3://mirror/tsp/{weights.file}"
    assert found["pretrained_sha256"] == weights.sha256_prefix
    assert model_of("--pretrained", "default", "--pretrained-sha256", "0" * 64)["pretrained_sha256"] == "0" * 64
    assert model_of("--pretrained", "none")["pretrained"] == "none"
    assert model_of("--pretrained", "own.pth")["pretrained"] == str(home / "own.pth")


def test_a_mirror_is_filled_with_initial_weights_by_their_names(
    tspctl: Tspctl, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = PublishedWeights(f"https://example.org/small-{DIGEST[:8]}.pth", DIGEST[:8])
    monkeypatch.setitem(released.PUBLISHED, "r3d_18-initial", weights)
    monkeypatch.setitem(released.RELEASED_FILES, weights.file, weights)
    (home / "here").mkdir()
    (home / "here" / weights.file).write_bytes(CONTENT)
    monkeypatch.setenv("TSPCTL_MODELS_URL", str(home / "here"))
    assert tspctl("models", "pull", "r3d_18-initial", "--to", str(home / "there")).code == 0
    assert (home / "there" / weights.file).read_bytes() == CONTENT
    (home / "here" / weights.file).write_bytes(b"something else")
    assert tspctl("models", "pull", "r3d_18-initial").code == 5


def test_a_file_that_does_not_have_the_digest_of_its_name_is_refused(tmp_path: Path, mirror: Path) -> None:
    assert fetch_object(str(mirror / FILE), tmp_path / "cache") == mirror / FILE
    (mirror / FILE).write_bytes(b"something else")
    with pytest.raises(StoreError, match=f"{FILE} has SHA-256"):
        fetch_object(str(mirror / FILE), tmp_path / "cache")


@pytest.mark.parametrize("command", ["extract", "gvf"])
def test_a_name_stands_for_the_checkpoint(
    tspctl: Tspctl, local: Path, mirror: Path, home: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("TSPCTL_MODELS_URL", str(mirror))
    sent = tspctl(command, NAME, *REST).json["job"]
    assert sent["checkpoint"] == str(mirror / FILE)
    assert Path(sent["out"]).name.startswith(f"{NAME}-")
    monkeypatch.setenv("TSPCTL_MODELS_URL", "s3://models/tsp")
    sent = tspctl(command, NAME, *REST).json["job"]
    assert (sent["checkpoint"], sent["store"]["uri"]) == (f"s3://models/tsp/{FILE}", "s3://models")


def test_a_name_that_is_none_or_an_epoch_of_one_is_refused(tspctl: Tspctl, local: Path) -> None:
    assert "did you mean" in tspctl("extract", "r3d_18-tac_on_kinetic", *REST).err
    ended = tspctl("extract", NAME, "--epoch", "1", *REST)
    assert (ended.code, "released checkpoint" in ended.err) == (2, True)


@pytest.mark.parametrize("option", ["--pretrained", "--resume"])
def test_a_run_can_start_from_a_name(
    tspctl: Tspctl, local: Path, data_root: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSPCTL_MODELS_URL", "https://mirror.example.org/tsp")
    arguments = ("data", "check", "--dataset", "demo", "--method", "tac", option, NAME, "-o", "json")
    sent = tspctl(*arguments).json["job"]["config"]
    value = sent["resume"] if option == "--resume" else sent["model"]["pretrained"]
    assert value == f"https://mirror.example.org/tsp/{FILE}"
