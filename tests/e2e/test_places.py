"""What a script of the bring-up says when it fails reaches whoever reads the tests' report."""

import pytest

from tests.e2e import places
from tests.e2e.places import BringUpError, ending_the_session, run_script


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Makes a script in place of the bring-up's."""
    monkeypatch.setattr(places, "BRING_UP", tmp_path)

    def make(text):
        path = tmp_path / "build.sh"
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
        return path.name

    return make


def test_the_output_is_returned_and_what_it_says_is_shown(script, capsys):
    assert run_script(script("echo building >&2; echo $1"), "an-image", timeout_sec=60) == "an-image\n"
    assert "building" in capsys.readouterr().err


def test_a_failure_shows_its_last_words(script):
    with pytest.raises(BringUpError) as failed:
        run_script(script("seq 100 >&2; echo no space left on device >&2; exit 2"), "project-image", timeout_sec=60)
    head, *said = str(failed.value).splitlines()
    assert head == "build.sh project-image ended with exit status 2; its last words:"
    assert said[-2:] == ["100", "no space left on device"]
    assert len(said) == places.LAST_LINES


def test_a_script_that_takes_too_long_is_ended_with_what_it_started(script):
    with pytest.raises(BringUpError, match=r"took longer than 0\.2 s"):
        run_script(script("sleep 600 & wait"), timeout_sec=0.2)


def test_a_failed_bring_up_ends_the_session_instead_of_every_test(script):
    with pytest.raises(pytest.exit.Exception, match="no space left") as ended, ending_the_session():
        run_script(script("echo no space left >&2; exit 2"), timeout_sec=60)
    assert ended.value.returncode == 1
