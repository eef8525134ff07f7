"""Logs that are read from a store."""

import tracemalloc

from cli.backends.base import LogQuery
from cli.backends.log_lines import CHUNK_BYTES, read_lines
from cli.runs.logs import StoreLogs
from tests.fault_proxy import FaultProxy
from tests.s3_servers import S3Server
from tests.stores import QUICK
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store

LINE = b"2026-01-01T00:00:01Z a long line of a long log" + 35 * b" and more" + b"\n"


def test_logs_in_s3_are_read_by_ranges_and_a_tail_from_the_end(s3_server: S3Server) -> None:
    with FaultProxy(s3_server.endpoint_url) as proxy:
        config = s3_server.config(f"logs/{s3_server.name}", endpoint_url=proxy.url)
        run = StoredRun(open_store(config, retry=QUICK), "first-run")
        num_lines = 20 * CHUNK_BYTES // len(LINE)
        run.store.write(run.log_key(1, 0), LINE * num_lines)
        proxy.requests.clear()
        tracemalloc.start()
        try:
            assert sum(1 for _ in read_lines(StoreLogs(run), LogQuery())) == num_lines
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # A chunk as bytes, as lines, as it is received, and once more in the proxy, which runs in this process.
        assert peak_bytes < 10 * CHUNK_BYTES
        proxy.requests.clear()
        assert len(list(read_lines(StoreLogs(run), LogQuery(tail=2)))) == 2
        reads = [path for method, path in proxy.requests if method == "GET" and path.endswith("rank-0.log")]
        assert len(reads) <= 3
