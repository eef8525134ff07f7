"""Working ahead in threads: in order, and no further than is needed."""

import threading

import pytest

from tsp.extract.ahead import map_ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    assert list(map_ahead(lambda number: number * number, range(20), threads=threads)) == [n * n for n in range(20)]
    assert list(map_ahead(str, [], threads=threads)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_items_are_taken_than_there_are_threads_and_one(threads: int) -> None:
    taken: list[int] = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    results = map_ahead(str, items(), threads=threads)
    assert (next(results), len(taken)) == ("0", threads + 1)
    assert (next(results), len(taken)) == ("1", threads + 2)


def test_several_items_are_worked_on_at_once() -> None:
    both = threading.Barrier(2, timeout=600)
    assert sorted(map_ahead(lambda _: both.wait(), range(2), threads=2)) == [0, 1]


def test_an_error_ends_it_at_its_item() -> None:
    results = map_ahead(lambda number: 6 // (2 - number), range(9), threads=2)
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
