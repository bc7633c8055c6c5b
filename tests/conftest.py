"""One thread per process: these networks are tiny, and threads that wait for each other cost more than they gain."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def eager_for_a_moment(tmp_path, monkeypatch):
    """Networks are compiled after their first call, into a cache of this test's own; returns what lists its entries."""
    from common import compiled  # after the number of threads is set

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "BUILD_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "check_elsewhere", compiled.check)
    return lambda: list((tmp_path / "cache").rglob(compiled.NOTE))
