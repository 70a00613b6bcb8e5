"""The whole table: every script in a process of its own, one after another."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

from benchmarks.table import Options, Row, parse, table

SCRIPTS = (
    "frozen_trials",
    "batched_heads",
    "fine_tuning",
    "selection",
    "prediction",
    "harness",
    "image_cache",
    "pages",
    "growth",
)


def rows(script: str, options: Options) -> list[Row]:
    """Of one script.

    Raises:
        CalledProcessError: it failed, or found that the two things it compares do not give the same.
    """
    words = [sys.executable, "-m", f"benchmarks.{script}", "--json"]
    words += ["--data", str(options.data)] if options.data else []
    words += ["--quick"] if options.quick else []
    lines = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [Row(**json.loads(line)) for line in lines]


def main() -> int:
    """Print the table; 1 where a script has failed, whose rows are then missing."""
    options, as_json = parse(__doc__ or "")
    found: list[Row] = []
    status = 0
    for script in SCRIPTS:
        print(f"benchmarks.{script} ...", file=sys.stderr, flush=True)
        try:
            found += rows(script, options)
        except subprocess.CalledProcessError as error:
            print(f"{error}; its rows are missing", file=sys.stderr)
            status = 1
    print("\n".join(json.dumps(asdict(row)) for row in found) if as_json else table(found, options))
    return status


if __name__ == "__main__":
    sys.exit(main())
