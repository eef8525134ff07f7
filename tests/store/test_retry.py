"""Pauses between tries double, up to a most, and jitter."""

import pytest

from tsp.store.retry import RetryPolicy


@pytest.mark.parametrize(("attempts", "pauses"), [(1, []), (2, [0.25]), (5, [0.25, 0.5, 1.0, 1.5])])
def test_pauses_double_up_to_the_longest_and_are_one_fewer_than_the_tries(monkeypatch, attempts, pauses):
    monkeypatch.setattr("tsp.store.retry.random.uniform", lambda low, high: high)
    policy = RetryPolicy(attempts=attempts, first_delay_sec=0.25, max_delay_sec=1.5)
    assert list(policy.delays_sec()) == pauses


def test_a_pause_is_up_to_a_quarter_shorter():
    delays = [next(RetryPolicy(first_delay_sec=1.0).delays_sec()) for _ in range(200)]
    assert 0.75 <= min(delays) < max(delays) <= 1.0


def test_a_server_that_refuses_at_once_is_asked_six_times_within_eight_seconds():
    delays = list(RetryPolicy().delays_sec())
    assert len(delays) == 5
    assert 5.8 <= sum(delays) <= 7.75
