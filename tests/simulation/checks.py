"""What must hold in the store after each change of it."""

from __future__ import annotations

import hashlib
import json

from tests.simulation.server import Server
from tests.simulation.training import ACCURACY, EPOCHS, RUN, ViolationError, require, weights_after
from tsp.run.records import EpochRecord, Outcome, Progress, StateMeta, load_record
from tsp.train.resume import Position


class Checks:
    """What must hold after each change of the store."""

    def __init__(self, server: Server, *, keeps_all: bool, two_writers: bool) -> None:
        self.server, self.keeps_all, self.two_writers = server, keeps_all, two_writers
        self.published: set[int] = set()
        self.states: dict[str, str] = {}
        self.violation: ViolationError | None = None

    def __call__(self, key: str) -> None:
        """Called with the key that changed."""
        name = key.removeprefix(f"team/{RUN}/")
        try:
            self._check_epochs()
            if name.startswith("state/"):
                self._check_states()
            if name == "progress.json":
                self._check_outcome()
        except ViolationError as error:
            # Raised in the thread that is being simulated, it would only be one more failure of that.
            self.violation = self.violation or error

    def _data(self, name: str) -> bytes | None:
        found = self.server.objects.get(f"team/{RUN}/{name}")
        return None if found is None else found.data

    def _check_epochs(self) -> None:
        for epoch in range(EPOCHS):
            raw, data = self._data(f"epoch_{epoch}.json"), self._data(f"epoch_{epoch}.pth")
            if data is not None:
                content = json.loads(data)
                require(content["value"] == weights_after(epoch), f"epoch {epoch} holds other weights")
            if raw is None:
                require(epoch not in self.published, f"the record of epoch {epoch}, once published, is gone")
                continue
            record = load_record(EpochRecord, raw, where="record")
            self.published.add(epoch)
            require(data is not None or not self.keeps_all, f"epoch {epoch} is published, its checkpoint is gone")
            best = max(self.published, key=lambda each: ACCURACY[each])
            require(data is not None or epoch not in (best, max(self.published)), f"epoch {epoch} was thinned out")
            if data is not None:
                require(hashlib.sha256(data).hexdigest() == record.sha256, f"epoch {epoch} is not its record's")

    def _check_outcome(self) -> None:
        progress, outcome = self._data("progress.json"), self._data("outcome.json")
        if progress is not None and outcome is not None and not self.two_writers:
            of_progress = load_record(Progress, progress, where="progress").attempt
            of_outcome = load_record(Outcome, outcome, where="outcome").attempt
            require(of_progress <= of_outcome, "a run that goes on still shows how it ended")

    def _check_states(self) -> None:
        raw = self._data("state/latest.json")
        if raw is None or self.two_writers:
            return
        meta = load_record(StateMeta, raw, where="pointer")
        data = self._data(meta.key)
        require(data is not None, f"the newest state {meta.key} is gone")
        content = json.loads(data or b"")
        position = Position(**content["progress"])
        require(content["value"] == weights_after(position.epoch, position.step), f"{meta.key} holds other weights")
