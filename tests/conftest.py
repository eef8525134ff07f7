"""Fixtures for every test folder."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder beside the checkout that holds golden figures, annotation tables and real footage."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared folder {SHARED} beside the checkout")
    return SHARED
