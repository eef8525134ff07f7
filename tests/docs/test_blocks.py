"""Every console block has somebody who runs it, or says in the page's source why nobody does."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import CLUSTER, ONE_MACHINE, PAGES, ROOT, blocks, blocks_of, missing


def test_every_block_is_run_or_says_why_not(capsys):
    unrun = []
    for block in blocks():
        if block.mark.startswith("not run"):
            reason = re.fullmatch(r"not run: (.{10,})", block.mark, re.DOTALL)
            assert reason, f"{block}: <!-- not run: REASON -->"
            unrun.append(f"{block}: {' '.join(reason[1].split())}")
        elif block.mark.startswith("run by "):
            runner = ROOT / block.mark.removeprefix("run by ")
            assert runner.is_file(), f"{block} is run by {runner}, which is not there"
            assert names(runner.read_text(), block), f"{runner} names neither {block.page} nor what it types"
        else:
            assert block.mark in (ONE_MACHINE, CLUSTER), f"{block}: {block.mark}"
    with capsys.disabled():
        print(f"\n{len(blocks())} console blocks, not run:", *unrun, sep="\n  ")
    assert len(unrun) <= 9, "run more of them"


def names(text, block):
    """Whether a runner reads the page, or types what it does itself."""
    typed = [line.words[0] if "/" in line.words[0] else " ".join(line.words[:2]) for line in block.lines]
    return Path(block.page).name in text or any(command.removeprefix("tspctl ") in text for command in typed)


def test_every_block_is_found():
    fences = sum(len(re.findall("^```console$", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert len(blocks()) == fences > 20
    marks = sum(len(re.findall("^<!-- (?:not )?run", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert marks == sum(block.mark != ONE_MACHINE for block in blocks()), "a comment does not stand above a block"
    assert all(line.words for block in blocks() for line in block.lines)


PAGE = """
<!-- not run: it would take
a day -->

```console
$ one --a \\
    b  # why
EPOCH  1 of 4, 98.958 %
  ... clips/s
```
text
```console
$ two > file
```
"""


def test_lines_their_output_and_their_marks_are_told_apart():
    first, second = blocks_of(PAGE, "p.md")
    assert (first.mark, second.mark) == ("not run: it would take\na day", ONE_MACHINE)
    (line,) = first.lines
    assert line.words == ["one", "--a", "b"]
    assert line.shown == ("EPOCH  1 of 4, 98.958 %", "  ... clips/s")


@pytest.mark.parametrize(
    ("output", "absent"),
    [
        ("x\nEPOCH 3 of 12, 40 %\ny\nabout 7 clips/s", []),
        ("EPOCH 3 of 12, 40 %", ["  ... clips/s"]),
        ("about 7 clips/s\nEPOCH 3 of 12, 40 %", ["  ... clips/s"]),
        ("EPOCH x of 12, 40 %\n7 clips/s", ["EPOCH  1 of 4, 98.958 %", "  ... clips/s"]),
    ],
)
def test_what_is_shown_is_compared_but_for_its_numbers(output, absent):
    assert missing(blocks_of(PAGE, "p.md")[0].lines[0].shown, output) == absent
