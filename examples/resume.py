"""Extend a sweep and compare its trials: python examples/resume.py RUN [TRIALS], after examples/sweep.py."""

import sys

import forage


def main(path: str, trials: int) -> None:
    """Run more trials of a sweep, and show what they add."""
    before = forage.load_run(path).status()
    try:
        run = forage.resume(path, trials=trials)
    except forage.Interrupted as stop:  # Ctrl-C; the same command goes on
        run = stop.run
    after = run.status()
    print(f"complete: {before['complete']} -> {after['complete']}")
    print(f"best score: {before['best_score']:.4f} -> {after['best_score']:.4f} ({after['best_trial']})")
    print(run.curves.pivot(index="epoch", columns="trial", values="epoch_score").tail(3))

    # Out-of-fold errors of the best trial, in grams.
    best = run.oof[run.oof["trial"] == after["best_trial"]].set_index("image_id")
    truth = run.truth.drop(columns="date")
    print((best[truth.columns] - truth).abs().mean())


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "runs/sweep"
    main(folder, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
