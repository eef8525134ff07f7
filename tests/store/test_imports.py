"""What stores load before they are used: boto3 takes longer than most commands, the shorter path needs none of it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_module_of_the_store_loads_boto3_or_http_when_it_is_imported() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "tsp" / "store").rglob("*.py"))
        if path.name != "__init__.py"
    ]
    assert "tsp.store.s3.failures" in modules
    heavy = "{'boto3', 'botocore', 'urllib.request', 'http.client', 'torch', 'numpy', 'asyncio'}"
    command = f"import sys, {', '.join(modules)}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
