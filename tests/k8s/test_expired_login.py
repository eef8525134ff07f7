"""Credentials that expire while a command runs, as client-go renews them: whatever the server answers 401 to."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from k8s.answers import ForbiddenError
from k8s.client import Cluster, ClusterAddress
from tests.k8s.fake_api import FakeLog
from tsp.errors import ClusterError

POD = "/api/v1/namespaces/video/pods/a"
UNAUTHORIZED = {"kind": "Status", "reason": "Unauthorized", "message": "Unauthorized"}


@pytest.fixture(autouse=True)
def _at_any_time(monkeypatch):
    monkeypatch.setattr("k8s.login._RENEWED_EVERY_SEC", 0.0)


@pytest.fixture
def accepts(api):
    """A server that accepts one token at a time."""
    token, answer = ["one"], api._answer

    def judged(handler, status, body, warnings=()):
        told = handler.headers.get("Authorization")
        right = told == f"Bearer {token[0]}"
        answer(handler, *((status, body) if right else (401, UNAUTHORIZED)), warnings)

    api._answer = judged
    api.objects[POD] = {"metadata": {"name": "a"}}
    return lambda text: token.__setitem__(0, text)


@pytest.fixture
def plugin(api, tmp_path):
    """A cluster whose user has a plugin that gives the token in a file, and does not say when it expires."""
    (tmp_path / "token").write_text("one")
    program = tmp_path / "acme-auth"
    credential = json.dumps(
        {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "TOKEN"}}
    )
    program.write_text(
        f"#!{shutil.which('sh')}\necho called >>'{tmp_path}/calls'\n"
        f"token=$(cat '{tmp_path}/token') || {{ echo 'run acme login' >&2; exit 1; }}\n"
        f"echo '{credential}' | sed \"s/TOKEN/$token/\"\n"
    )
    program.chmod(0o755)
    raw = json.loads(api.kubeconfig())
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "interactiveMode": "Never"}
    raw["users"][0]["user"] = {"exec": command}
    (tmp_path / "with-plugin").write_text(json.dumps(raw))
    return Cluster(ClusterAddress(kubeconfig=str(tmp_path / "with-plugin")))


def calls(tmp_path):
    return len((tmp_path / "calls").read_text().splitlines())


def test_a_plugin_is_asked_again_once_for_all_that_wait(accepts, plugin, tmp_path):
    assert plugin.get(POD)["metadata"]["name"] == "a"
    accepts("two")
    (tmp_path / "token").write_text("two")
    with ThreadPoolExecutor(8) as asking:
        found = list(asking.map(plugin.get, [POD] * 8))
    assert [item["metadata"]["name"] for item in found] == ["a"] * 8
    assert calls(tmp_path) == 2


def test_a_kubeconfig_that_a_login_wrote_anew_is_read_again(api, accepts, tmp_path):
    def write(token):
        raw = json.loads(api.kubeconfig())
        raw["users"][0]["user"] = {"token": token}
        (tmp_path / "rewritten").write_text(json.dumps(raw))

    write("one")
    cluster = Cluster(ClusterAddress(kubeconfig=str(tmp_path / "rewritten")))
    assert cluster.get(POD)["metadata"]["name"] == "a"
    accepts("two")
    write("two")
    assert cluster.get(POD)["metadata"]["name"] == "a"


@pytest.mark.parametrize("ask", ["create", "patch", "delete", "log"])
def test_whatever_is_asked_is_asked_again_since_the_server_did_nothing(api, accepts, plugin, tmp_path, ask):
    plugin.get(POD)
    accepts("two")
    (tmp_path / "token").write_text("two")
    api.logs["a"] = FakeLog([b"line\n"])
    serve = api.logs["a"].serve
    api.logs["a"].serve = lambda handler, query: (
        serve(handler, query) if "two" in handler.headers["Authorization"] else api._answer(handler, 401, UNAUTHORIZED)
    )
    api.objects[POD.rpartition("/")[0]] = lambda *_: (201, {"metadata": {"name": "a"}})
    done = {
        "create": lambda: plugin.create(POD.rpartition("/")[0], {"metadata": {"name": "a"}}),
        "patch": lambda: plugin.patch(POD, {}),
        "delete": lambda: plugin.delete(POD) or True,
        "log": lambda: list(plugin.read_log("a", idle_sec=5.0)),
    }[ask]()
    assert done
    assert calls(tmp_path) == 2


def test_a_user_who_is_refused_for_good_is_told_so_and_no_plugin_is_asked_for_ever(
    accepts, plugin, tmp_path, monkeypatch
):
    monkeypatch.setattr("k8s.login._RENEWED_EVERY_SEC", 60.0)
    accepts("other")
    for _ in range(3):
        with pytest.raises(ForbiddenError, match="does not accept this user: Unauthorized; log in again"):
            plugin.get(POD)
    assert calls(tmp_path) == 1


def test_a_plugin_that_cannot_renew_is_named_with_its_words(accepts, plugin, tmp_path):
    plugin.get(POD)
    accepts("two")
    (tmp_path / "token").unlink()
    with pytest.raises(ClusterError, match=r"the credential plugin .*acme-auth of the kubeconfig failed: .*"):
        plugin.get(POD)
