"""Processes and threads that run one at a time, in an order drawn from a seed, by a clock that nobody waits for.

Each simulated thread is a real one that holds the baton or waits for it, so the code under test is the real code. It
passes the baton on wherever it would wait for something: a request, a condition, a sleep. There its process may die.
"""

from __future__ import annotations

import _thread
import random
import threading
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """The process is gone; nothing it does from here on has an effect."""


class HangError(AssertionError):
    """Everybody waits, and no time that passes changes that."""


def _taken_lock() -> threading.Lock:
    """A plain lock serves as a baton: one thread waits for it, another releases it."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Process:
    """A simulated process: its threads die with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.terminate = False
        """SIGTERM was sent."""
        self.exit_code: int | None = None
        self.on_terminate: Callable[[], None] | None = None
        """Its handler of SIGTERM; None: SIGTERM ends it."""
        self.error: BaseException | None = None


class Task:
    """One simulated thread."""

    def __init__(self, world: World, process: Process, target: Callable[[], object]) -> None:
        self.world, self.process, self.target = world, process, target
        self.baton = _taken_lock()
        self.until: float | None = 0.0
        """When it goes on at the latest; None: when somebody says so."""
        self.waits_for: object = None
        self.done = False
        world.tasks.append(self)
        # Not threading.Thread, whose start waits for the thread.
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        self.baton.acquire()
        try:
            if not self.process.dead:
                self.target()
        except Killed:
            pass
        except BaseException as error:
            self.process.error = error
        finally:
            self.done = True
            self.world.tasks.remove(self)
            self.world.pass_on()


class World:
    """All that is simulated, from one seed. Who waits picks the next and hands the baton over directly."""

    def __init__(self, seed: int, *, max_turns: int = 20_000) -> None:
        self.random = random.Random(seed)
        self.now = 1_700_000_000.0
        self.baton = _taken_lock()
        """Of ``run``, which waits for the end."""
        self.tasks: list[Task] = []
        self.current: Task | None = None
        self.turns, self.max_turns = 0, max_turns
        self.before_turn: Callable[[], None] = lambda: None
        self._failure: BaseException | None = None

    def start(self, process: Process, target: Callable[[], object]) -> Task:
        """A thread of a process."""
        return Task(self, process, target)

    def run(self) -> None:
        """Until every thread has ended. Raises: HangError, and what ``before_turn`` raises."""
        self.pass_on()
        self.baton.acquire()
        self.current = None
        if self._failure is not None:
            raise self._failure

    def pass_on(self) -> Task | None:
        """Let the next thread go on. Returns: the thread that has the baton now, None if that is ``run``."""
        try:
            task = self._turn() if self.tasks else None
        except BaseException as error:
            self._failure, task = error, None
        before, self.current = self.current, task
        if task is None:
            self.baton.release()
        elif task is not before or before.done:
            task.baton.release()
        return task

    def _turn(self) -> Task:
        self.turns += 1
        if self.turns > self.max_turns:
            raise HangError(f"not ended after {self.max_turns} turns: {self._waiting()}")
        self.before_turn()
        task = self._next()
        task.waits_for, task.until = None, 0.0
        return task

    def pause(self, until: float | None = 0.0, waits_for: object = None) -> None:
        """Let others go on. Raises: Killed if the process died meanwhile."""
        task = self.current
        assert task is not None, "only simulated threads may wait"
        if task.process.dead:
            raise Killed
        task.until, task.waits_for = until, waits_for
        if self.pass_on() is not task:
            task.baton.acquire()
        if task.process.dead:
            raise Killed

    def end(self) -> None:
        """Let all threads that are left end, whatever they wait for."""
        self.before_turn, self.turns, self._failure = lambda: None, 0, None
        for task in self.tasks:
            task.process.dead = True
        if self.tasks:
            self.run()

    def wake(self, what: object) -> None:
        """Let those go on who wait for it."""
        for task in self.tasks:
            if task.waits_for is what:
                task.until, task.waits_for = 0.0, None

    def kill(self, process: Process) -> None:
        """As SIGKILL does."""
        process.dead = True

    def _next(self) -> Task:
        ready = [
            task for task in self.tasks if task.process.dead or (task.until is not None and task.until <= self.now)
        ]
        if not ready:
            times = [task.until for task in self.tasks if task.until is not None]
            if not times:
                raise HangError(f"everybody waits: {self._waiting()}")
            self.now = min(times)
            ready = [task for task in self.tasks if _is_due(task, self.now)]
        return self.random.choice(ready)

    def _waiting(self) -> str:
        return ", ".join(f"{task.process.name}: {task.waits_for}" for task in self.tasks)


def _is_due(task: Task, now: float) -> bool:
    return task.until is not None and task.until <= now


class Condition:
    """``threading.Condition``. Nobody waits for anything while holding one, so the lock itself is free."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self) -> Condition:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, timeout: float | None = None) -> None:
        self._world.pause(None if timeout is None else self._world.now + max(timeout, 0.0), self)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        end = None if timeout is None else self._world.now + timeout
        while not predicate() and (end is None or self._world.now < end):
            self.wait(None if end is None else end - self._world.now)
        return predicate()

    def notify_all(self) -> None:
        self._world.wake(self)


class Event(Condition):
    """``threading.Event``."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def clear(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        self.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            super().wait(timeout)
        return self._is_set


class Threads:
    """Stands in for the module ``threading``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.Lock = threading.Lock

    def Condition(self) -> Condition:  # noqa: N802
        return Condition(self._world)

    def Event(self) -> Event:  # noqa: N802
        return Event(self._world)

    def Thread(self, *, target: Callable[..., object], args: tuple[Any, ...] = (), **_: Any) -> _Thread:  # noqa: N802
        return _Thread(self._world, lambda: target(*args))


class _Thread:
    def __init__(self, world: World, target: Callable[[], object]) -> None:
        self._world, self._target = world, target
        self._task: Task | None = None

    def start(self) -> None:
        assert self._world.current is not None
        self._task = self._world.start(self._world.current.process, self._target)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.done

    def join(self, timeout: float | None = None) -> None:
        while self.is_alive():
            self._world.pause(self._world.now + 0.01)


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self._world.pause(self._world.now + seconds)


class InlinePool:
    """Stands in for ThreadPoolExecutor: each piece of work is done, with its own pauses, when it is handed over."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *args: Any) -> _Done:
        return _Done(work, args)

    def map(self, work: Callable[[Any], Any], items: Any) -> Any:
        return [work(item) for item in items]

    def shutdown(self, **_: Any) -> None:
        pass


class _Done:
    def __init__(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._error: Exception | None = None
        try:
            self._value = work(*args)
        except Exception as error:
            self._error = error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value
