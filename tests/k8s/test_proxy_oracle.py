"""kubectl and Helm as oracles: whether a request goes through a proxy, tried with one that notes who comes."""

import json
import os
import socketserver
import subprocess
import threading

import pytest

from k8s.client import Cluster, ClusterAddress
from tsp.errors import ClusterError


class NotingProxy:
    """Notes the first line of every request and whom it names to the proxy, and refuses it."""

    def __init__(self):
        proxy = self
        self.lines, self.users = [], []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                proxy.lines.append(self.rfile.readline().decode())
                head = iter(lambda: self.rfile.readline().decode().strip(), "")
                proxy.users.append([line for line in head if line.lower().startswith("proxy-authorization:")])
                self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server.server_address[1]}"

    def went_through(self, run):
        self.lines.clear()
        run()
        return sorted({line.split()[0] == "CONNECT" for line in self.lines})

    def users_of(self, run):
        self.users.clear()
        run()
        return sorted({value.partition(": ")[2] for told in self.users for value in told or [""]})


@pytest.fixture
def proxy(monkeypatch):
    found = NotingProxy()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    yield found
    found.server.shutdown()
    found.server.server_close()


# Server, variables ({} is the proxy), the kubeconfig's proxy-url; no name ends in .invalid, so nobody answers.
CASES = [
    ("https://api.invalid:6443", {}, None),
    ("https://api.invalid:6443", {"HTTPS_PROXY": "http://{}"}, None),
    ("https://api.invalid:6443", {"https_proxy": "http://{}"}, None),
    ("https://api.invalid:6443", {"HTTPS_PROXY": "{}"}, None),
    ("https://api.invalid:6443", {"HTTP_PROXY": "http://{}"}, None),
    ("https://api.invalid:6443", {"ALL_PROXY": "http://{}"}, None),
    ("http://api.invalid:8080", {"HTTP_PROXY": "http://{}"}, None),
    ("http://api.invalid:8080", {"HTTPS_PROXY": "http://{}"}, None),
    ("https://api.invalid:6443", {"HTTPS_PROXY": "http://{}", "NO_PROXY": "invalid"}, None),
    ("https://api.invalid:6443", {"HTTPS_PROXY": "http://{}", "NO_PROXY": ".invalid"}, None),
    ("https://api.invalid:6443", {"HTTPS_PROXY": "http://{}", "no_proxy": "api.invalid:6443"}, None),
    ("https://api.invalid:6443", {"HTTPS_PROXY": "http://{}", "NO_PROXY": "api.invalid:443,valid"}, None),
    ("https://api.invalid:6443", {"HTTPS_PROXY": "http://{}", "NO_PROXY": "*"}, None),
    ("https://api.invalid:6443", {}, "http://{}"),
    ("https://api.invalid:6443", {"NO_PROXY": "*"}, "http://{}"),
    ("http://api.invalid:8080", {"HTTP_PROXY": "http://127.0.0.1:9"}, "http://{}"),
    ("https://127.0.0.1:9", {"HTTPS_PROXY": "http://{}"}, None),
]


@pytest.mark.parametrize(("server", "variables", "own"), CASES)
def test_a_request_goes_the_way_that_kubectls_and_helms_go(
    proxy, kubectl, helm, tmp_path, monkeypatch, server, variables, own
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(proxy.address))
    ours, kubectls, helms = asking(
        server, kubectl, helm, tmp_path, monkeypatch, **({"proxy-url": own.format(proxy.address)} if own else {})
    )
    way = proxy.went_through(ours)
    assert way == proxy.went_through(kubectls)
    assert way == proxy.went_through(helms)


@pytest.mark.parametrize("user", ["", "me:secret@", "me:%40%3A%2F@", "me@", "me:@", "%C3%BC:s@"])
@pytest.mark.parametrize(
    ("server", "variable"),
    [("https://api.invalid", "HTTPS_PROXY"), ("http://api.invalid", "HTTP_PROXY"), ("https://api.invalid", None)],
)
def test_a_proxy_gets_the_name_and_password_of_its_address_as_from_kubectl(
    proxy, kubectl, helm, tmp_path, monkeypatch, server, variable, user
):
    address = f"http://{user}{proxy.address}"
    if variable:
        monkeypatch.setenv(variable, address)
    own = {} if variable else {"proxy-url": address}
    ours, kubectls, _ = asking(server, kubectl, helm, tmp_path, monkeypatch, **own)
    assert proxy.users_of(ours) == proxy.users_of(kubectls) != []


def asking(server, kubectl, helm, tmp_path, monkeypatch, **cluster):
    """Functions by which we, kubectl and Helm ask an API server of which nobody answers."""
    monkeypatch.setattr("k8s.client._RETRY_AFTER_SEC", ())
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }))  # fmt: skip

    def ours():
        with pytest.raises(ClusterError):
            Cluster(ClusterAddress(kubeconfig=str(path))).get("/version")

    def program(*command):
        environment = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run([*command, "--kubeconfig", path], env=environment, capture_output=True, timeout=900)
        assert done.returncode, "somebody answered"

    return (
        ours,
        lambda: program(kubectl, "get", "--raw", "/version", "--request-timeout=60s"),
        lambda: program(helm, "list"),
    )


def test_the_cases_hold_both_ways(proxy, monkeypatch):
    """Some go through and some do not, so that an oracle that sees nothing would be seen."""
    from k8s.proxy import proxy_for

    ways = {proxy_for(server, {k: v.format("p:1") for k, v in variables.items()}, given=own) is None
            for server, variables, own in CASES}  # fmt: skip
    assert ways == {True, False}
