"""What ``tsp.run`` costs before it is used: ``tspctl --help`` has 0.2 seconds in all."""

import re
import subprocess
import sys
from pathlib import Path


def test_the_public_modules_load_neither_boto3_nor_http_nor_torch() -> None:
    modules = (
        "tsp.run.stored_run, tsp.store.base, tsp.store.fetch, tsp.run.records, tsp.config.backbones, tsp.run.uploader, "
        "tsp.store.web, tsp.store.published, tsp.store.check"
    )
    heavy = "{'boto3', 'botocore', 'urllib.request', 'http.client', 'ssl', 'torch', 'numpy', 'asyncio'}"
    command = f"import sys, {modules}, tsp.run.log_shipper; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_opening_a_store_loads_no_boto3_until_it_is_asked_something() -> None:
    command = (
        "import sys; from tsp.store.open import open_store; from tsp.config.store import StoreConfig;"
        "open_store(StoreConfig(uri='s3://bucket/x')); print('boto3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_only_the_package_of_s3_imports_boto3() -> None:
    root = Path(__file__).resolve().parents[2]
    importers = {
        str(path.relative_to(root))
        for package in ("cli", "k8s", "tsp")
        for path in (root / package).rglob("*.py")
        if re.search(r"^\s*(import|from) (boto3|botocore)\b", path.read_text(), flags=re.MULTILINE)
    }
    assert {Path(importer).parent for importer in importers} == {Path("tsp/store/s3")}
