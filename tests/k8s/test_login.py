"""Whom the client asks, as whom, and through which proxy; and what is said where that cannot be known."""

import json
import os
import warnings
from pathlib import Path

import pytest
import urllib3

from k8s import login
from k8s.login import log_in, own_namespace
from tsp.errors import ClusterError

NO_CLUSTER = r"no cluster to talk to: there is no kubeconfig file, and this is not a pod; set KUBECONFIG"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """Neither a pod nor behind a proxy."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("KUBERNETES_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def kubeconfig(tmp_path):
    """Writes a kubeconfig. Returns: the files."""

    def write(user=None, **cluster):
        named = {"server": "https://one.example", **cluster}
        contexts = [{"name": name, "context": {"cluster": name, "user": "me"}} for name in ("one", "two")]
        clusters = [
            {"name": "one", "cluster": named},
            {"name": "two", "cluster": {**named, "server": "https://two.example"}},
        ]
        users = [{"name": "me", "user": user or {"token": "t"}}]
        content = {"contexts": contexts, "clusters": clusters, "users": users, "current-context": "one"}
        (tmp_path / "config").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **content}))
        return (str(tmp_path / "config"),)

    return write


def plugin(tmp_path, script):
    """A user whose credentials come from a program."""
    path = tmp_path / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "interactiveMode": "Never"}}


def test_a_plugin_that_fails_on_a_terminal_has_said_why(kubeconfig, tmp_path, monkeypatch):
    """The official client then shows its errors, and raises of what it has not captured."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", None)
    files = kubeconfig(plugin(tmp_path, "exit 3"))
    with (tmp_path / "stderr").open("w") as shown:
        monkeypatch.setattr("sys.stderr", shown)
        with pytest.raises(ClusterError, match="plugin of the kubeconfig failed: see its message above"):
            log_in(files, None)


def test_a_plugin_that_takes_long_is_named_while_it_is_waited_for(kubeconfig, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(login, "_PATIENCE_SEC", 0.05)
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}
    log_in(kubeconfig(plugin(tmp_path, f"sleep 0.5; echo '{json.dumps(credential)}'")), None)
    assert f"waiting for the credential plugin {tmp_path}/plugin of the kubeconfig: if it hangs" in caplog.text
    caplog.clear()
    log_in(kubeconfig(), None)
    assert caplog.text == ""


def test_the_context_that_is_asked_for_is_used(kubeconfig):
    files = kubeconfig()
    assert [log_in(files, name).configuration.host for name in ("one", "two")] == [
        "https://one.example",
        "https://two.example",
    ]


def test_without_a_kubeconfig_a_pod_uses_its_service_account_and_other_machines_say_what_is_missing(monkeypatch):
    def log_in_as_pod(client_configuration):
        client_configuration.host = "https://10.0.0.1"

    with pytest.raises(ClusterError, match=NO_CLUSTER):
        log_in((), None)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(login.official().config, "load_incluster_config", log_in_as_pod)
    assert log_in((), None).configuration.host == "https://10.0.0.1"


def test_a_kubeconfig_wins_over_the_service_account_of_a_pod(kubeconfig, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert log_in(kubeconfig(), None).configuration.host == "https://one.example"


def test_a_context_without_any_file_is_looked_for_and_not_taken_for_a_pod(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ClusterError) as refused:
        log_in((), "ours")
    assert "this is not a pod" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "environment", "used"),
    [
        (None, {}, None),
        (None, {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        (None, {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": ".example"}, None),
        ("http://own:1", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": ".example"}, "http://own:1"),
        ("socks5://own:1", {}, "socks5h://own:1"),
        ("socks5h://own:1", {}, "socks5h://own:1"),
    ],
)
def test_requests_go_through_the_proxy_that_kubectl_uses(kubeconfig, monkeypatch, given, environment, used):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = log_in(kubeconfig(**({"proxy-url": given} if given else {})), "one").configuration
    assert (found.proxy, found.no_proxy) == (used, None)


@pytest.mark.parametrize(("given", "where"), [("ftp://own:1", "proxy-url of the kubeconfig"), (None, "HTTPS_PROXY or")])
def test_a_proxy_that_cannot_be_used_is_named_by_where_it_is_set(kubeconfig, monkeypatch, given, where):
    monkeypatch.setenv("HTTPS_PROXY", "ftp://me:hidden@other:1")
    with pytest.raises(ClusterError, match=f"the proxy in {where}") as refused:
        log_in(kubeconfig(**({"proxy-url": given} if given else {})), "one")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("skip", [True, False])
def test_a_certificate_that_is_not_to_be_checked_is_not_warned_of_and_others_are(kubeconfig, skip):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        log_in(kubeconfig(**{"insecure-skip-tls-verify": skip}), "one")
        warnings.warn("x", urllib3.exceptions.InsecureRequestWarning, stacklevel=1)
    assert len(warned) == (0 if skip else 1)


GIVES = """echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": %s}'"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (GIVES % '{"token": "t"}', None),
        (GIVES % '{"clientCertificateData": "c", "clientKeyData": "k"}', None),
        ("echo 'log in again' >&2; exit 3", "exec: process returned 3. log in again"),
        (GIVES % "{}", "exec: missing token or clientCertificateData field in plugin output"),
    ],
)
def test_a_plugin_that_gives_no_credentials_is_named_with_its_words(kubeconfig, tmp_path, script, said):
    files = kubeconfig(user=plugin(tmp_path, script))
    if said is None:
        found = log_in(files, "one").configuration
        assert found.api_key or found.cert_file
    else:
        with pytest.raises(ClusterError, match=f"the credential plugin .*plugin of the kubeconfig failed: {said}$"):
            log_in(files, "one")


def test_a_plugin_that_is_not_installed_is_told_with_the_kubeconfigs_own_hint(kubeconfig):
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-login",
                     "interactiveMode": "Never", "installHint": "Get it\n  from the wiki."}}  # fmt: skip
    with pytest.raises(
        ClusterError, match=r"plugin no-such-login of the kubeconfig failed: .*; Get it from the wiki\.$"
    ):
        log_in(kubeconfig(user=user), "one")


@pytest.mark.parametrize(("context", "said"), [("three", "has no context 'three'"), (None, "names no current context")])
def test_a_context_that_is_not_there_is_told_with_those_that_are(kubeconfig, context, said):
    (file,) = kubeconfig()
    content = json.loads(Path(file).read_text())
    Path(file).write_text(json.dumps({**content, "current-context": ""}))
    with pytest.raises(ClusterError, match=f"{said}; it has one, two: give one with --context"):
        log_in([file], context)


@pytest.mark.parametrize("name", ["gcp", "azure"])
def test_a_provider_of_credentials_that_helm_refuses_is_refused(kubeconfig, name):
    with pytest.raises(ClusterError, match=f"credential provider {name}, which kubectl and Helm have removed"):
        log_in(kubeconfig(user={"auth-provider": {"name": name}}), "one")


def test_a_user_with_neither_plugin_nor_token_is_anonymous(kubeconfig):
    assert log_in(kubeconfig(user={"name": "me"}), "one").configuration.api_key == {}


@pytest.mark.parametrize(("text", "namespace"), [("video\n", "video"), ("\n", None), (None, None)])
def test_a_pod_knows_its_own_namespace(tmp_path, monkeypatch, text, namespace):
    if text is not None:
        (tmp_path / "namespace").write_text(text)
    monkeypatch.setattr(login, "_SERVICE_ACCOUNT_NAMESPACE", str(tmp_path / "namespace"))
    assert own_namespace() == namespace
