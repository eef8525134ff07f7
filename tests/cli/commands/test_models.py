"""``tspctl models``, and names of released checkpoints where a checkpoint is asked for."""

import hashlib
from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl
from tests.store.test_fetch import CONTENT, DIGEST, Web, web  # noqa: F401
from tsp.config import released
from tsp.config.released import RELEASED, Released
from tsp.errors import StoreError
from tsp.store import fetch
from tsp.store.fetch import fetch_object

NAME = "r3d_18-tac_on_kinetics"
FILE = f"r3d_18-tac_on_kinetics-{DIGEST[:8]}.pth"
REST = ("--data", "videos", "--metadata", "m.csv", "-o", "json")


source = fetch.http_source


@pytest.fixture(autouse=True)
def _small_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of that name whose bytes we have."""
    row = Released("r3d_18", "tac", "kinetics", "none", FILE)
    monkeypatch.setitem(RELEASED, NAME, row)
    monkeypatch.setitem(released.RELEASED_FILES, FILE, row)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / FILE).write_bytes(CONTENT)
    return tmp_path / "mirror"


def test_names_are_listed_with_what_they_are(tspctl: Tspctl, home: Path) -> None:
    for words in (("models",), ("models", "list")):
        rows = tspctl(*words, "-o", "json").json
        assert [row["name"] for row in rows] == list(RELEASED)
        row = next(row for row in rows if row["name"] == NAME)
        assert (row["backbone"], row["method"], row["dataset"], row["cached"]) == ("r3d_18", "tac", "kinetics", False)
        assert row["address"].endswith(f"/{FILE}")
    assert NAME in tspctl("models").out


def test_a_checkpoint_is_downloaded_once_verified_and_copied_to_a_mirror(
    tspctl: Tspctl,
    home: Path,
    web: Web,  # noqa: F811
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
