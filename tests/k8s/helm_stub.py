"""A program that behaves as Helm 3 was seen to when several install one name at once, in a tenth of its time.

It looks whether the name is free, writes its record (whoever comes second is told "release: already exists"), creates
its objects, and marks the record deployed or failed. $HELM_STUB names a step at which it fails, is slow or is killed.
"""

import base64
import gzip
import json
import os
import socket
import sys
import time

PATHS = {
    "ConfigMap": "/api/v1/namespaces/video/configmaps",
    "PyTorchJob": "/apis/kubeflow.org/v1/namespaces/video/pytorchjobs",
}
SECRETS = "/api/v1/namespaces/video/secrets"


class Api:
    """One connection. Started by the hundred, the stub takes half as long without http.client's imports."""

    def __init__(self, kubeconfig):
        with open(kubeconfig) as file:
            address = json.load(file)["clusters"][0]["cluster"]["server"]
        host, _, port = address.removeprefix("http://").partition(":")
        self.connection = socket.create_connection((host, int(port)))
        self.answers = self.connection.makefile("rb")

    def __call__(self, method, path, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        head = [
            f"{method} {path} HTTP/1.1",
            "Host: api",
            "Content-Type: application/json",
            f"Content-Length: {len(data)}",
        ]
        self.connection.sendall("\r\n".join([*head, "", ""]).encode() + data)
        status, length = int(self.answers.readline().split()[1]), 0
        while line := self.answers.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, json.loads(self.answers.read(length))


def fail(text):
    sys.stderr.write(f"Error: {text}\n")
    sys.exit(1)


def path_of(name, version):
    return f"{SECRETS}/sh.helm.release.v1.{name}.v{version}"


def newest(api, name):
    """Version and record of a release; 0 and None if there is none."""
    found = ((version, *api("GET", path_of(name, version))) for version in range(5, 0, -1))
    return next(((version, there) for version, status, there in found if status == 200), (0, None))


def record(name, status, labels, content, version=1):
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
    known = {**labels, "name": name, "owner": "helm", "version": str(version), "status": status}
    metadata = {"name": f"sh.helm.release.v1.{name}.v{version}", "labels": known}
    return {"kind": "Secret", "apiVersion": "v1", "metadata": metadata, "data": {"release": packed}}


def objects(name, values):
    labels = {"app.kubernetes.io/part-of": "tspctl", "app.kubernetes.io/instance": name}
    labels["app.kubernetes.io/component"] = "train"
    replicas = {"Master": {"replicas": 1}}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{name}-config", "labels": labels},
            "data": {"config.json": json.dumps(values)},
        },
        {
            "apiVersion": "kubeflow.org/v1",
            "kind": "PyTorchJob",
            "metadata": {"name": name, "labels": labels, "creationTimestamp": "2030-01-01T00:00:00Z"},
            "spec": {"runPolicy": {"suspend": False}, "pytorchReplicaSpecs": replicas},
        },
    ]


def install(api, name, labels, values, *, replace):
    step = os.environ.get("HELM_STUB", "")
    version, there = newest(api, name) if replace else (0, None)
    if replace and there is not None and there["metadata"]["labels"]["status"] not in ("uninstalled", "failed"):
        replace = False
    path = path_of(name, version + 1)
    if not replace and api("GET", path_of(name, 1))[0] == 200:
        fail("INSTALLATION FAILED: cannot re-use a name that is still in use")
    time.sleep(os.urandom(1)[0] / 255 * 0.01)
    made = objects(name, values)
    manifest = "\n---\n".join(json.dumps(item) for item in made)
    content = {"name": name, "config": values, "manifest": manifest, "chart": {"metadata": {"name": "tsp"}}}
    if api("POST", SECRETS, record(name, "pending-install", labels, content, version + 1))[0] == 409:
        fail("INSTALLATION FAILED: release: already exists")
    if step == "killed-after-record":
        os.kill(os.getpid(), 9)
    if step == "slow":
        time.sleep(1.0)
    for item in made:
        status, answer = api("POST", PATHS[item["kind"]], item)
        if status >= 400:
            api("PUT", path, record(name, "failed", labels, content, version + 1))
            fail(f"INSTALLATION FAILED: {answer['message']}")
        if step == "refused-after-configmap":
            api("PUT", path, record(name, "failed", labels, content, version + 1))
            fail("INSTALLATION FAILED: admission said no")
    api("PUT", path, record(name, "deployed", labels, content, version + 1))


def uninstall(api, name, *, keep):
    if os.environ.get("HELM_STUB_UNINSTALL") == "fails":
        fail("uninstall: the server is on fire")
    version, found = newest(api, name)
    if found is None:
        fail(f"uninstall: Release not loaded: {name}: release: not found")
    content = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(found["data"]["release"]))))
    for item in map(json.loads, content["manifest"].split("\n---\n")):
        api("DELETE", f"{PATHS[item['kind']]}/{item['metadata']['name']}")
    if keep:
        found["metadata"]["labels"]["status"] = "uninstalled"
        found["metadata"].pop("resourceVersion", None)
        api("PUT", path_of(name, version), found)
        return
    for number in range(1, version + 1):
        api("DELETE", path_of(name, number))


def main():
    verb, name = sys.argv[1:3]
    api = Api(sys.argv[sys.argv.index("--kubeconfig") + 1])
    if verb == "install":
        given = sys.argv[sys.argv.index("--labels") + 1]
        labels = dict(item.split("=") for item in given.split(","))
        install(api, name, labels, json.loads(sys.stdin.read()), replace="--replace" in sys.argv)
    elif verb == "template":
        made = objects(name, json.loads(sys.stdin.read()))
        sys.stdout.write("\n---\n".join(json.dumps(item) for item in made))
    elif verb == "uninstall":
        uninstall(api, name, keep="--keep-history" in sys.argv)
    else:
        fail(f"unknown verb {verb}")


main()
