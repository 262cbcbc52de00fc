"""Fixtures of the tests that fetch."""

import pytest

from tests.data.download.server import Server


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that misbehaves as it is told."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        yield server
