"""Predictions of another tool."""

from __future__ import annotations

import pytest

from tests.ensemble.members.external_files import Theirs


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    return Theirs(tmp_path_factory.mktemp("theirs"))
