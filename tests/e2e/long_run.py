"""A run that lives through several tests, which disturb it one after the other."""

from subprocess import Popen

from tests.e2e.conftest import what_happened
from tests.e2e.kubectl import Object, wait_for
from tests.e2e.tspctl import Tspctl


class LongRun:
    """A run of two ranks on the demo's data, and what has happened to it so far.

    Args: epochs, more than the tests need; pods_label, which the controller gives its pods; options, of ``submit``.
    """

    def __init__(self, tspctl: Tspctl, name: str, *options: str, epochs: int, pods_label: str) -> None:
        self.tspctl, self.name, self.num_epochs, self.pods_label = tspctl, name, epochs, pods_label
        tspctl.run(
            "submit", "--dataset", "demo", "--gpus", "2", "--name", name, "--epochs", str(epochs),
            "--clips-per-segment", "2", "--set", "state_every_sec=1", *options,
        )  # fmt: skip
        self.following: Popen[str] = tspctl.start("logs", "-f", "--timestamps", name)
        self.wait_for_epochs(1)

    def epochs(self) -> int:
        """Epochs in the store."""
        return sum(key.startswith("epoch_") and key.endswith(".json") for key in self.tspctl.keys(self.name))

    def attempt(self) -> int:
        """The attempt that wrote progress last."""
        return int(self.tspctl.stored(self.name, "progress.json")["attempt"])

    def wait_for_epochs(self, count: int) -> None:
        """Until that many are in the store, or all."""
        wait_for(
            lambda: self.epochs() >= min(count, self.num_epochs),
            what=f"{count} epochs",
            describe=lambda: what_happened(self.tspctl.kubectl),
        )

    def pods(self) -> list[Object]:
        """Its pods."""
        return self.tspctl.kubectl.items("pods", "-l", f"{self.pods_label}={self.name}")
