"""The program that runs in a pod: configuration in, exit code out, nothing but an answer on standard output."""

import importlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import pytest

from tests.train.conftest import tiny_data as tiny_data
from tests.train.worlds import config_for, final_weights, run_of, same_weights
from tests.waiting import wait_until
from tsp import entrypoint
from tsp.config.codec import to_dict
from tsp.config.job import Answer
from tsp.config.jobs import JOBS, ProbeJob
from tsp.config.run import to_json
from tsp.errors import POD_EXIT_MEANINGS, DataError, StoreUnreachableError


@pytest.fixture(autouse=True)
def _own_signals():
    """The program sets up signals; put them back."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)


def env_for(tmp_path, config, **more):
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    return {"TSP_CONFIG": str(path), "TSP_NUM_THREADS": "1", **more}


def test_a_run_trains_and_its_log_is_in_the_store_from_the_first_line(tiny_data, tmp_path, capfd):
    config = config_for(tiny_data, tmp_path / "store", schedule__epochs=1)
    assert entrypoint.main([], env_for(tmp_path, config)) == 0
    run = run_of(config)
    log = run.store.read(run.log_key(1, 0)).decode()
    output, errors = capfd.readouterr()
    assert output == ""
    for words in ("1 rank on the CPU", "begins at epoch 0", "** Valid Epoch 0:"):
        assert words in log
        assert words in errors
    assert all(" rank 0 " in line for line in log.splitlines())
    assert run.read_outcome().state == "succeeded"


def refused(tmp_path, config, capfd, **env):
    code = entrypoint.main([], env_for(tmp_path, config, **env))
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    return code, errors.strip().splitlines()[-1]


def test_a_gvf_file_that_is_missing_is_refused_before_training(tiny_data, tmp_path, capfd):
    config = config_for(tiny_data, tmp_path / "store", data__valid__gvf="nowhere.h5")
    code, message = refused(tmp_path, config, capfd)
    assert code == 3
    assert "nowhere.h5" in message


def test_a_table_that_is_missing_is_refused_before_training(tiny_data, tmp_path, capfd):
    code, message = refused(tmp_path, config_for(tiny_data, tmp_path / "store", data__valid__csv="no.csv"), capfd)
    assert code == 3
    assert "no.csv" in message


def test_a_data_folder_that_is_missing_is_refused(tmp_path, capfd):
    code, message = refused(tmp_path, config_for(tmp_path / "nothing", tmp_path / "store"), capfd)
    assert code == 2
    assert "--data" in message


def test_a_store_that_cannot_be_written_is_refused(tiny_data, tmp_path, capfd):
    blocked = tmp_path / "file"
    blocked.write_text("")
    code, message = refused(tmp_path, config_for(tiny_data, blocked / "store"), capfd)
    assert code == 5
    assert str(blocked) in message


def test_a_store_that_does_not_answer_is_tried_again_by_the_operator(monkeypatch, tmp_path, tiny_data):
    def unreachable(*_, **__):
        raise StoreUnreachableError("no answer")

    monkeypatch.setattr("tsp.train.attempt.open_store", unreachable)
    assert entrypoint.main([], env_for(tmp_path, config_for(tiny_data, tmp_path))) == 151


@pytest.mark.parametrize(
    ("env", "words"),
    [({"TSP_NUM_THREADS": "many"}, "TSP_NUM_THREADS"), ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK")],
)
def test_a_bad_environment_is_refused_by_name(tiny_data, tmp_path, capfd, env, words):
    code, message = refused(tmp_path, config_for(tiny_data, tmp_path / "store"), capfd, **env)
    assert code == 2
    assert words in message


@pytest.mark.parametrize("text", [None, "no json", '{"name": "run"}'])
def test_a_configuration_that_is_missing_or_broken_is_refused(tmp_path, capfd, text):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    assert entrypoint.main([], {"TSP_CONFIG": str(path)}) == 2
    assert str(path) in capfd.readouterr().err


def test_an_error_shows_its_traceback_only_when_asked(tmp_path, capfd):
    assert entrypoint.main(["-v"], {"TSP_CONFIG": str(tmp_path / "none.json")}) == 2
    assert "Traceback" in capfd.readouterr().err
    assert entrypoint.main([], {"TSP_CONFIG": str(tmp_path / "none.json"), "TSP_VERBOSE": "1"}) == 2
    assert "Traceback" in capfd.readouterr().err


def test_a_bug_shows_its_traceback_and_ends_for_good(monkeypatch, tmp_path, tiny_data, capfd):
    monkeypatch.setattr("tsp.train.attempt.choose_device", lambda rank: 1 / 0)
    config = config_for(tiny_data, tmp_path / "store")
    assert entrypoint.main([], env_for(tmp_path, config)) == 1
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert run_of(config).read_outcome().exit_code == 1


@pytest.mark.parametrize("kind", JOBS)
def test_every_kind_of_job_has_its_function(kind):
    module, _, name = JOBS[kind].function.partition(":")
    function = getattr(importlib.import_module(module), name)
    assert typing.get_type_hints(function) == {"job": JOBS[kind], "return": Answer}


@pytest.fixture
def job_module(monkeypatch):
    """A job that prints, and answers with what it was asked."""
    import types

    module = types.ModuleType("fake_job")
    sys.modules["fake_job"] = module
    for kind in ("extract", "probe"):
        monkeypatch.setattr(JOBS[kind], "function", "fake_job:run")

    def run(job):
        print("narration of a library")
        return Answer(facts={"asked": to_dict(job)}, exit_code=3 if job.workers == 7 else 0)

    module.run = run
    yield module
    del sys.modules["fake_job"]


def do_job(monkeypatch, kind, job, env=None):
    monkeypatch.setattr(sys, "stdin", io.StringIO(job if isinstance(job, str) else json.dumps(job)))
    return entrypoint.main([kind], env or {})


def test_a_jobs_answer_is_all_that_reaches_standard_output(monkeypatch, job_module, capfd):
    assert do_job(monkeypatch, "probe", {"videos": "here"}) == 0
    output, errors = capfd.readouterr()
    assert json.loads(output) == {"rows": [], "asked": to_dict(ProbeJob(videos="here"))}
    assert "narration of a library" in errors


def test_a_job_can_answer_and_end_with_an_exit_code(monkeypatch, job_module, capfd):
    assert do_job(monkeypatch, "probe", {"videos": "here", "workers": 7}) == 3
    assert json.loads(capfd.readouterr().out)["asked"]["workers"] == 7


def test_a_jobs_error_becomes_its_exit_code(monkeypatch, job_module, capfd):
    def fail(job):
        raise DataError("v_1.mp4 is broken")

    job_module.run = fail
    assert do_job(monkeypatch, "probe", PROBE) == 3
    output, errors = capfd.readouterr()
    assert output == ""
    assert "v_1.mp4 is broken" in errors


@pytest.mark.parametrize("text", ["", "[1]", "{", "{}", '{"videos": "here", "shard": 1}'])
def test_a_job_that_is_no_json_mapping_is_refused(monkeypatch, job_module, capfd, text):
    assert do_job(monkeypatch, "probe", text) == 2


INDEXED = {"JOB_COMPLETION_INDEX": "2", "TSP_NUM_SHARDS": "4"}
PROBE = {"videos": "here"}
EXTRACT = {"checkpoint": "c.pth", "videos": "v", "metadata": "m.csv", "out": "o.h5"}


def test_a_job_in_an_indexed_pod_gets_its_shard(monkeypatch, job_module, capfd):
    assert do_job(monkeypatch, "extract", EXTRACT, INDEXED) == 0
    asked = json.loads(capfd.readouterr().out)["asked"]
    assert (asked["shards"], asked["shard"]) == (4, 2)


def test_a_job_that_is_alone_narrates_for_a_terminal(monkeypatch, job_module, capfd):
    module_run = job_module.run
    job_module.run = lambda job: logging.getLogger("tsp.fake").info("half done") or module_run(job)
    assert do_job(monkeypatch, "probe", PROBE) == 0
    assert "INFO half done" in capfd.readouterr().err.splitlines()


def test_the_log_of_an_indexed_job_says_which_shard_wrote_it(monkeypatch, job_module, capfd):
    assert do_job(monkeypatch, "probe", "[]", INDEXED) == 2
    assert " rank 2 ERROR " in capfd.readouterr().err


@pytest.mark.parametrize(("kind", "job", "threads"), [("extract", EXTRACT, 1), ("probe", PROBE, 3)])
def test_a_job_that_computes_takes_as_many_threads_as_it_is_given(monkeypatch, job_module, capfd, kind, job, threads):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert do_job(monkeypatch, kind, job, {"TSP_NUM_THREADS": "1"}) == 0
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("is_pod", [True, False])
def test_a_job_that_is_told_to_end_does_so_at_once_with_the_processes_it_started(tmp_path, monkeypatch, is_pod):
    """As the first process of a container, which hears no signal that it does not ask for."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1" if is_pod else "")
    (tmp_path / "slow_job.py").write_text(
        "import concurrent.futures, multiprocessing, os, time\n"
        "from pathlib import Path\n"
        "def work(folder):\n"
        "    Path(folder, 'pid').write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "def run(job):\n"
        "    context = multiprocessing.get_context('forkserver')\n"
        "    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:\n"
        "        pool.submit(work, job.videos).result()\n"
    )
    program = (
        "import sys\n"
        "from tsp import entrypoint\n"
        "from tsp.config.jobs import ProbeJob\n"
        "ProbeJob.function = 'slow_job:run'\n"
        "if __name__ == '__main__':\n"
        "    entrypoint._end(entrypoint.main(['probe']))\n"
    )
    (tmp_path / "program.py").write_text(program)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdin.write(json.dumps({"videos": str(tmp_path)}))
    process.stdin.close()
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text(), "the job's process begins")
    worker = int(pid.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=600) == 143
    assert (process.stdout.read(), "the same command, continues" in process.stderr.read()) == ("", is_pod)
    wait_until(lambda: _state_of(worker) in "ZX", "no process of the job outlives it")


def _state_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def test_every_exit_code_of_a_pod_is_documented():
    from tsp import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TspError)]
    codes = {errors.exit_code_of(kind("")) for kind in kinds}
    assert codes - {4, 102} <= set(POD_EXIT_MEANINGS)


def start_program(tmp_path, config):
    return subprocess.Popen(
        [sys.executable, "-m", "tsp.entrypoint"],
        env={**os.environ, **env_for(tmp_path, config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow(seconds=10)
def test_sigterm_saves_the_state_and_ends_with_143(tiny_data, tmp_path):
    changes = {"schedule__epochs": 2, "clips__per_segment": 8, "data__workers": 1}
    straight = config_for(tiny_data, tmp_path / "straight", **changes)
    assert entrypoint.main([], env_for(tmp_path, straight)) == 0
    config = config_for(tiny_data, tmp_path / "store", **changes)
    process = start_program(tmp_path, config)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "begins at epoch 0" in line:
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            break
    lines += process.stdout.readlines()
    assert process.wait() == 143, "".join(lines)
    assert "SIGTERM" in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert entrypoint.main([], env_for(tmp_path, config)) == 0
    assert same_weights(final_weights(run_of(config), 1), final_weights(run_of(straight), 1))


def hears_sigterm(pid):
    """Whether a process has a handler for SIGTERM, by the kernel's account."""
    with open(f"/proc/{pid}/status") as status:
        (mask,) = [line.split()[1] for line in status if line.startswith("SigCgt")]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("arguments", [["tsp.entrypoint"], ["tsp.entrypoint", "extract"], ["tsp.store.check", "{}"]])
def test_every_kind_of_pod_hears_sigterm_before_anything_heavy_is_imported(tiny_data, tmp_path, arguments):
    environment = {**os.environ, **env_for(tmp_path, config_for(tiny_data, tmp_path / "store"))}
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        while not hears_sigterm(process.pid):
            assert process.poll() is None, "it ended before it heard signals"
        with open(f"/proc/{process.pid}/maps") as maps:
            loaded = maps.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=600) == 143
    finally:
        process.kill()
        process.communicate()
    assert "libtorch" not in loaded
    assert "_ssl" not in loaded


LOOK_AT_TORCH = """
import json, os, sys
class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(json.dumps({name: value for name, value in os.environ.items() if name.startswith("TORCH_")}))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Look())
from tsp import entrypoint
entrypoint.main([], {"TSP_CONFIG": sys.argv[1]})
"""


@pytest.mark.parametrize("own", [{}, {"TORCH_DIST_USE_NCCL2": "1"}])
def test_torch_is_told_not_to_abort_a_rank_before_it_is_imported_and_a_pod_may_say_otherwise(tmp_path, own):
    path = tmp_path / "config.json"
    path.write_text(to_json(config_for(tmp_path, tmp_path / "store")))
    env = {key: value for key, value in os.environ.items() if not key.startswith("TORCH_")}
    command = [sys.executable, "-c", LOOK_AT_TORCH, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**env, **own})
    assert json.loads(done.stdout) == {**entrypoint.TORCH_ENVIRONMENT, **own}
    assert entrypoint.TORCH_ENVIRONMENT["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "0"
    assert entrypoint.TORCH_ENVIRONMENT["TORCH_DIST_USE_NCCL2"] == "0"


def test_torch_knows_the_variables_that_keep_nccl_from_aborting():
    import torch

    folder = Path(torch.__file__).parent
    header = (folder / "include/torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp").read_text()
    chooser = (folder / "distributed/distributed_c10d.py").read_text()
    for name in entrypoint.TORCH_ENVIRONMENT:
        if name.startswith("TORCH_NCCL"):
            assert f'"{name}"' in header
    assert 'os.environ.get("TORCH_DIST_USE_NCCL2") == "0"' in chooser


CTRL_C_IN_IMPORTS = """
import os, runpy, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "tsp.config.cards":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
runpy.run_module("tsp.entrypoint", run_name="__main__")
"""


def test_ctrl_c_ends_a_job_without_a_traceback_while_it_begins():
    done = subprocess.run([sys.executable, "-c", CTRL_C_IN_IMPORTS], stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_ctrl_c_ends_a_job_without_a_traceback(monkeypatch, job_module, capfd):
    """The command line gets Ctrl-C as well, and says what happened."""

    def interrupted(job):
        raise KeyboardInterrupt

    job_module.run = interrupted
    assert do_job(monkeypatch, "probe", {"videos": "here"}) == 130
    assert "Traceback" not in "".join(capfd.readouterr())
