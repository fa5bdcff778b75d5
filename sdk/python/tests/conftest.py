"""Fixtures: real servers that are ended after the test."""

from __future__ import annotations

import plant as plants
import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a machine that others use.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.fixture
def plant(tmp_path):
    """Starts servers: `plant("--sim-rate", 1000)`. None may panic."""
    started = []

    def start(*arguments, **keys):
        server = plants.Plant(*arguments, stderr_path=tmp_path / f"stderr-{len(started)}", **keys)
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()
    for server in started:
        assert "panicked" not in server.stderr(), server.stderr()
