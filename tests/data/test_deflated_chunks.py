"""Chunks of an H5 entry, laid out and damaged by hand."""

import os
import zlib

import numpy as np
import pytest

from tsp.data.deflated_chunks import Chunk, DeflatedChunks, _stored


def laid_out(path, values, chunk_shape, *, gap=0, deflated=True, shuffled=True):
    """A file with the chunks of an array, so many bytes apart, and where they lie."""
    chunks, data = [], b"head"
    for row in range(0, values.shape[0], chunk_shape[0]):
        for column in range(0, values.shape[1], chunk_shape[1]):
            whole = np.zeros(chunk_shape, "<f4")
            part = values[row : row + chunk_shape[0], column : column + chunk_shape[1]]
            whole[: part.shape[0], : part.shape[1]] = part
            raw = whole.tobytes()
            raw = np.frombuffer(raw, np.uint8).reshape(-1, 4).T.tobytes() if shuffled else raw
            raw = zlib.compress(raw) if deflated else raw
            chunks.append(Chunk((row, column), len(data), len(raw), shuffled, deflated))
            data += raw + bytes(gap)
    path.write_bytes(data)
    return chunks


VALUES = np.arange(7 * 10, dtype=np.float32).reshape(7, 10)


@pytest.mark.parametrize("chunk_shape", [(7, 10), (3, 10), (3, 4), (8, 16), (1, 1)])
@pytest.mark.parametrize("gap", [0, 1, 1000])
@pytest.mark.parametrize(("deflated", "shuffled"), [(True, True), (True, False), (False, False)])
def test_values_are_read_wherever_their_chunks_lie(tmp_path, chunk_shape, gap, deflated, shuffled):
    chunks = laid_out(tmp_path / "a", VALUES, chunk_shape, gap=gap, deflated=deflated, shuffled=shuffled)
    found = DeflatedChunks(tmp_path / "a", VALUES.shape, chunk_shape, chunks[::-1])
    np.testing.assert_array_equal(found.values(), VALUES)
    bands = [band.copy() for band in found.bands()]
    assert [len(band) for band in bands] == [min(chunk_shape[0], 7 - at) for at in range(0, 7, chunk_shape[0])]
    np.testing.assert_array_equal(np.concatenate(bands), VALUES)


@pytest.mark.parametrize("damage", ["a chunk less", "a chunk twice", "another place"])
def test_an_index_that_does_not_cover_the_entry_is_damaged(tmp_path, damage):
    chunks = laid_out(tmp_path / "a", VALUES, (3, 4))
    damaged = {
        "a chunk less": chunks[:-1],
        "a chunk twice": [*chunks, chunks[0]],
        "another place": [chunks[0]._replace(offset=(1, 0)), *chunks[1:]],
    }[damage]
    with pytest.raises(ValueError, match="its index of chunks is damaged"):
        DeflatedChunks(tmp_path / "a", VALUES.shape, (3, 4), damaged)


def test_a_chunk_that_cannot_be_inflated_or_has_another_length_is_named(tmp_path):
    chunks = laid_out(tmp_path / "a", VALUES, (3, 4), deflated=False, shuffled=False)
    for broken, message in (
        (chunks[4]._replace(is_deflated=True), r"the chunk at \[3, 4\] is damaged: it cannot be inflated"),
        (chunks[4]._replace(size_bytes=40), r"the chunk at \[3, 4\] is damaged: it contains 40 bytes"),
    ):
        found = DeflatedChunks(tmp_path / "a", VALUES.shape, (3, 4), [*chunks[:4], broken, *chunks[5:]])
        with pytest.raises(ValueError, match=message):
            found.values()


@pytest.mark.parametrize(("gap", "num_reads"), [(0, 1), (150, 1), (151, 3), (100_000, 3)])
def test_the_chunks_of_a_band_are_read_at_once_unless_more_than_half_of_that_is_something_else(
    tmp_path, monkeypatch, gap, num_reads
):
    """Three chunks of a hundred bytes: 300 of 600 bytes at the limit."""
    path, reads, pread = tmp_path / "a", [], os.pread
    path.write_bytes(bytes(1000) + b"".join(bytes([number]) * 100 + bytes(gap) for number in (1, 2, 3)))
    chunks = [Chunk((0, at), 1000 + at * (100 + gap), 100, False, False) for at in range(3)]
    monkeypatch.setattr(os, "pread", lambda *asked: reads.append(asked) or pread(*asked))
    with open(path, "rb") as file:
        assert list(_stored(file.fileno(), chunks)) == [bytes([number]) * 100 for number in (1, 2, 3)]
    assert len(reads) == num_reads
