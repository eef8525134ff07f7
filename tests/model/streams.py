"""Streams of a GPU that is not there: operations run on the CPU, and a read that could race with a write fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tsp.model.side_stream import SideStream


class FakeStream:
    """A stream by name; knows up to which operation it has waited for others."""

    def __init__(self, races: Races, name: str) -> None:
        self.races, self.name = races, name
        self.waited_for: dict[str, int] = {}

    def wait_stream(self, other: FakeStream) -> None:
        self.waited_for[other.name] = self.races.count


class Races(TorchDispatchMode):
    """Notes on which stream memory was written, and refuses to read it on one that has not waited for that."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.main, self.side = FakeStream(self, "main"), FakeStream(self, "side")
        self.current = self.main
        self.on_side = 0
        """Operations on the side stream."""
        self._written: dict[int, tuple[str, int]] = {}
        self._recorded: set[tuple[int, str]] = set()
        self._kept: list[torch.UntypedStorage] = []
        """All memory written: what is freed could come back under the same address."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.is_view:
            return function(*args, **(kwargs or {}))
        self.count += 1
        self.on_side += self.current is self.side
        for tensor in _tensors((args, kwargs)):
            self._check(function, tensor)
        result = function(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._kept.append(tensor.untyped_storage())
            self._written[_memory(tensor)] = self.current.name, self.count
            self._recorded.discard((_memory(tensor), self.current.name))
        return result

    def _check(self, function: object, tensor: torch.Tensor) -> None:
        name, count = self._written.get(_memory(tensor), (self.current.name, 0))
        if name == self.current.name:
            return
        where = f"{function} on the {self.current.name} stream reads what the {name} stream wrote"
        assert self.current.waited_for.get(name, -1) >= count, f"{where} before it has waited for that"
        assert (_memory(tensor), self.current.name) in self._recorded, f"{where}, whose memory may be reused meanwhile"

    def forget(self) -> None:
        """What was written so far is the host's."""
        self._written.clear()

    def record(self, tensor: torch.Tensor, stream: FakeStream) -> None:
        self._recorded.add((_memory(tensor), stream.name))

    @contextmanager
    def on(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> Iterator[Races]:
    """Streams that every ``SideStream`` of the test uses, whatever its device."""
    found = Races()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: found.side)
    monkeypatch.setattr(torch.cuda, "stream", found.on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: found.current)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: found.record(tensor, stream))
    plain = SideStream.__init__
    monkeypatch.setattr(SideStream, "__init__", lambda self, device: plain(self, torch.device("cuda", 0)))
    with found:
        yield found
