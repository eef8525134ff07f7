"""The API client against a small server."""

import json
import re
import socket
import threading

import pytest

from cli.backends.cluster.backend import ClusterBackend
from cli.options.settings import Settings
from cli.stores import Stores
from k8s.answers import ForbiddenError, NotFoundError, parsed, refusal
from k8s.client import Cluster, ClusterAddress, official
from tsp.errors import ClusterError, UnreachableError

POD = "/api/v1/namespaces/video/pods/a"
PODS = "/api/v1/namespaces/video/pods"


def test_the_namespace_is_the_contexts_unless_another_is_asked_for(cluster):
    kubeconfig = cluster.where.kubeconfig
    assert cluster.namespace == "video"
    assert Cluster(ClusterAddress(kubeconfig=kubeconfig, context="other")).namespace == "o"
    assert Cluster(ClusterAddress(kubeconfig=kubeconfig, namespace="mine")).namespace == "mine"


def test_a_context_without_a_namespace_means_default(api, tmp_path):
    (tmp_path / "plain").write_text(api.kubeconfig(namespace=None))
    assert Cluster(ClusterAddress(kubeconfig=str(tmp_path / "plain"))).namespace == "default"


def kubeconfig_of(folder, name, address, *, current=None, namespace="n"):
    """A file with one cluster, user and context, all called so."""
    found = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": address}}],
        "users": [{"name": name, "user": {"token": f"token-of-{name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"{namespace}-{name}"}}],
        **({"current-context": current} if current is not None else {}),
    }
    (folder / name).write_text(json.dumps(found))
    return str(folder / name)


def test_of_several_kubeconfig_files_the_first_that_names_a_context_decides_as_with_kubectl(
    api, tmp_path, monkeypatch, fake_helm
):
    (tmp_path / "empty").write_text("")
    files = [
        str(tmp_path / "missing"),
        str(tmp_path / "empty"),
        kubeconfig_of(tmp_path, "a", "http://127.0.0.1:9", current=""),
        kubeconfig_of(tmp_path, "b", "http://127.0.0.1:9", current="c"),
        kubeconfig_of(tmp_path, "c", api.address, current="a"),
    ]
    monkeypatch.setenv("KUBECONFIG", ":".join(files))
    api.objects["/version"] = {}
    cluster = Cluster(ClusterAddress())
    assert (cluster.context, cluster.namespace, cluster.server) == ("c", "n-c", api.address)
    cluster.get("/version")
    assert api.requests[-1][3]["authorization"] == "Bearer token-of-c"
    assert Cluster(ClusterAddress(context="b")).namespace == "n-b"
    # Helm is told which one, whatever its own variables say
    monkeypatch.setenv("HELM_KUBECONTEXT", "a")
    ClusterBackend(Settings(), Stores())._helm.uninstall("r")
    assert fake_helm.calls[-1]["arguments"] == ["uninstall", "r", "--namespace", "n-c", "--kube-context", "c"]


def test_an_empty_variable_means_the_file_in_the_home_folder(api, tmp_path, monkeypatch):
    (tmp_path / ".kube").mkdir()
    kubeconfig_of(tmp_path / ".kube", "config", api.address, current="config")
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", None):
        monkeypatch.setenv("KUBECONFIG", value) if value is not None else monkeypatch.delenv("KUBECONFIG")
        assert Cluster(ClusterAddress()).server == api.address
    assert Cluster(ClusterAddress(kubeconfig="~/.kube/config")).namespace == "n-config"


def test_a_kubeconfig_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken").write_text("a: [")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "broken"))
    with pytest.raises(ClusterError, match=f"the kubeconfig file {tmp_path}/broken cannot be read"):
        Cluster(ClusterAddress()).get("/version")


def test_a_context_that_no_file_has_is_named(cluster):
    with pytest.raises(ClusterError, match="nowhere"):
        Cluster(ClusterAddress(kubeconfig=cluster.where.kubeconfig, context="nowhere")).get("/version")


def test_paths_are_those_of_core_and_of_groups(cluster):
    assert cluster.namespaced("v1", "pods", "a") == POD
    assert cluster.namespaced("kubeflow.org/v1", "pytorchjobs") == "/apis/kubeflow.org/v1/namespaces/video/pytorchjobs"


def test_an_object_is_read_with_the_users_token(api, cluster):
    api.objects[POD] = {"metadata": {"name": "a"}}
    assert cluster.get(POD, watch=False, labelSelector=None) == {"metadata": {"name": "a"}}
    method, path, query, headers = api.requests[-1]
    assert (method, path, query, headers["authorization"]) == ("GET", POD, {"watch": "false"}, "Bearer a-token")


def test_a_long_list_is_read_in_pages(api, cluster):
    path = cluster.namespaced("v1", "pods")
    api.objects[path] = [{"metadata": {"uid": str(index)}} for index in range(1201)]
    found = [item["metadata"]["uid"] for item in cluster.items(path, labelSelector="a=b")]
    assert found == [str(index) for index in range(1201)]
    assert [query.get("continue") for _, _, query, _ in api.requests] == [None, "500", "1000"]
    assert {query["limit"] for _, _, query, _ in api.requests} == {"500"}
    assert {query["labelSelector"] for _, _, query, _ in api.requests} == {"a=b"}


def test_a_list_that_expires_half_way_is_read_again_and_gives_each_object_once(api, cluster):
    path, items = cluster.namespaced("v1", "pods"), [{"metadata": {"uid": str(index)}} for index in range(700)]
    expired = iter([True])

    def answer(method, query, body):
        if query.get("continue") and next(expired, False):
            return 410, {"message": "the provided continue parameter is too old"}
        return 200, api._page(items, query)

    api.objects[path] = answer
    assert [int(item["metadata"]["uid"]) for item in cluster.items(path)] == list(range(700))


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, NotFoundError, "pods a not found"),
        (403, ForbiddenError, r"a not found \(missing permission: get pods in namespace video; see k8s/role.yaml\)"),
        (401, ForbiddenError, "does not accept this user"),
        *(
            (status, ClusterError, rf"^pods a not found \(HTTP {status}\)$")
            for status in (400, 405, 409, 410, 422, 501)
        ),
        *((status, UnreachableError, "is not available now") for status in (429, 500, 502, 503, 504)),
    ],
)
def test_refusals_keep_the_servers_words_and_say_what_is_missing(status, error, message):
    found = refusal("GET", POD, status, b'{"message": "pods a not found"}')
    assert type(found) is error
    assert re.search(message, str(found))


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", f"GET {POD} (HTTP 400)"), (b"[1]", "[1] (HTTP 400)"), (b" upstream \xff\n", "upstream \ufffd (HTTP 400)"),
     (b"x" * 900, "x" * 300 + " (HTTP 400)")],
)  # fmt: skip
def test_a_refusal_that_is_no_status_object_is_quoted_as_far_as_it_is_short(data, words):
    assert str(refusal("GET", POD, 400, data)) == words


def test_what_is_no_api_server_is_quoted_by_its_first_line_of_text():
    with pytest.raises(ClusterError, match=r"not from an API server") as caught:
        parsed(b"<html>\n  <title>" + b"Log in " * 100)
    assert f"({('<html> <title>' + 'Log in ' * 100)[:80]!r}...)" in str(caught.value)


def test_a_webhook_that_does_not_answer_is_named_once_and_shortly(api, cluster, caplog, monkeypatch):
    monkeypatch.setattr("k8s.client._RETRY_AFTER_SEC", (0.0, 0.0))
    path = cluster.namespaced("kubeflow.org/v1", "pytorchjobs", "r")
    message = (
        'Internal error occurred: failed calling webhook "validator.pytorchjob.training-operator.kubeflow.org": failed '
        'to call webhook: Post "https://training-operator.kubeflow.svc:443/validate?timeout=10s": dial tcp '
        "10.96.62.94:443: connect: connection refused"
    )
    api.objects[path] = lambda method, query, body: (500, {"message": message})
    expected = (
        "the webhook validator.pytorchjob.training-operator.kubeflow.org does not answer: is its controller running? "
        "(connection refused)"
    )
    with pytest.raises(UnreachableError) as refused:
        cluster.patch(path, {})
    assert str(refused.value) == expected
    assert [item.message for item in caplog.records if item.levelname == "WARNING"] == [f"{expected}; trying again"]


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "/api/v1/namespaces/video/pods", "list pods in namespace video"),
        ("GET", "/api/v1/namespaces/video/pods/a/exec", "get pods/exec in namespace video"),
        ("GET", "/api/v1/namespaces/video", "get namespaces in the whole cluster"),
        ("GET", "/api/v1/nodes", "list nodes in the whole cluster"),
        (
            "PATCH",
            "/apis/kubeflow.org/v1/namespaces/video/pytorchjobs/r",
            "patch pytorchjobs.kubeflow.org in namespace video",
        ),
        ("DELETE", "/api/v1/namespaces/video/pods/a", "delete pods in namespace video"),
        ("POST", "/apis/batch/v1/namespaces/video/jobs", "create jobs.batch in namespace video"),
        *(
            ("GET", path, f"get {path}")
            for path in ("/apis/kubeflow.org/v1", "/apis/batch", "/apis", "/api/v1", "/version")
        ),
    ],
)
def test_a_missing_permission_is_named_as_a_role_names_it(api, cluster, method, path, permission):
    api.objects[path] = lambda *_: (403, {"message": "no"})
    with pytest.raises(ForbiddenError) as refused:
        cluster._request(method, path, {})
    assert f"(missing permission: {permission}; see k8s/role.yaml)" in str(refused.value)


def test_a_server_that_refuses_what_it_allowed_before_is_given_time(api, cluster, monkeypatch):
    """One that has just started answers before it knows its Roles."""
    roles = iter([200, 403, 403, 200, *[403] * 99])
    api.objects[POD] = lambda *_: (next(roles), {"metadata": {}, "message": "RBAC: role not found"})
    assert cluster.get(POD)["metadata"] == {}
    assert cluster.get(POD)["metadata"] == {}, "two refusals are met by asking again"
    with pytest.raises(UnreachableError, match="refuses what it allowed before: RBAC: role not found"):
        cluster.get(POD)
    monkeypatch.setattr("k8s.client._REFUSED_FOR_SEC", 0.0)
    with pytest.raises(ForbiddenError):
        cluster.get(POD)


def test_a_server_that_was_away_is_given_time_for_what_was_not_asked_of_it_before(api, cluster, monkeypatch):
    api.objects[POD] = lambda *_: (404, {"message": "not found"})
    with pytest.raises(NotFoundError):
        cluster.get(POD)
    refused = iter([403, 200, 403, 200])

    def answer(*_):
        return next(refused), {"metadata": {}, "message": "RBAC: role not found"}

    api.objects |= {POD: answer, f"{POD}-2": answer, PODS: []}
    assert cluster.get(POD)["metadata"] == {}, "it was looked for, so it may be read"
    api.failures = [None]
    list(cluster.items(PODS))
    assert cluster.get(f"{POD}-2")["metadata"] == {}, "it may have been allowed before the connection broke"
    api.objects[f"{POD}-3"] = lambda *_: (403, {"message": "no"})
    monkeypatch.setattr("k8s.client._REFUSED_FOR_SEC", 0.0)
    with pytest.raises(ForbiddenError):
        cluster.get(f"{POD}-3")


def test_reads_are_repeated_while_the_server_is_away(api, cluster):
    api.objects[POD] = {"metadata": {}}
    api.failures = [None, 503, 429]
    assert cluster.get(POD) == {"metadata": {}}
    assert len(api.requests) == 4


@pytest.mark.parametrize(("status", "pauses"), [(429, [1.0, 1.0]), (503, [0.0, 0.01])])
def test_an_overloaded_server_is_asked_again_when_it_says(api, cluster, monkeypatch, status, pauses):
    slept = []
    monkeypatch.setattr("k8s.client.time.sleep", slept.append)
    api.objects["/version"] = {"gitVersion": "v1"}
    api.failures = [status, status]
    assert cluster.get("/version") == {"gitVersion": "v1"}
    assert slept == pauses


@pytest.mark.parametrize(("text", "wait_sec"), [("1", 1.0), ("3600", 10.0)])
def test_nobody_is_kept_waiting_for_an_hour(text, wait_sec):
    assert refusal("GET", "/version", 429, b"{}", retry_after=text).wait_sec == wait_sec


@pytest.mark.parametrize("text", ["", "0", "Wed, 21 Oct 2030 07:28:00 GMT", "-1"])
def test_a_time_to_ask_again_that_is_no_number_of_seconds_is_left_to_us(text):
    assert type(refusal("GET", "/version", 429, b"{}", retry_after=text)) is UnreachableError


def test_a_write_that_is_the_same_twice_is_repeated_when_a_webhook_fails(api, cluster, caplog):
    api.objects[POD] = {"metadata": {"name": "a"}}
    api.failures = [500, 503]
    assert cluster.patch(POD, {}) == {"metadata": {"name": "a"}}
    cluster.delete(POD)
    assert len(api.requests) == 4
    assert "failure 500; trying again" in caplog.text, "it waits without a word"


def test_what_creates_is_not_repeated(api, cluster):
    api.failures = [503]
    with pytest.raises(UnreachableError):
        cluster.create(POD.rpartition("/")[0], {"metadata": {"name": "a"}})
    assert len(api.requests) == 1


def test_what_a_busy_server_did_not_take_up_is_created_when_it_says(api, cluster):
    pods = POD.rpartition("/")[0]
    api.objects[pods] = lambda *_: (201, {"metadata": {"name": "a"}})
    api.failures = [429]
    assert cluster.create(pods, {"metadata": {"name": "a"}})["metadata"]["name"] == "a"
    assert len(api.requests) == 2


def test_a_server_that_stays_away_is_named(api, cluster):
    api.failures = [None] * 9
    with pytest.raises(UnreachableError, match=f"the API server {api.address} does not answer"):
        cluster.get(POD)


def test_a_merge_patch_is_sent_as_one(api, cluster):
    sent = []
    api.objects[POD] = lambda method, query, body: sent.append((method, body)) or (200, {"metadata": {}})
    cluster.patch(POD, {"spec": {"suspend": True}})
    assert sent == [("PATCH", {"spec": {"suspend": True}})]
    assert api.requests[-1][3]["Content-Type"] == "application/merge-patch+json"


def test_deleting_what_is_gone_is_no_error(api, cluster):
    cluster.delete(POD)
    assert api.requests[-1][0] == "DELETE"


def test_permissions_are_asked_for_the_namespace_or_the_whole_cluster(api, cluster):
    asked = []

    def answer(method, query, body):
        asked.append(body["spec"]["resourceAttributes"])
        return 201, {"status": {"allowed": body["spec"]["resourceAttributes"]["resource"] == "pods"}}

    api.objects["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = answer
    assert cluster.may("get", "pods", subresource="log")
    assert not cluster.may("list", "nodes", everywhere=True)
    assert asked[0] == {"verb": "get", "resource": "pods", "group": "", "subresource": "log", "namespace": "video"}
    assert "namespace" not in asked[1]


def test_without_a_cluster_the_message_says_how_to_name_one(tmp_path, monkeypatch):
    with pytest.raises(ClusterError, match=r"no cluster to talk to: .*none does not exist; check --kubeconfig"):
        Cluster(ClusterAddress(kubeconfig=str(tmp_path / "none"))).get("/version")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match=r"no cluster to talk to.*set KUBECONFIG"):
        Cluster(ClusterAddress()).get("/version")


def test_an_answer_that_is_no_json_is_shown(api, cluster):
    api.objects["/version"] = json.loads("[]")
    assert cluster.get("/version") == {"metadata": {}, "items": []}


POLICY = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no team label"
WEBHOOK = 'admission webhook "policy.example.com" denied the request'


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            403,
            'pytorchjobs.kubeflow.org "r" is forbidden: exceeded quota: q, requested: count/pytorchjobs.kubeflow.org=1',
        ),
        (403, 'pods "r" is forbidden: failed quota: q2: must specify limits.cpu for: c'),
        (403, 'pods "r" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false'),
        (403, 'pods "r" is forbidden: no PriorityClass with name nope was found'),
        (403, 'pods "r" is forbidden: minimum cpu usage per Container is 100m, but request is 10m'),
        (
            403,
            'pods "r" is forbidden: [maximum memory usage per Container is 1Gi, but limit is 5Gi, maximum cpu]',
        ),
        (403, 'pods "r" is forbidden: pod rejected: RuntimeClass "nope" not found'),
        (403, 'pods "p-" is forbidden: error looking up service account adm/nope: serviceaccount "nope" not found'),
        (403, 'pods "r" is forbidden: unable to create new content in namespace n because it is being terminated'),
        *((status, f'pods "r" is forbidden: {POLICY}') for status in (403, 413, 422)),
        *((status, f"{WEBHOOK}: no team") for status in (400, 401, 403, 404, 422, 429, 500)),
        (403, f"{WEBHOOK} without explanation"),
        (403, f'{WEBHOOK}: pods "r" is forbidden: User "jane" may not'),
    ],
)
def test_what_admission_refuses_is_told_in_its_words(api, cluster, status, message):
    """Answers of Kubernetes 1.33. A webhook chooses its status: 401 is no expired login, 429 no overloaded server."""
    path = cluster.namespaced("kubeflow.org/v1", "pytorchjobs")
    api.objects[path] = lambda *_: (status, {"message": message})
    with pytest.raises(ClusterError) as refused:
        cluster.judge({"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": "r"}})
    assert (type(refused.value), str(refused.value)) == (ClusterError, message)
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "message",
    [
        'pods is forbidden: User "anna" cannot create resource "pods" in API group "" in the namespace "video"',
        'secrets "x" is forbidden: User "bob" cannot get resource "secrets" in API group "" in the namespace "video"',
    ],
)
def test_what_a_role_lacks_is_a_missing_permission(api, cluster, message):
    path = cluster.namespaced("v1", "pods")
    api.objects[path] = lambda *_: (403, {"message": message})
    with pytest.raises(ForbiddenError, match="missing permission: create pods in namespace video"):
        cluster.create(path, {"kind": "Pod"})


@pytest.mark.parametrize(
    "text",
    [
        "<html>login</html>", "[]", "5", "- a", "clusters: a", "contexts: {a: b}", "users: 3",
        "current-context: c\ncontexts: [3]", "current-context: c\ncontexts: [{name: c, context: 3}]",
        "current-context: c\ncontexts: [{name: c, context: {cluster: x, user: y}}]\nclusters: [3]\nusers: [null]",
        "current-context: c\ncontexts: [{name: c, context: {cluster: x}}]\nclusters: [{name: x, cluster: [1]}]",
        "current-context: c\ncontexts: [{name: c, context: {cluster: x}}]\nclusters: [{name: x, cluster: {server: 5}}]",
        "current-context: [1]\ncontexts: []\nclusters: []",
    ],
)  # fmt: skip
def test_a_kubeconfig_of_another_form_is_named(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    cluster = Cluster(ClusterAddress(kubeconfig=str(path)))
    with pytest.raises(ClusterError) as caught:
        cluster.get(cluster.namespaced("v1", "pods"))
    assert "no cluster to talk to" in str(caught.value) or "does not answer" in str(caught.value)


@pytest.mark.parametrize(("status", "is_answer"), [(200, True), (299, True), (300, False), (302, False), (399, False)])
def test_what_sends_us_elsewhere_is_no_answer(api, cluster, status, is_answer):
    api.objects[POD] = lambda *_: (status, {"metadata": {"name": "a"}})
    if is_answer:
        assert cluster.get(POD)["metadata"]["name"] == "a"
        return
    with pytest.raises(ClusterError, match="redirect"):
        cluster.get(POD)


def test_the_second_page_of_a_list_fails_as_the_first_does(api, cluster):
    path, items = cluster.namespaced("v1", "pods"), [{"metadata": {"uid": str(index)}} for index in range(700)]
    once = iter([400])

    def answer(method, query, body):
        status = next(once, 200) if query.get("continue") else 200
        return status, api._page(items, query)

    api.objects[path] = answer
    with pytest.raises(ClusterError, match="HTTP 400"):
        list(cluster.items(path))


def test_an_object_without_a_uid_is_never_taken_for_another(api, cluster):
    path = cluster.namespaced("v1", "pods")
    api.objects[path] = [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]
    assert [item["metadata"]["name"] for item in cluster.items(path)] == ["a", "b"]


def test_who_may_write_is_not_thought_to_read(api, cluster):
    api.objects[POD] = lambda method, *_: (200 if method == "PATCH" else 403, {"message": "no"})
    cluster.patch(POD, {})
    with pytest.raises(ForbiddenError, match="missing permission: get pods in"):
        cluster.get(POD)


def test_an_answer_that_breaks_off_is_asked_for_again(tmp_path, monkeypatch):
    monkeypatch.setattr("k8s.client._RETRY_AFTER_SEC", (0.0,))
    whole = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"metadata":{}}'
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            for answer in (whole[:-5], whole):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        path = kubeconfig_of(tmp_path, "b", f"http://127.0.0.1:{server.getsockname()[1]}", current="b")
        assert Cluster(ClusterAddress(kubeconfig=path)).get(POD) == {"metadata": {}}


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize(
    ("reason", "error", "message"),
    [
        (
            "Handshake status 403 Forbidden -+-+- {}",
            ForbiddenError,
            r"pod the-pod \(missing permission: get pods/exec in namespace video; see k8s/role.yaml\)",
        ),
        (
            "Handshake status 403 Forbidden -+-+- {'audit-id': '1'} -+-+- "
            '{"kind":"Status","message":"pods \\"the-pod\\" is forbidden: User \\"b\\" cannot get pods/exec"}',
            ForbiddenError,
            r"""pod the-pod: pods "the-pod" is forbidden: User "b" .* \(missing permission: get pods/exec in""",
        ),
        (
            # An audit ID may hold any digits.
            "Handshake status 400 Bad Request -+-+- {'audit-id': 'a403-4035'} -+-+- "
            '{"kind":"Status","message":"container pytorch is not valid for pod the-pod","code":400}',
            ClusterError,
            "^cannot run a command in pod the-pod: container pytorch is not valid for pod the-pod .HTTP 400.$",
        ),
        ("Handshake status 500\nmore", ClusterError, "^cannot run a command in pod the-pod: Handshake status 500$"),
    ],
)
def test_a_command_that_may_not_be_run_says_what_is_missing(cluster, monkeypatch, tty, reason, error, message):
    asked = {}

    def stream(call, pod, namespace, **options):
        asked.update(options, pod=pod, namespace=namespace)
        raise official().client.ApiException(reason=reason)

    monkeypatch.setattr(official().stream, "stream", stream)
    with pytest.raises(ClusterError, match=message) as refused:
        cluster.open_shell("the-pod", "pytorch", ["ls"], tty=tty)
    assert type(refused.value) is error
    # A terminal has one stream of output; without one, stdout and stderr stay apart.
    assert (asked["tty"], asked["stderr"], asked["stdin"], asked["stdout"]) == (tty, not tty, True, True)
    assert (asked["pod"], asked["namespace"], asked["container"]) == ("the-pod", "video", "pytorch")
