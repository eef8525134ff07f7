"""One cluster is told from another, alike for its users."""

import pytest

from k8s.client import Cluster, ClusterAddress
from k8s.identity import cluster_identity
from tests.k8s.fake_api import FakeApi

SYSTEM = "/api/v1/namespaces/kube-system"
AUTHORITY = "/api/v1/namespaces/video/configmaps/kube-root-ca.crt"


def refused(*_: object) -> tuple[int, dict[str, str]]:
    return 403, {"message": "forbidden"}


@pytest.fixture
def identity(api: FakeApi, tmp_path):
    def ask() -> str:
        path = tmp_path / "kubeconfig"
        path.write_text(api.kubeconfig())
        return cluster_identity(Cluster(ClusterAddress(kubeconfig=str(path))))

    return ask


@pytest.mark.parametrize("refusal", [None, refused])
def test_what_lasts_longest_tells_a_cluster_else_what_may_be_read(api, identity, refusal):
    found = []
    for path, answer in (
        (SYSTEM, {"metadata": {"uid": "1f0c"}}),
        (SYSTEM, {"metadata": {"uid": "2a7b"}}),
        (SYSTEM, refusal),
        (AUTHORITY, {"data": {"ca.crt": "of one cluster"}}),
        (AUTHORITY, {"data": {"ca.crt": "of another"}}),
    ):
        api.objects[path] = answer
        if answer is None:
            del api.objects[path]
        found.append(identity())
        assert found[-1] == identity()
    assert len(set(found)) == len(found)
    assert all(len(each) == 8 for each in found)


def test_another_authority_changes_nothing_where_the_uid_may_be_read(api, identity):
    api.objects[SYSTEM] = {"metadata": {"uid": "1f0c"}}
    before = identity()
    api.objects[AUTHORITY] = {"data": {"ca.crt": "renewed"}}
    assert identity() == before
