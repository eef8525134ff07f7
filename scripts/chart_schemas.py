"""JSON schemas for kubeconform of all objects in the chart: Kubernetes' own by version, and the operators'.

    python -m scripts.chart_schemas     prints the folder: v1.34.0/KIND-GROUP-VERSION.json, made once and kept

Kubernetes' schemas come with the package kubernetes-validate, the operators' with the Go modules of the versions that
the end-to-end tests run. Both refuse unknown fields.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = tuple(f"v1.{minor}.0" for minor in range(29, 35))
KINDS = ("configmap-v1", "job-batch-v1", "pod-v1", "serviceaccount-v1")
CRDS = {
    "training-operator": (
        "github.com/kubeflow/training-operator",
        ("manifests/base/crds/kubeflow.org_pytorchjobs.yaml",),
    ),
    "trainer": (
        "github.com/kubeflow/trainer/v2",
        tuple(f"manifests/base/crds/trainer.kubeflow.org_{name}.yaml" for name in ("trainjobs", "trainingruntimes")),
    ),
}
"""Folder of tests/e2e/cluster/programs -> module, and the files that define its kinds."""


def main() -> None:
    """Print the folder."""
    print(schema_folder())


def schema_folder() -> Path:
    """The folder, made if it is not there."""
    cache = Path(os.environ.get("TSPCTL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "tspctl"))
    made_of = [Path(__file__).read_bytes(), importlib.metadata.version("kubernetes-validate").encode()]
    made_of += [module_version(program, module).encode() for program, (module, _) in CRDS.items()]
    folder = cache.expanduser() / "schemas" / hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent))
        write_schemas(partial)
        try:
            partial.rename(folder)
        except OSError:  # another process was quicker
            shutil.rmtree(partial)
    return folder


def write_schemas(folder: Path) -> None:
    """All of them."""
    custom = dict(custom_schemas())
    for version in VERSIONS:
        (folder / version).mkdir()
        for name, schema in (*kubernetes_schemas(version), *custom.items()):
            (folder / version / f"{name}.json").write_text(json.dumps(schema))


def kubernetes_schemas(version: str) -> Iterator[tuple[str, Any]]:
    """Schemas of one version, each with the definitions that it refers to."""
    shipped = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"{version}-local-strict"
    definitions = json.loads((shipped / "_definitions.json").read_text())["$defs"]
    for kind in KINDS:
        text = (shipped / f"{kind}.json").read_text().replace("/api/_definitions.json#", "#")
        needed: dict[str, Any] = {}
        found = references(text)
        while found:
            name = found.pop()
            if name not in needed:
                needed[name] = definitions[name]
                found |= references(json.dumps(definitions[name]))
        yield kind, {**json.loads(text), "$defs": needed}


def references(text: str) -> set[str]:
    """Names of definitions that a schema refers to."""
    return set(re.findall(r'"#/\$defs/([^"]+)"', text))


def custom_schemas() -> Iterator[tuple[str, Any]]:
    """Schemas of the operators' kinds."""
    for program, (module, files) in CRDS.items():
        command = ["go", "mod", "download", "-json", f"{module}@{module_version(program, module)}"]
        with tempfile.TemporaryDirectory() as empty:  # no go.mod but the module's own
            done = subprocess.run(command, cwd=empty, env=with_go(), stdout=subprocess.PIPE, check=True)
        source = Path(json.loads(done.stdout)["Dir"])
        for file in files:
            definition = yaml.load((source / file).read_text(), yaml.CSafeLoader)["spec"]
            for served in definition["versions"]:
                kind, group = definition["names"]["kind"].lower(), definition["group"].partition(".")[0]
                yield f"{kind}-{group}-{served['name']}", closed(served["schema"]["openAPIV3Schema"])


def module_version(program: str, module: str) -> str:
    """The version that the end-to-end tests run."""
    text = (ROOT / "tests/e2e/cluster/programs" / program / "go.mod").read_text()
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", text, re.MULTILINE)
    assert found, f"{program}/go.mod does not name {module}"
    return found[1]


def with_go() -> dict[str, str]:
    """The environment, with Go where its installer puts it."""
    return {**os.environ, "PATH": f"{os.environ['PATH']}{os.pathsep}/usr/local/go/bin"}


def closed(schema: Any) -> Any:
    """A schema as the API server reads one (structural), as JSON Schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(item) for key, item in schema.items()}
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
        if "metadata" in schema["properties"] and "kind" in schema["properties"]:
            result["properties"]["metadata"] = {"type": "object"}
    return result


if __name__ == "__main__":
    main()
