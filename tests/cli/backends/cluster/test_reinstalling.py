"""Resuming a run whose job has failed or is gone installs it anew: nothing is lost if that does not work."""

import base64
import json
from pathlib import Path

import pytest
import yaml

from k8s.helm import shipped_chart
from k8s.recorded_chart import recorded_chart
from k8s.release_claims import claim
from k8s.release_record import INSTALL_LABEL
from tests.k8s.fake_api import SECRETS
from tests.k8s.objects import job
from tests.k8s.serving import JOBS, PODS, goes_after, serve_release
from tsp.errors import ClusterError, ConfigError

RECORD = f"{SECRETS}/sh.helm.release.v1.my-run.v1"
VALUES = {"dataset": "demo", "method": "tac", "gpus": 2, "store": {"uri": "s3://runs/video"}}


def as_recorded(*, accepts=()):
    """The shipped chart as Helm records one, with a schema that knows more keys: that of another version."""
    top = Path(shipped_chart())
    schema = json.loads((top / "values.schema.json").read_text())
    schema["properties"] |= dict.fromkeys(accepts, True)
    templates = [path for path in sorted((top / "templates").rglob("*")) if path.is_file()]
    return {
        "metadata": {"apiVersion": "v2", "name": "tsp", "version": "0.0.9", "appVersion": "0.0.9"},
        "values": yaml.safe_load((top / "values.yaml").read_text()),
        "schema": base64.b64encode(json.dumps(schema).encode()).decode(),
        "templates": [
            {"name": str(path.relative_to(top)), "data": base64.b64encode(path.read_bytes()).decode()}
            for path in templates
        ],
        "files": [{"name": name, "data": ""} for name in ("../outside", "/outside", "README.md")],
    }


@pytest.fixture
def failed(api, backend, real_helm, monkeypatch):
    """A failed run, and what Helm is asked to change."""
    goes_after(api, job("Failed"), looks=2)
    for path in (JOBS, PODS, "/api/v1/namespaces/video/configmaps", "/api/v1/namespaces/video/serviceaccounts"):
        api.objects[path] = []
    done = []
    monkeypatch.setattr(backend._helm, "uninstall_objects", lambda name: done.append(("uninstall", name)))

    def install(name, chart, values, labels):
        done.append(("install", values, (Path(chart.reference) / "Chart.yaml").read_text()))

    monkeypatch.setattr(backend._helm, "install_again", install)
    return done


def test_values_that_the_present_chart_refuses_are_installed_with_the_chart_that_took_them(
    api, backend, failed, caplog
):
    serve_release(api, "my-run", config={**VALUES, "oldKey": 1}, chart=as_recorded(accepts=["oldKey"]))
    backend.resume("my-run", None)
    assert [item[0] for item in failed] == ["uninstall", "install"]
    _, values, chart = failed[1]
    assert (values["oldKey"], "version: 0.0.9" in chart) == (1, True)
    assert "my-run continues with the chart that it was submitted with" in caplog.text
    assert "'oldKey' not allowed" in caplog.text


@pytest.mark.parametrize("chart", [{"metadata": {"name": "tsp"}}, as_recorded()])
def test_values_that_no_chart_accepts_leave_the_run_as_it_is(api, backend, failed, chart):
    serve_release(api, "my-run", config={**VALUES, "oldKey": 1}, chart=chart)
    with pytest.raises(ClusterError, match=r"my-run is left as it is, since the chart refuses .*'oldKey' not allowed"):
        backend.resume("my-run", None)
    assert failed == []
    assert "DELETE" not in [method for method, *_ in api.requests]


def test_what_the_api_server_would_refuse_leaves_the_run_as_it_is(api, backend, failed):
    serve_release(api, "my-run", config=VALUES)
    api.objects[JOBS] = lambda *_: (403, {"message": "denied by policy"})
    with pytest.raises(ClusterError, match="PyTorchJob my-run: the API server would refuse it: denied by policy"):
        backend.resume("my-run", None)
    assert failed == []
    # It is there at that moment, and was accepted.
    exists = (409, {"message": 'pytorchjobs.kubeflow.org "my-run" already exists'})
    api.objects[JOBS] = lambda method, *_: exists if method == "POST" else (200, {"metadata": {}, "items": []})
    backend.resume("my-run", None)
    assert [item[0] for item in failed] == ["uninstall", "install"]


@pytest.mark.parametrize("error", [ClusterError("helm install failed: no route to host"), KeyboardInterrupt()])
def test_an_installation_that_fails_leaves_a_record_from_which_the_run_can_be_resumed(
    api, backend, failed, monkeypatch, error
):
    serve_release(api, "my-run", config=VALUES)
    record = api.objects[SECRETS][0]
    sent = []

    def secrets(method, query, body):
        if method == "POST":
            sent.append(body)
            return 201, body
        return 200, {"metadata": {}, "items": [] if "cleaned up" in failed else [record]}

    api.objects[SECRETS] = secrets

    def fails(*_, **__):
        failed.append("cleaned up")
        raise error

    monkeypatch.setattr(backend._helm, "install_again", fails)
    with pytest.raises(type(error)):
        backend.resume("my-run", None)
    assert failed == [("uninstall", "my-run"), "cleaned up"]
    metadata = {key: record["metadata"][key] for key in ("name", "labels")}
    assert sent == [{**record, "metadata": metadata}]


def test_a_record_writes_nothing_outside_of_the_folder_of_its_chart():
    with recorded_chart({"chart": as_recorded()}) as chart:
        folder = Path(chart.reference)
        assert (folder / "README.md").exists()
        assert not (folder.parent / "outside").exists()
    assert not folder.exists()


def test_the_record_is_there_until_the_new_one_is(api, backend, failed, monkeypatch):
    """A command that is killed while it waits for the old pods loses nothing."""
    serve_release(api, "my-run", config=VALUES)
    done = []
    monkeypatch.setattr(backend._lifecycle, "wait_gone", lambda name, own: done.extend(api.requests))
    backend.resume("my-run", None)
    assert done
    assert "DELETE" not in [method for method, *_ in done]
    assert [path for method, path, *_ in api.requests if method == "DELETE"] == [RECORD]


def _resumed_before(record):
    """Changed since it was read."""
    return 409, {"message": "the object has been modified"}


def _removed_before(record):
    return 404, {"message": "not found"}


@pytest.mark.parametrize("answer", [_resumed_before, _removed_before])
def test_of_two_commands_that_install_a_run_again_one_gives_up_and_leaves_everything(api, backend, failed, answer):
    serve_release(api, "my-run", config=VALUES)
    record = api.objects[RECORD]
    api.objects[RECORD] = lambda method, *_: answer(record) if method == "PUT" else (200, record)
    with pytest.raises(ConfigError, match="another command resumes or removes my-run at this moment"):
        backend.resume("my-run", None)
    assert failed == []


def test_a_run_that_another_command_takes_over_meanwhile_is_left_to_it(api, backend, failed, monkeypatch):
    serve_release(api, "my-run", config=VALUES)
    taken = {INSTALL_LABEL: "another"}
    monkeypatch.setattr(
        backend._lifecycle, "wait_gone", lambda name, own: api.objects[RECORD]["metadata"]["labels"].update(taken)
    )
    with pytest.raises(ConfigError, match="another command resumes or removes my-run at this moment"):
        backend.resume("my-run", None)
    assert [item[0] for item in failed] == ["uninstall"]
    assert api.objects[RECORD]["metadata"]["labels"][INSTALL_LABEL] == "another"


def test_a_claim_whose_answer_was_lost_is_still_ones_own(api, backend, failed):
    """It is sent again, and then finds that the record has changed."""
    serve_release(api, "my-run", config=VALUES)
    record = api.objects[RECORD]
    changes = []

    def answer(method, query, body):
        if method == "PUT":
            record["metadata"]["labels"] |= body["metadata"]["labels"]
            changes.append(body)
            return _resumed_before(record)
        return 200, record

    api.objects[RECORD] = answer
    backend.resume("my-run", None)
    assert [item[0] for item in failed] == ["uninstall", "install"]
    assert len(changes) == 1


def test_objects_that_another_command_has_installed_meanwhile_are_left_alone(api, backend, failed, monkeypatch):
    """It took over just after this one had claimed the release: its objects are there before this one looks."""
    serve_release(api, "my-run", config=VALUES)
    own = claim(backend._releases, backend._releases.find("my-run"))
    api.objects[JOBS] = [job("Running")]
    api.objects[RECORD]["metadata"]["labels"][INSTALL_LABEL] = "another"
    with pytest.raises(ConfigError, match="another command resumes or removes my-run"):
        backend._releases.remove(backend._helm, "my-run", claim=own)
    # Or after it has looked.
    api.objects[RECORD]["metadata"]["labels"][INSTALL_LABEL] = own.nonce
    api.objects[JOBS] = []
    monkeypatch.setattr(backend._helm, "uninstall_objects", lambda name: api.objects.update({JOBS: [job("Running")]}))
    backend._releases.remove(backend._helm, "my-run", claim=own)
    assert "DELETE" not in [method for method, *_ in api.requests]


def test_waiting_for_the_old_pods_ends_when_another_command_has_installed_the_run(api, backend, failed, monkeypatch):
    serve_release(api, "my-run", config=VALUES)
    taken = {INSTALL_LABEL: "another"}
    monkeypatch.setattr(
        backend._helm, "uninstall_objects", lambda name: api.objects[RECORD]["metadata"]["labels"].update(taken)
    )
    api.objects[f"{JOBS}/my-run"] = job("Failed")
    with pytest.raises(ConfigError, match="another command resumes or removes my-run"):
        backend.resume("my-run", None)


def test_a_run_that_another_command_deletes_meanwhile_stays_deleted(api, backend, failed, monkeypatch):
    """Its record is not put back: the run would be listed again, without its files."""
    serve_release(api, "my-run", config=VALUES)

    def deleted(name, own):
        api.objects[SECRETS] = []
        del api.objects[RECORD]

    monkeypatch.setattr(backend._lifecycle, "wait_gone", deleted)
    with pytest.raises(ConfigError, match="another command resumes or removes my-run at this moment"):
        backend.resume("my-run", None)
    assert [item[0] for item in failed] == ["uninstall"]
    assert "POST" not in [method for method, path, *_ in api.requests if path == SECRETS]


def test_a_run_that_is_resumed_while_it_is_deleted_is_named_and_not_waited_for(api, backend, failed, monkeypatch):
    serve_release(api, "my-run", config=VALUES)
    api.objects[f"{JOBS}/my-run"] = job("Failed")
    monkeypatch.setattr(backend._helm, "uninstall", lambda name: api.objects.update({f"{JOBS}/my-run": job("Running")}))
    with pytest.raises(ConfigError, match="run my-run was resumed or submitted by another command"):
        backend.delete("my-run")


def test_a_run_that_is_a_part_of_another_charts_release_is_left_as_it_is(api, backend, failed, config):
    serve_release(api, "my-run", config={"tsp": VALUES}, chart={"metadata": {"name": "umbrella"}})
    with pytest.raises(ConfigError, match=r"of another chart \(umbrella\), which tspctl cannot install again"):
        backend.resume("my-run", config)
    assert failed == []
    assert "DELETE" not in [method for method, *_ in api.requests]
