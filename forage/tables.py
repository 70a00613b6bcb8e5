"""Results as tables for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ensemble.blend import Blend


def blend_table(blend: Blend) -> Group:
    """The scores of a blend side by side, and its members."""
    s = blend.estimate
    scores = Table(title="what the blend is worth (globally weighted R2)", title_justify="left")
    scores.add_column("score")
    scores.add_column("R2", justify="right")
    scores.add_column("")
    interval = f"95 % interval {s['interval'][0]:.4f} to {s['interval'][1]:.4f}" if s["interval"] else "no interval"
    rows = (
        ("nested", s["nested"], f"on dates it was not fitted to: the one to quote; {interval}"),
        ("fitted", s["fitted"], "on the images it was fitted to: flatters"),
        ("optimum", s["optimum"], "best of all convex weights on these images"),
        ("best single", s["best_single"], "best member alone"),
        ("uniform", s["uniform"], "mean of all candidates"),
        ("baseline", s["baseline"], "each target's mean"),
    )
    for name, value, meaning in rows:
        scores.add_row(name, f"{value:.4f}" if value is not None else "-", meaning)
    members = Table(title="members", title_justify="left")
    members.add_column("trial")
    members.add_column("weight", justify="right")
    members.add_column("alone", justify="right")
    members.add_column("backbone")
    for member in blend.members:
        members.add_row(escape(member.key), f"{member.weight:.3f}", f"{member.score:.4f}", member.recipe.backbone.name)
    return Group(scores, members)
