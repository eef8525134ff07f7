import pytest

from cli.progress import transfer_progress


def test_a_download_off_a_terminal_says_one_line_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="cli"), transfer_progress("epoch_3.pth") as progress:
        for done in range(0, 1001):
            progress(done, 1000)
        assert caplog.records == []
    assert [record.getMessage() for record in caplog.records] == ["epoch_3.pth: 1000 B"]
