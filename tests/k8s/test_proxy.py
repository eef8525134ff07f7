"""The proxy of a request, as kubectl and Helm choose it (golang.org/x/net/http/httpproxy)."""

import json
import shutil
import socket
import socketserver
import subprocess
import threading
from contextlib import suppress

import pytest

from k8s.proxy import proxy_for
from tsp.errors import ClusterError

P = {"HTTPS_PROXY": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://api.example:6443", {}, None),
        ("https://api.example:6443", P, "http://proxy:3128"),
        ("https://api.example:6443", {"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ("http://api.example", P, None),
        ("http://api.example", {"HTTP_PROXY": "http://p"}, "http://p"),
        ("https://localhost:6443", P, None),
        ("https://127.0.0.9:6443", P, None),
        ("https://[::1]:6443", P, None),
        ("https://api.example", {**P, "NO_PROXY": "*"}, None),
        ("https://api.example", {**P, "NO_PROXY": "example"}, None),
        ("https://api.example", {**P, "NO_PROXY": "ample"}, "http://proxy:3128"),
        ("https://api.example", {**P, "NO_PROXY": ".example"}, None),
        ("https://example", {**P, "NO_PROXY": ".example"}, "http://proxy:3128"),
        ("https://API.Example", {**P, "NO_PROXY": "a, api.EXAMPLE ,b"}, None),
        ("https://api.example:6443", {**P, "NO_PROXY": "api.example:6443"}, None),
        ("https://api.example:6443", {**P, "NO_PROXY": "api.example:443"}, "http://proxy:3128"),
        ("https://api.example", {**P, "NO_PROXY": "api.example:443"}, None),
        ("https://api.example", {**P, "NO_PROXY": "api.example:80"}, "http://proxy:3128"),
        ("http://api.example", {"HTTP_PROXY": "http://p", "NO_PROXY": "api.example:80"}, None),
        ("http://api.example", {"HTTP_PROXY": "http://p", "NO_PROXY": "api.example:443"}, "http://p"),
        ("http://api.example", {"https_proxy": "http://p", "http_proxy": "http://q"}, "http://q"),
        ("https://api.example", {**P, "NO_PROXY": "'*'"}, "http://proxy:3128"),
        ("https://10.96.0.1", {**P, "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://11.96.0.1", {**P, "NO_PROXY": "10.0.0.0/8"}, "http://proxy:3128"),
        ("https://10.96.0.1", {**P, "no_proxy": "10.96.0.1"}, None),
        ("https://api.example", {**P, "NO_PROXY": "10.0.0.0/8"}, "http://proxy:3128"),
        ("https://api.example", {**P, "NO_PROXY": "nonsense/99"}, "http://proxy:3128"),
    ],
)
def test_the_proxy_is_the_one_that_kubectl_takes(url, environment, expected):
    assert proxy_for(url, environment) == expected


def test_the_kubeconfigs_own_proxy_wins():
    assert proxy_for("https://127.0.0.1", P, given="socks5://s:1") == "socks5://s:1"


def test_the_client_goes_through_the_kubeconfigs_proxy(api, tmp_path, monkeypatch):
    from k8s.client import Cluster, ClusterAddress

    monkeypatch.setenv("HTTPS_PROXY", "http://elsewhere.invalid:1")
    raw = json.loads(api.kubeconfig())
    raw["clusters"][0]["cluster"] = {"server": "http://nowhere.invalid", "proxy-url": api.address}
    path = tmp_path / "proxied"
    path.write_text(json.dumps(raw))
    cluster = Cluster(ClusterAddress(kubeconfig=str(path)))
    api.objects["/version"] = {"gitVersion": "v1"}
    assert cluster.get("/version") == {"gitVersion": "v1"}


@pytest.mark.parametrize(
    ("script", "words"), [("echo 'token has expired, run acme login' >&2; exit 3", "acme login"), ("exit 1", "")]
)
def test_a_credential_plugin_that_fails_is_named_with_its_words(tspctl, api, tmp_path, script, words):
    plugin = tmp_path / "acme-auth"
    plugin.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    plugin.chmod(0o755)
    raw = json.loads(api.kubeconfig())
    raw["users"][0]["user"] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
    (tmp_path / "with-plugin").write_text(json.dumps(raw))
    failed = tspctl("list", "--kubeconfig", tmp_path / "with-plugin")
    assert failed.code == 4
    assert f"the credential plugin {plugin} of the kubeconfig failed" in failed.err
    assert words in failed.err
    assert api.requests == [], "it went on as nobody"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [(200, "<html>Please log in</html>", "perhaps from a login page or a proxy"), (302, "", "redirects the request")],
)
def test_a_login_page_in_place_of_the_api_is_said(tspctl, api, cluster, monkeypatch, status, body, message):
    def answer(handler, *_):
        data = body.encode()
        handler.send_response(status)
        handler.send_header("Location", "https://login.example/?token=secret")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    monkeypatch.setattr(type(api), "_answer", staticmethod(answer))
    failed = tspctl("list", "--kubeconfig", cluster.where.kubeconfig)
    assert failed.code == 4, failed.err
    assert message in failed.err
    assert "secret" not in failed.err


def test_without_any_kubeconfig_the_message_says_so(tspctl, monkeypatch):
    for variable in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    failed = tspctl("list")
    assert failed.code == 4
    assert "there is no kubeconfig file, and this is not a pod; set KUBECONFIG" in failed.err


class SocksProxy(socketserver.ThreadingTCPServer):
    """SOCKS 5 without a password: notes the names it is asked for, and takes everybody to one server."""

    daemon_threads = True

    def __init__(self, target):
        self.target, self.names = target, []
        super().__init__(("127.0.0.1", 0), SocksHandler)


class SocksHandler(socketserver.BaseRequestHandler):
    def handle(self):
        methods = self.receive(2)[1]
        self.receive(methods)
        self.request.sendall(b"\x05\x00")
        kind = self.receive(4)[3]
        assert kind == 3, "an address, so the name was looked up before the proxy"
        self.server.names.append(self.receive(self.receive(1)[0]).decode())
        self.receive(2)
        with socket.create_connection(self.server.target) as there:
            self.request.sendall(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=pump, args=(there, self.request), daemon=True)
            back.start()
            pump(self.request, there)
            back.join()

    def receive(self, count):
        found = b""
        while len(found) < count:
            found += self.request.recv(count - len(found)) or bytes(count)
        return found


def pump(source, target):
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def socks(api, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    host, port = api.address.removeprefix("http://").split(":")
    with SocksProxy((host, int(port))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


def asked_by_us(kubeconfig):
    from k8s.client import Cluster, ClusterAddress

    return Cluster(ClusterAddress(kubeconfig=kubeconfig)).get("/version")


def asked_by_kubectl(kubeconfig):
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not on PATH")
    command = [program, "--kubeconfig", kubeconfig, "get", "--raw", "/version"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=600).stdout)


@pytest.mark.parametrize("ask", [asked_by_us, asked_by_kubectl])
@pytest.mark.parametrize("given", ["proxy-url", "HTTP_PROXY"])
def test_a_socks_proxy_is_used_and_looks_names_up_as_kubectl_has_it(api, socks, tmp_path, monkeypatch, ask, given):
    raw = json.loads(api.kubeconfig())
    raw["clusters"][0]["cluster"] = {"server": "http://nowhere.invalid"}
    address = f"socks5://127.0.0.1:{socks.server_address[1]}"
    if given == "proxy-url":
        raw["clusters"][0]["cluster"]["proxy-url"] = address
    else:
        monkeypatch.setenv(given, address)
    path = tmp_path / "proxied"
    path.write_text(json.dumps(raw))
    api.objects["/version"] = {"gitVersion": "v1"}
    assert ask(str(path)) == {"gitVersion": "v1"}
    assert set(socks.names) == {"nowhere.invalid"}  # kubectl may connect twice


def test_a_command_in_a_pod_is_refused_through_a_socks_proxy(api, tmp_path):
    from k8s.client import Cluster, ClusterAddress

    raw = json.loads(api.kubeconfig())
    raw["clusters"][0]["cluster"] |= {"proxy-url": "socks5://127.0.0.1:9"}
    path = tmp_path / "proxied"
    path.write_text(json.dumps(raw))
    with pytest.raises(ClusterError, match="use 'kubectl exec a-pod'"):
        Cluster(ClusterAddress(kubeconfig=str(path))).open_shell("a-pod", "c", ["true"], tty=False)
