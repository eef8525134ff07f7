import random
from pathlib import Path

import pytest

from tests.limits import files_of_at_most
from tsp.errors import StoreError
from tsp.store.sink import Sink


@pytest.mark.parametrize("seed", range(20))
def test_it_is_read_and_written_as_any_file(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with Sink(tmp_path / "sink") as sink, open(tmp_path / "plain", "w+b", buffering=0) as plain:
        for _ in range(30):
            number = chance.randrange(50)
            what, *values = chance.choice(
                [
                    ("write", bytes([number]) * number),
                    ("read", number),
                    ("seek", number),
                    ("seek", 0, 2),
                    ("truncate", number),
                    ("tell",),
                ]
            )
            assert getattr(sink, what)(*values) == getattr(plain, what)(*values)
    assert (tmp_path / "sink").read_bytes() == (tmp_path / "plain").read_bytes()


def test_a_refused_write_is_told_at_the_end_and_nothing_after_it_fails(tmp_path: Path) -> None:
    with files_of_at_most(10):
        sink = Sink(tmp_path / "sink")
        assert sink.write(b"0123456789") == 10
        sink.check()
        assert sink.write(b"abc") == 3
        assert (sink.truncate(100), sink.seek(0, 2), sink.write(b"abc")) == (100, 100, 3)
        for told in (sink.check, lambda: sink.__exit__(None, None, None)):
            with pytest.raises(StoreError, match=f"^{tmp_path}/sink would be larger"):
                told()
    assert sink.closed
    assert (tmp_path / "sink").read_bytes() == b"0123456789"


def test_another_error_is_not_hidden_by_a_refused_write(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with Sink(tmp_path / "sink") as sink:
            sink.write(b"abc")
            raise KeyError

    with files_of_at_most(0), pytest.raises(KeyError):
        write_and_fail()


def test_a_file_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"cannot use {tmp_path}/no/sink"):
        Sink(tmp_path / "no" / "sink")
