"""Change operators and constants of the core one at a time, and report the mutants that no test detects.

cosmic-ray defines and makes the mutants; its own runner has one test command for all files and no sampling across
packages. Mutants run in a private copy of the checkout; those that tests/mutants.md lists as equivalent are left out.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.mutants.draw import Mutant, draw
from scripts.mutants.judge import is_noticed

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tsp/config", "tsp/store", "tsp/run", "tsp/data", "tsp/train", "tsp/extract", "tsp/prepare", "k8s")


def equivalents() -> set[str]:
    """Keys of the mutants that no test can notice."""
    found = re.findall(r"^\| `(.+?)` \|", (ROOT / "tests/mutants.md").read_text(), flags=re.MULTILINE)
    return {key.replace("\\|", "|") for key in found}


def copy_checkout(target: Path) -> None:
    """Copy tracked and new files of the checkout, so that nothing that runs from it meets a mutant."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    if (ROOT.parent / "shared").is_dir():
        (target.parent / "shared").symlink_to(ROOT.parent / "shared")


def show(mutant: Mutant) -> None:
    """The change as a diff of its line."""
    lines = difflib.ndiff([mutant.before], [mutant.after])
    print(f"not noticed: {mutant.path}:{mutant.number}", *(line for line in lines if line[0] != "?"), sep="\n  ")


def main() -> None:
    """Exits with 1 if fewer than 95 % are noticed."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--number", type=int, default=80, help="mutants to draw")
    parser.add_argument("--skip", type=int, default=0, help="how many of them were judged before")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("packages", nargs="*", default=list(PACKAGES))
    options = parser.parse_args()
    known, noticed, missed, red = equivalents(), 0, 0, set[str]()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        copy_checkout(copy)
        for mutant in draw(copy, options.packages, options.number, options.seed)[options.skip :]:
            began_sec = time.monotonic()
            if mutant.key in known:
                print(f"equivalent: {mutant.key}")
            elif is_noticed(mutant, copy, red):
                noticed += 1
                print(f"noticed after {time.monotonic() - began_sec:.0f} s: {mutant.key}")
            else:
                missed += 1
                show(mutant)
            sys.stdout.flush()
    print(f"{noticed} of {noticed + missed} mutants noticed")
    sys.exit(noticed < 0.95 * (noticed + missed))


if __name__ == "__main__":
    main()
