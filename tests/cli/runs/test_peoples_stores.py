"""Stores as people have them: every command ends with the right code and says what is wrong and what to do.

Behind each is a real server, moto's with its checks of rights, or rclone's; a proxy gives some answers instead of it.
"""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl
from tests.cli.runs.peoples_stores import (
    ANY,
    BEST,
    LINES,
    MISSING,
    OK,
    READ,
    STORE,
    USAGE,
    WHOLE,
    Answers,
    become,
    check,
    client_of,
    every,
    made_run,
)
from tests.fault_proxy import FaultProxy, Instead
from tests.s3_servers import S3Server, with_rights
from tests.stores import epoch_record
from tsp.run.records import Outcome
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store


def refused(status: int, code: str, *, only: str = "", part: str = "", **headers: str) -> Instead:
    """What a server refuses: everything, or some methods and keys."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>PLANTED</Message></Error>".encode()

    def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes] | None:
        is_meant = (not only or method in only.split()) and part in path
        return (status, {"Content-Type": "application/xml", **headers}, text) if is_meant else None

    return answer


def page(status: int, **headers: str) -> Instead:
    """A web page for everything."""
    return lambda method, path: (
        status,
        {"Content-Type": "text/html", **headers},
        b"<!DOCTYPE html><html>Log in</html>",
    )


REGION = {"x-amz-bucket-region": "eu-west-1"}

SERVERS: dict[str, tuple[Instead, Answers]] = {
    "redirects to https": (page(301, Location="https://127.0.0.1:1/runs?token=PLANTED"),
                           every(STORE, r"set store.endpoint_url to https://127\.0\.0\.1:1$", *READ, "submit")),
    "redirects for a while": (page(307, Location="https://eu.example.com/runs"),
                              every(STORE, r"redirects .* to https://eu\.example\.com \(HTTP status 307\)", *ANY)),
    "redirects for ever": (page(308, Location="https://[2001:db8::1]:9000/"),
                           every(STORE, r"set store.endpoint_url to https://\[2001:db8::1\]:9000", *ANY)),
    "redirects to a login": (page(302, Location="/login"), every(STORE, "is not an S3 server", *ANY)),
    "redirects nowhere": (page(301), every(STORE, "is not an S3 server", *ANY)),
    "redirects as S3 does": (refused(301, "PermanentRedirect", **REGION),
                             every(STORE, "is in region eu-west-1 .*set store.region to eu-west-1", *ANY)),
    "another region": (refused(400, "AuthorizationHeaderMalformed", **REGION),
                       every(STORE, "is in region eu-west-1 .*set store.region to eu-west-1", *ANY)),
    "another region, which": (refused(400, "AuthorizationHeaderMalformed"),
                              every(STORE, "is in another region", *ANY)),
    "a login page": (page(200), every(STORE, "is not an S3 server", *READ, "submit", "delete")),
    "a page of a firewall": (page(403), every(STORE, "a proxy or firewall may have given it", *ANY)),
    "a page for nothing": (page(404), every(STORE, "is not an S3 server", *ANY)),
    "answers without a body": (lambda method, path: (200, {}, b""), every(STORE, "is not an S3 server", *ANY)),
    "wants a password": (page(401), every(STORE, "refused the credentials", *ANY)),
    "a proxy's password": (page(407), every(STORE, r"\(407", *ANY)),
    "clocks differ": (refused(403, "RequestTimeTooSkewed", Date="Thu, 01 Jan 2026 10:00:00 GMT"),
                      every(STORE, r"clock shows 20\d\d-.* UTC, the server's .* UTC: correct the one", *ANY)),
    "an expired token": (refused(400, "ExpiredToken"), every(STORE, "AWS_SESSION_TOKEN", *ANY)),
    "is overloaded": (refused(503, "SlowDown"), every(STORE, "overloaded", *ANY)),
    "limits requests": (refused(429, "TooManyRequests"), every(STORE, "limits the request rate", *ANY)),
    "is full": (refused(507, "XMinioStorageFull", only="PUT POST"),
                {**WHOLE, "submit": (STORE, "it is full, or its quota"), "delete": (OK, "deleted first")}),
    "a quota is used up": (refused(403, "QuotaExceeded", only="PUT POST"),
                           {"list": WHOLE["list"], "submit": (STORE, "raise the quota")}),
    "keeps objects": (refused(403, "AccessDenied", only="DELETE"),
                      {**WHOLE, "delete": (STORE, "s3:DeleteObject .*retention, legal hold"),
                       "submit": (STORE, "retention")}),
    "keeps objects, as some say": (refused(400, "InvalidRequest", only="DELETE"),
                                   {"delete": (STORE, "retention, legal hold"), "status": WHOLE["status"]}),
    "lets nothing be deleted": (refused(405, "MethodNotAllowed", only="DELETE"),
                                {"delete": (STORE, "retention, legal hold"), "results": WHOLE["results"]}),
    "archived": (refused(403, "InvalidObjectState", only="GET", part=".pth"),
                 {"results": WHOLE["results"], "fetch-best": (STORE, "archived: restore it first"),
                  "fetch": (STORE, "epoch_1.pth .*archived")}),
    "encrypted with a lost key": (refused(400, "KMS.DisabledException", only="GET", part=".pth"),
                                  {"status": WHOLE["status"], "fetch-best": (STORE, "KMS key")}),
    "refuses checksums": (refused(501, "NotImplemented", only="PUT"),
                          {"submit": (STORE, "store.checksums"), "results": WHOLE["results"]}),
    "hides one object": (refused(403, "AccessDenied", only="GET HEAD", part="epoch_1.json"),
                         {"results": (STORE, r"40\.000"), "status": (OK, r"failed .*Avg Accuracy 40"),
                          "fetch-best": (STORE, "first-epoch_0.pth .*epoch_1.json"),
                          "list": (OK, r"first +failed .*40\.000")}),
}  # fmt: skip


@pytest.mark.parametrize("case", SERVERS)
def test_a_server_that_is_not_as_it_should_be(
    moto: S3Server, tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    instead, answers = SERVERS[case]
    with FaultProxy(moto.endpoint_url, instead=instead) as proxy:
        monkeypatch.setenv("TSPCTL_ENDPOINT_URL", proxy.url)
        for ended in check(tspctl, answers).values():
            assert "PLANTED" not in ended.out + ended.err
        assert tspctl("doctor").code == (0 if instead("PUT", "") is instead("DELETE", "") is None else 1)


def test_a_server_that_is_busy_for_a_while_is_waited_for(
    moto: S3Server, tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = refused(503, "SlowDown")
    with FaultProxy(moto.endpoint_url) as proxy:
        # Our own request and the first of boto3's: the second of these succeeds.
        seen: dict[tuple[str, str], int] = {}

        def instead(method: str, path: str) -> tuple[int, dict[str, str], bytes] | None:
            seen[method, path] = seen.get((method, path), 0) + 1
            return busy(method, path) if seen[method, path] <= 2 else None

        proxy.instead = instead
        monkeypatch.setenv("TSPCTL_ENDPOINT_URL", proxy.url)
        check(tspctl, {**WHOLE, "delete": (OK, "deleted first")})
        assert len(seen) > 20


RIGHTS: dict[str, tuple[list[str], Answers]] = {
    "read": (["s3:GetObject", "s3:ListBucket"],
             {**WHOLE, "submit": (STORE, "s3:PutObject"), "delete": (STORE, "s3:DeleteObject")}),
    "all but list": (["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                     {**every(STORE, "s3:ListBucket on the bucket", "list", "names", "results", "metrics", "logs",
                              "fetch-best", "fetch", "delete"), "report": WHOLE["report"],
                      "status": (OK, "failed .*boom; .*s3:ListBucket"), "wait": WHOLE["wait"]}),
    "write": (["s3:PutObject"],
              {**every(STORE, "s3:GetObject on the object", "status", "results", "fetch-best", "submit", "delete"),
               "list": (STORE, "s3:ListBucket")}),
    "list": (["s3:ListBucket"],
             {**every(STORE, "s3:GetObject on the object", "status", "results", "metrics", "fetch-best"),
              "names": (STORE, "s3:GetObject"), "submit": (STORE, "s3:PutObject")}),
    "all but delete": (["s3:GetObject", "s3:ListBucket", "s3:PutObject"],
                       {**WHOLE, "delete": (STORE, "s3:DeleteObject"), "submit": (STORE, "s3:DeleteObject")}),
    "nothing": (["s3:GetBucketLocation"], every(STORE, "s3:(GetObject|ListBucket|PutObject)", *ANY)),
}  # fmt: skip


@pytest.mark.parametrize("rights", RIGHTS)
def test_a_key_pair_of_few_rights_does_what_it_may_and_names_the_right_it_lacks(
    moto: S3Server, tspctl: Tspctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rights: str
) -> None:
    actions, answers = RIGHTS[rights]
    become(with_rights(moto, tmp_path.name, actions), monkeypatch)
    check(tspctl, answers)
    become(moto, monkeypatch)
    check(tspctl, WHOLE)  # nothing was half deleted or changed


@pytest.fixture
def versioned(moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A bucket that keeps every version, with the run in it, and one epoch that was replaced."""
    server = dataclasses.replace(moto, bucket=f"kept-{tmp_path.name}".replace("_", "-").lower()[:60])
    client_of(server).create_bucket(Bucket=server.bucket)
    client_of(server).put_bucket_versioning(Bucket=server.bucket, VersioningConfiguration={"Status": "Enabled"})
    store = open_store(server.config("team"))
    run = made_run(store, tmp_path, endpoint_url=server.endpoint_url)
    path = tmp_path / "made-0.pth"
    path.write_bytes(b"a second version, which is better")
    run.publish_epoch(path, epoch_record(0, path, 90.0))
    run.store.delete(run.key("epoch_1.pth"))  # as if pruned: a marker hides it
    monkeypatch.setenv("TSPCTL_STORE", store.uri)
    return server


def test_of_old_versions_nothing_is_shown_and_delete_says_that_they_stay(versioned: S3Server, tspctl: Tspctl) -> None:
    ended = check(
        tspctl,
        {
            "list": (OK, r"first +failed .*90\.000 % \(epoch 0\)"),
            "results": (OK, r"90\.000 .*best"),
            "fetch-best": (OK, "first-epoch_0.pth"),
            "fetch": (OK, "epoch_1.json"),
            "delete": (OK, "is versioned: old versions of the deleted objects remain, hidden"),
        },
    )
    assert Path("out/first-epoch_0.pth").read_bytes() == b"a second version, which is better"
    assert "epoch_1.pth" not in ended["fetch"].out
    check(tspctl, {"names": (OK, "^$"), **every(MISSING, "no run 'first'", "status", "results", "delete")})
    versions = client_of(versioned).list_object_versions(Bucket=versioned.bucket)
    assert len([item for item in versions["Versions"] if item["Key"] == "team/first/epoch_0.pth"]) == 2
    assert "Contents" not in client_of(versioned).list_objects_v2(Bucket=versioned.bucket)


def test_a_name_whose_deletion_left_versions_can_be_used_again(
    versioned: S3Server, tspctl: Tspctl, tmp_path: Path
) -> None:
    assert tspctl(*LINES["delete"]).code == OK
    made_run(open_store(versioned.config("team")), tmp_path)
    check(tspctl, {"results": WHOLE["results"], "fetch-best": WHOLE["fetch-best"]})
    assert Path("out/first-epoch_1.pth").read_bytes() == BEST


@pytest.mark.parametrize("key", ["new/train/a.mp4", "new/notes.txt", "new//x", "new/state.bak"])
def test_a_run_does_not_move_in_where_others_keep_things_nor_is_anything_of_theirs_deleted(
    moto: S3Server, tspctl: Tspctl, tmp_path: Path, key: str
) -> None:
    for near in (key, "new-2/run", "first.txt", "firsts/x"):
        client_of(moto).put_object(Bucket=moto.bucket, Key=f"{tmp_path.name}/{near}", Body=b"theirs")
    check(tspctl, {"submit": (USAGE, "contains files that were not written by a run, such as"), "names": (OK, "first")})
    assert tspctl("status", "new").code == MISSING, "nothing of it is left"
    check(tspctl, {"delete": (OK, "deleted first")})
    left = client_of(moto).list_objects_v2(Bucket=moto.bucket, Prefix=f"{tmp_path.name}/")["Contents"]
    assert {item["Key"].partition("/")[2] for item in left} == {key, "new-2/run", "first.txt", "firsts/x"}


@pytest.mark.parametrize("key", ["features//a.npy", "%2F", "\u00fc \u20ac+.npy"])
def test_whatever_a_key_is_called_all_is_fetched_and_deleted(
    moto: S3Server, tspctl: Tspctl, tmp_path: Path, key: str
) -> None:
    client_of(moto).put_object(Bucket=moto.bucket, Key=f"{tmp_path.name}/first/{key}", Body=b"of an odd name")
    check(tspctl, {"fetch": WHOLE["fetch"]})
    found = [path.read_bytes() for path in Path("all/first").rglob("*") if path.is_file()]
    assert found.count(b"of an odd name") == 1
    assert BEST in found
    check(tspctl, {"delete": (OK, "deleted first")})
    assert "Contents" not in client_of(moto).list_objects_v2(Bucket=moto.bucket, Prefix=f"{tmp_path.name}/")


def test_a_key_that_clients_change_on_its_way_is_named_and_all_others_are_fetched_and_deleted(
    moto: S3Server, tspctl: Tspctl, tmp_path: Path
) -> None:
    key = f"{tmp_path.name}/first/features/./a"
    client_of(moto).put_object(Bucket=moto.bucket, Key=key, Body=b"of an odd name")
    check(tspctl, every(STORE, "'first/features/./a' .*use the tool that created it", "fetch", "delete"))
    assert Path("all/first/epoch_1.pth").read_bytes() == BEST
    left = client_of(moto).list_objects_v2(Bucket=moto.bucket, Prefix=f"{tmp_path.name}/")["Contents"]
    assert [item["Key"] for item in left if "/features/" in item["Key"]] == [key]


def test_what_another_user_ended_is_resumed_without_force_unless_its_end_may_not_be_read(
    moto: S3Server, tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = StoredRun(open_store(moto.config(tmp_path.name)), "first")
    hidden = refused(403, "AccessDenied", only="GET HEAD", part="outcome.json")
    with FaultProxy(moto.endpoint_url, instead=hidden) as proxy:
        about = run.about()
        about["config"]["store"]["endpoint_url"] = proxy.url
        run.store.write(run.key("run.json"), json.dumps(about).encode())
        monkeypatch.setenv("TSPCTL_ENDPOINT_URL", proxy.url)
        monkeypatch.setattr("cli.runs.outcome.final_state", lambda found: ("failed", None))  # as the other one sees it
        ended = check(tspctl, {"resume": (STORE, "outcome.json .*s3:GetObject")})
        assert "--force" not in ended["resume"].err
        proxy.instead = lambda method, path: None
        run.store.delete(run.key("outcome.json"))
        check(tspctl, {"resume": (USAGE, "trained by another user's machine, which wrote .*--force")})
        run.write_outcome(Outcome(state="failed", exit_code=1, reason="boom", attempt=1))
        check(tspctl, {"resume": (OK, "resumed first")})
