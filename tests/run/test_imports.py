"""What ``tsp.run`` costs before it is used: ``tspctl --help`` has 0.2 seconds in all."""

import subprocess
import sys


def test_the_public_modules_load_neither_boto3_nor_http_nor_torch() -> None:
    modules = "tsp.run.run, tsp.run.store, tsp.run.objects, tsp.run.records, tsp.run.weights, tsp.run.uploader"
    heavy = "{'boto3', 'botocore', 'urllib.request', 'http.client', 'ssl', 'torch', 'numpy', 'asyncio'}"
    command = f"import sys, {modules}, tsp.run.logship; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_opening_a_store_loads_no_boto3_until_it_is_asked_something() -> None:
    command = (
        "import sys; from tsp.run.store import open_store; from tsp.run.config import StoreConfig;"
        "open_store(StoreConfig(uri='s3://bucket/x')); print('boto3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
