"""kubectl as the oracle: as whom a request comes, by the headers that a server with TLS is sent."""

import json
import os
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from k8s.client import Cluster, ClusterAddress
from k8s.helm import Helm
from tests.s3_servers import make_certificate
from tsp.errors import ClusterError


class NotingServer:
    """Notes who asks, and answers as an API server of one version."""

    def __init__(self, certificate, key):
        server, self.users = self, []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                told = [(name.title(), value) for name, value in self.headers.items()]
                server.users.append(sorted(item for item in told if item[0].startswith(("Authorization", "Imperson"))))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                """Keep quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def user_of(self, run):
        self.users.clear()
        run()
        return self.users[-1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"))
    found = NotingServer(certificate, key)
    found.certificate = certificate
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture
def kubeconfig(server, tmp_path):
    def write(user, **tls):
        tls = tls or {"insecure-skip-tls-verify": True}
        cluster = {"server": f"https://127.0.0.1:{server.http.server_port}", **tls}
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }))  # fmt: skip
        return path

    return write


USERS = [
    {"token": "t"},
    {"token": "t", "as": "alice"},
    {"token": "t", "as": "alice", "as-groups": ["dev", "video"]},
    {"token": "t", "as": "alice", "as-uid": "u-1", "as-user-extra": {"Scopes/x y": ["a", "b"], "reason": ["c"]}},
    {"tokenFile": "token"},
    {"tokenFile": "token", "token": "old"},
    {"username": "me", "password": "secret"},
]


@pytest.mark.parametrize("user", USERS)
def test_a_request_comes_from_the_user_that_kubectls_comes_from(server, kubeconfig, kubectl, tmp_path, user):
    (tmp_path / "token").write_text("of-file\n")
    path = kubeconfig(user)
    command = [kubectl, "--kubeconfig", path, "get", "--raw", "/version"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    theirs = server.user_of(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))
    assert theirs, "kubectl has sent no user"
    assert server.user_of(lambda: Cluster(ClusterAddress(kubeconfig=str(path))).get("/version")) == theirs


@pytest.mark.parametrize("names_authority", [False, True])
@pytest.mark.parametrize("skips", [None, False, True])
@pytest.mark.parametrize("name", [None, "localhost", "127.0.0.1"])
def test_a_server_is_trusted_where_kubectl_trusts_it(server, kubeconfig, kubectl, names_authority, skips, name):
    tls = {
        **({"certificate-authority": str(server.certificate)} if names_authority else {}),
        **({} if skips is None else {"insecure-skip-tls-verify": skips}),
        **({} if name is None else {"tls-server-name": name}),
    }
    path = kubeconfig({"token": "t"}, **(tls or {"insecure-skip-tls-verify": False}))
    theirs = subprocess.run([kubectl, "--kubeconfig", path, "get", "--raw", "/version"], capture_output=True)
    try:
        Cluster(ClusterAddress(kubeconfig=str(path))).get("/version")
        ours = 0
    except ClusterError:
        ours = 1
    assert ours == theirs.returncode, theirs.stderr


def test_a_token_in_a_file_is_read_anew_for_each_request_and_kept_when_the_file_goes(server, kubeconfig, tmp_path):
    (tmp_path / "token").write_text("first\n")
    cluster = Cluster(ClusterAddress(kubeconfig=str(kubeconfig({"tokenFile": "token"}))))
    users = [server.user_of(lambda: cluster.get("/version"))]
    (tmp_path / "token").write_text("second")
    users.append(server.user_of(lambda: cluster.get("/version")))
    (tmp_path / "token").unlink()
    users.append(server.user_of(lambda: cluster.get("/version")))
    assert users == [[("Authorization", f"Bearer {token}")] for token in ("first", "second", "second")]


@pytest.mark.parametrize("token", ["secret\n", "sec\u2192ret", "a\r\nX-Other: secret"])
def test_a_token_that_no_header_can_hold_is_an_error_that_does_not_repeat_it(kubeconfig, token):
    with pytest.raises(ClusterError, match="the token of the kubeconfig's user is not one line") as refused:
        Cluster(ClusterAddress(kubeconfig=str(kubeconfig({"token": token})))).get("/version")
    assert refused.value.__cause__ is None
    assert "ret" not in str(refused.value)


def test_a_command_in_a_pod_as_another_user_is_refused_rather_than_run_as_oneself(kubeconfig):
    cluster = Cluster(ClusterAddress(kubeconfig=str(kubeconfig({"token": "t", "as": "alice"}))))
    with pytest.raises(ClusterError, match="use 'kubectl exec pod-0'"):
        cluster.open_shell("pod-0", "pytorch", ["true"], tty=False)


@pytest.mark.parametrize("mode", ["Never", "IfAvailable", "Always"])
def test_a_credential_plugin_runs_once_for_a_command_and_its_helm(server, kubeconfig, real_helm, tmp_path, mode):
    """Helm's streams are pipes: it refuses a plugin that asks somebody (Always), and nobody sees what others say."""
    plugin, ran = tmp_path / "plugin", tmp_path / "ran"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}
    plugin.write_text(f"#!/bin/sh\necho >>{ran}\necho '{json.dumps(answer)}'\n")
    plugin.chmod(0o755)
    user = {
        "exec": {"apiVersion": answer["apiVersion"], "command": str(plugin), "interactiveMode": mode},
        "as": "alice",
    }
    cluster = Cluster(ClusterAddress(kubeconfig=str(kubeconfig(user))))
    ours = server.user_of(lambda: cluster.get("/version"))
    assert ours == [("Authorization", "Bearer t"), ("Impersonate-User", "alice")]
    helm = Helm(cluster.where, "video", token=cluster.plugin_token)

    def uninstall():
        with pytest.raises(ClusterError, match="helm uninstall failed: uninstall: Release not loaded"):
            helm.uninstall("r1")

    assert server.user_of(uninstall) == ours
    assert ran.read_text() == "\n"
