"""How fast the command line starts."""

from __future__ import annotations

import subprocess
import sys


def test_the_command_line_starts_without_libraries_of_pages() -> None:
    code = "import sys, forage.cli; print([m for m in ('optuna', 'plotly', 'matplotlib') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
