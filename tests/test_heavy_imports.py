"""Programs import without the garbage collector, and have it again afterwards: training makes garbage for days."""

import gc
import importlib
import os
import subprocess
import sys

import pytest

from tests.train.worlds import config_for
from tsp.config.run import to_json
from tsp.errors import ConfigError
from tsp.imports import heavy_imports


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_even_after_an_import_that_fails(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        with heavy_imports():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
        with pytest.raises(ImportError), heavy_imports():
            importlib.import_module("tsp.no_such_module")
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


TRAINS = """
import gc, sys
from tsp import entrypoint
from tsp.errors import ConfigError
from tsp.store import open

def importing(event, arguments):
    if event == "import" and arguments[0] in ("torch", "torch._dynamo"):
        print(arguments[0], gc.isenabled())

def begin(config):
    print("begins", gc.isenabled(), gc.get_freeze_count() > 200_000)
    raise ConfigError("that is enough")

sys.addaudithook(importing)
open.open_store = begin
sys.exit(entrypoint.main([]))
"""
"""A rank as far as the first thing that it does once all is imported."""


def test_a_rank_imports_torch_without_the_collector_and_trains_with_it(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(to_json(config_for(tmp_path, tmp_path / "store")))
    done = subprocess.run(
        [sys.executable, "-c", TRAINS], env={**os.environ, "TSP_CONFIG": str(config)}, capture_output=True, text=True
    )
    assert done.returncode == ConfigError.exit_code, done.stderr
    imported, begins = set(done.stdout.splitlines()[:-1]), done.stdout.splitlines()[-1]
    assert imported == {"torch False", "torch._dynamo False"}
    assert begins == "begins True True"


def test_a_child_of_the_fork_server_collects_garbage_but_not_what_the_server_imported():
    program = (
        "import gc\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from tsp.data.child_processes import forkserver\n"
        "with ProcessPoolExecutor(1, mp_context=forkserver('tsp.data.tables')) as pool:\n"
        "    print(pool.submit(gc.isenabled).result(), pool.submit(gc.get_freeze_count).result() > 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
