"""Memory that is freed is used again, not asked of the system anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import trainables

# How many pages the system has to clear for twenty blocks of 32 MB (8,192 pages each), one after another.
SCRIPT = """
import resource, sys
import numpy as np
from trainables.compute.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def touch():
    np.empty(32 << 20, np.uint8).fill(1)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_the_system_clears_no_page_twice() -> None:
    here = Path(trainables.__file__).parent.parent
    faults = {
        how: int(subprocess.run([sys.executable, "-c", SCRIPT, how], cwd=here, stdout=subprocess.PIPE).stdout)
        for how in ("keep", "give back")
    }
    assert faults["keep"] < 100 < faults["give back"]
