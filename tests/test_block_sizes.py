"""Blocks, parts and buffers: none is so small that it costs time, or so large that it costs memory."""

from importlib import import_module

import pytest

SIZES = {
    "tsp.data.video.boxes": ["_MAX_INDEX_BYTES"],
    "tsp.data.video.claims": ["_ASF_HEADER_BYTES"],
    "tsp.data.video.matroska": ["_HEAD_BYTES"],
    "tsp.extract.raw_floats": ["BLOCK_BYTES"],
    "tsp.prepare.provenance": ["HEAD_BYTES", "_HASHED_BYTES"],
    "tsp.run.log_shipper": ["MAX_LOG_BYTES", "BYTES_PER_SEC"],
    "tsp.run.metrics": ["SEGMENT_BYTES", "SAMPLE_BYTES", "SAMPLED_BYTES"],
    "tsp.run.origins": ["MAX_READ_BYTES"],
    "tsp.run.pod_ranks": ["_MAX_LINE_BYTES"],
    "tsp.store.base": ["SMALL_BYTES", "DEFAULT_PART_BYTES"],
    "tsp.store.part": ["BLOCK_BYTES", "WRITE_BACK_BYTES"],
    "tsp.store.published": ["BLOCK_BYTES"],
    "tsp.store.transfer": ["BLOCK_BYTES", "RANGE_BYTES"],
    "tsp.store.s3.wire": ["PACE_BYTES", "_RECEIVE_BYTES", "_MAX_HEAD_BYTES", "_ONE_SEND_BYTES"],
    "k8s.pod_log": ["MAX_LINE_BYTES"],
}


@pytest.mark.parametrize("module", SIZES)
def test_blocks_are_whole_pages_that_divide_one_another(module):
    for name in SIZES[module]:
        size_bytes = getattr(import_module(module), name)
        assert isinstance(size_bytes, int), name
        assert 64 << 10 <= size_bytes <= 256 << 20, name
        assert size_bytes.bit_count() == 1, f"{name} is no power of two"
