"""A local run shows and stores no secret of its environment, nor one that a rank complains of."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl

WORD = "hunter2"
SUBMIT = ("submit", "--dataset", "demo", "--method", "tac", "--name", "a")


def test_neither_environment_nor_messages_bring_a_secret_out(
    tspctl: Tspctl, local: Path, home: Path, plan_ranks: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://me:{WORD}{name.lower()}@127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, WORD + name.lower())
    plan_ranks(exit={"0": 3}, words=f"proxy http://me:{WORD}rank@proxy:3128 refuses https://h/x?Signature={WORD}signed")
    shown = []
    for words in (
        (*SUBMIT, "--follow"), ("status", "a"), ("status", "a", "-o", "json"), ("list",), ("list", "-o", "yaml"),
        ("logs", "a", "--timestamps"), ("wait", "a"),
        ("exec", "a", "--", "true"), ("doctor",), ("resume", "a"), ("wait", "a"),
    ):  # fmt: skip
        ended = tspctl(*words, "-v") if words[0] != "exec" else tspctl(*words)
        assert "unexpected error" not in ended.err
        shown.append(ended.out + ended.err)
    assert "me:***" not in "".join(shown)
    assert "http://***@proxy:3128 refuses https://h/x?Signature=***" in shown[1]
    assert WORD not in "".join(shown)
    for path in home.rglob("*"):
        # What a rank prints past its logging is kept as it is, on this machine alone.
        if path.is_file() and "console" not in path.parts:
            assert WORD.encode() not in path.read_bytes(), path


def test_what_a_rank_logs_is_masked_before_it_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    program = (
        "import io, logging; from tsp.entrypoint import _set_up_logging; "
        "early = _set_up_logging({'RANK': '0'}, None, False); "
        "logging.getLogger('tsp').error('no answer from %s', 'http://me:hunter2@proxy:3128'); "
        "kept = io.StringIO(); handler = logging.StreamHandler(kept); handler.setFormatter(early.formatter); "
        "early.setTarget(handler); early.flush(); print(kept.getvalue())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for text in (done.stdout, done.stderr):
        assert "no answer from http://***@proxy:3128" in text
        assert WORD not in text
