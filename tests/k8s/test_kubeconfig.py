"""Which entry of which kubeconfig file is meant, by kubectl's rules."""

import json

import pytest

from k8s.kubeconfig import context_namespace, credential_plugin, current_context, kubeconfig_files, proxy_url
from tsp.errors import ClusterError


def context(name, **of):
    return {"name": name, "context": {"cluster": name, "user": name, **of}}


@pytest.fixture
def files(tmp_path):
    """Two files, each with entries that come before and after one another by name."""
    first = {
        "contexts": [context("abc", namespace="of-abc"), context("mno"), context("xyz", namespace="of-xyz")],
        "clusters": [
            {"name": "abc", "cluster": {"proxy-url": "http://proxy-abc"}},
            {"name": "mno", "cluster": "damaged"},
            {"name": "xyz", "cluster": {"server": "https://xyz"}},
        ],
        "users": [{"name": "abc", "user": {"token": "t"}}, {"name": "xyz", "user": {"exec": {"command": "log-in"}}}],
        "current-context": "",
    }
    second = {
        "contexts": [context("xyz", namespace="too-late"), context("zzz", namespace="of-zzz")],
        "clusters": [{"name": "mno", "cluster": {"proxy-url": "http://proxy-mno"}}, 5],
        "users": None,
        "current-context": "xyz",
    }
    for name, content in {"first": first, "second": second}.items():
        (tmp_path / name).write_text(json.dumps(content))
    return str(tmp_path / "first"), str(tmp_path / "second")


@pytest.mark.parametrize(
    ("name", "namespace", "proxy", "plugin"),
    [
        ("abc", "of-abc", "http://proxy-abc", None),
        ("mno", None, "http://proxy-mno", None),
        ("xyz", "of-xyz", None, "log-in"),
        ("zzz", "of-zzz", None, None),
        ("aaa", None, None, None),
        (None, None, None, None),
    ],
)
def test_an_entry_is_found_by_its_name_in_the_first_file_that_has_it(files, name, namespace, proxy, plugin):
    name = name and "".join(list(name))
    assert context_namespace(files, name) == namespace
    assert proxy_url(files, name) == proxy
    assert credential_plugin(files, name) == plugin


def test_the_first_file_that_names_a_context_decides(files):
    assert current_context(files) == "xyz"
    assert current_context(files[:1]) is None


def test_a_section_that_is_no_list_makes_it_no_kubeconfig(tmp_path):
    (tmp_path / "config").write_text(json.dumps({"clusters": [], "contexts": {}, "users": "none"}))
    with pytest.raises(ClusterError, match="is not a kubeconfig, which maps clusters, contexts and users to lists"):
        kubeconfig_files(None, {"KUBECONFIG": str(tmp_path / "config")})


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 50_000, "- " * 100_000])
def test_a_file_that_is_nested_without_end_is_an_error_with_its_name(tmp_path, text):
    (tmp_path / "config").write_text(text)
    with pytest.raises(ClusterError, match="config cannot be read"):
        kubeconfig_files(None, {"KUBECONFIG": str(tmp_path / "config")})
