"""Bodies that come slowly are read to their end; those that stand still are given up."""

import threading

import pytest

from tsp.store.s3 import bodies


class ScriptedLooks:
    """In place of the event that a watch waits on: before each look it takes the next step of the script."""

    def __init__(self, watch, script):
        self.watch, self.script = watch, iter(script)

    def wait(self, _sec):
        step = next(self.script, None)
        if step == "moves":
            self.watch.moved()
        return step is None


@pytest.mark.parametrize(
    ("script", "is_stopped"),
    [
        (["moves", "moves", "moves"], False),
        (["moves"], False),
        (["stands"], False),
        (["stands", "moves"], False),
        (["stands", "moves", "moves"], False),
        (["stands", "stands"], True),
        (["moves", "stands", "moves"], True),
    ],
)
def test_a_body_is_given_up_only_if_nothing_came_between_two_looks(monkeypatch, script, is_stopped):
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    stopped = []
    watch = bodies._Watch(lambda: stopped.append(True))
    watch._ended = ScriptedLooks(watch, script)
    watch._look()
    assert bool(stopped) == is_stopped
