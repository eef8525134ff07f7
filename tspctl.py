"""The program ``tspctl``: checks that the packages it imports are its own, then calls cli.main.

Its packages are called ``cli``, ``k8s`` and ``tsp``, and other distributions install packages called ``cli`` or
``k8s``. In an environment of its own (uv tool, pipx, the image) there is no conflict. In a shared one the package
that was installed last wins, and imports of the other fail with misleading errors.
"""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("cli", "k8s", "tsp")
_HERE = Path(__file__).resolve().parent


def main() -> NoReturn:
    """Run ``tspctl`` and exit; exit code 2 if another distribution's packages are in the way."""
    try:
        run = _program()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)  # a shell ends its script only if the program died of it
        raise
    run()


def _program() -> Callable[[], NoReturn]:
    if foreign := foreign_package():
        sys.stderr.write(
            f"error: {foreign} belongs to another distribution that uses the same package name, so tspctl cannot "
            "run in this environment: install it in an environment of its own (uv tool install tspctl, or pipx install "
            "tspctl)\n"
        )
        sys.exit(2)
    from cli.main import program

    return program


def foreign_package() -> str | None:
    """Where the first package lies that is not ours; None if all are. Runs only the packages' own ``__init__``."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        found = getattr(package, "__file__", None)
        if (
            getattr(package, "DISTRIBUTION", None) != "tspctl"
            or found is None
            or Path(found).resolve().parents[1] != _HERE
        ):
            return found or f"the package {name}"
    return None


if __name__ == "__main__":
    main()
