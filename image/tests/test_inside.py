# ruff: noqa: D102
"""Run inside the image, as pods run: a numeric user, a read-only root, only /tmp to write. Standard library alone.

docker run --rm --read-only --tmpfs /tmp -v $PWD/image/tests:/tests:ro --entrypoint python IMAGE /tests/test_inside.py
"""

import contextlib
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import unittest
from pathlib import Path

ENTRYPOINT = [sys.executable, "-m", "tsp.entrypoint"]
IN_IMAGE = Path("/opt/tsp/bin/python").exists()


def job(kind, request, **more):
    """Run a job of the entrypoint; returns its answer."""
    done = subprocess.run([*ENTRYPOINT, kind], input=json.dumps(request), capture_output=True, text=True, **more)
    if done.returncode:
        raise AssertionError(f"{kind} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


class Image(unittest.TestCase):
    """What every pod relies on."""

    @unittest.skipUnless(IN_IMAGE, "only inside the image")
    def test_runs_as_a_numeric_user_that_is_not_root(self):
        assert os.getuid() != 0

    @unittest.skipUnless(IN_IMAGE, "only inside the image")
    def test_holds_no_installer_and_a_compiler_only_where_it_was_asked_for(self):
        for program in ("clang", "uv"):
            assert shutil.which(program) is None, program
        for program in ("gcc", "g++"):
            assert (shutil.which(program) is not None) == bool(os.environ.get("EXPECT_COMPILER")), program

    @unittest.skipUnless(os.environ.get("EXPECT_COMPILER"), "only in the image with a compiler")
    def test_torch_compiles(self):
        program = "import torch; print(torch.compile(lambda x: (x + 1).sum())(torch.ones(8)).item())"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "16.0", done.stderr[-2000:]

    @unittest.skipUnless(os.environ.get("EXPECT_COMPILER"), "only in the image with a compiler")
    def test_triton_can_build_its_launchers(self):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "launcher.c"
            source.write_text("#include <Python.h>\nint version(void) { return PY_MAJOR_VERSION; }\n")
            include = f"-I{sysconfig.get_path('include')}"
            command = ["gcc", str(source), "-O3", "-shared", "-fPIC", include, "-o", f"{folder}/launcher.so"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-2000:]

    @unittest.skipUnless(IN_IMAGE, "only inside the image")
    def test_the_code_cannot_be_changed_by_its_user(self):
        package = Path(importlib.import_module("tsp").__file__).parent
        assert not os.access(package, os.W_OK)

    def test_everything_that_is_needed_can_be_imported(self):
        for name in ("torch", "torchvision", "av", "h5py", "numpy", "boto3", "tsp.entrypoint", "tsp.store.check"):
            with self.subTest(name):
                importlib.import_module(name)

    def test_the_package_knows_its_version(self):
        assert re.search(r"^\d+\.\d+", importlib.metadata.version("tspctl"))

    def test_an_unreadable_configuration_is_permanent(self):
        done = subprocess.run(
            ENTRYPOINT, env={**os.environ, "TSP_CONFIG": "/nowhere"}, capture_output=True, check=False
        )
        assert done.returncode == 2


class Training(unittest.TestCase):
    """The demo: videos drawn, decoded, trained on; features of the result."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="image-test-"))
        cls.data = cls.folder / "data"
        job("demo", {"dest": str(cls.data), "num_train_videos": 2, "num_valid_videos": 1})

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def config(self, name, **values):
        """A request, as the chart writes it, for a training of a few steps."""
        request = {
            "name": name,
            "dataset": "demo",
            "method": "tac",
            "data": str(self.data),
            "store": {"uri": f"file://{self.folder}/store"},
            "set": {"schedule.epochs": 1, "schedule.warmup_epochs": 0, "schedule.milestones": [], **values},
        }
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"request": request}))
        environment = {"TSP_CONFIG": str(path), "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        return {**os.environ, **environment, "MASTER_PORT": "23456", "CUDA_VISIBLE_DEVICES": "", "TSP_NUM_THREADS": "1"}

    def test_an_epoch_is_trained_validated_and_stored_and_gives_features(self):
        done = subprocess.run(ENTRYPOINT, env=self.config("short"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        run = self.folder / "store" / "short"
        assert "Valid Epoch 0" in (run / "results.txt").read_text()
        assert (run / "epoch_0.pth").stat().st_size > 0

        videos, metadata = self.data / "train", self.folder / "metadata.csv"
        job("probe", {"videos": str(videos), "out": str(metadata)})
        out = self.folder / "features.h5"
        request = {"checkpoint": str(run / "epoch_0.pth"), "videos": str(videos), "metadata": str(metadata)}
        job("extract", {**request, "out": str(out), "workers": 0, "batch": 1})
        import h5py

        with h5py.File(out) as file:
            for name in file:
                assert file[name].shape[1] == 512
                assert file[name].dtype.name == "float32"

    def test_sigterm_saves_the_state_and_asks_to_be_restarted(self):
        environment = self.config("stopped", **{"schedule.epochs": 200, "state_every_sec": 600.0})
        epoch = self.folder / "store" / "stopped" / "epoch_0.json"
        process = subprocess.Popen(ENTRYPOINT, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 120
            while not epoch.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=120)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        assert process.returncode == 143, said[-2000:]
        assert (self.folder / "store" / "stopped" / "state" / "latest.json").exists(), said[-2000:]


if __name__ == "__main__":
    unittest.main()
