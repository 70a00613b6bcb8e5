"""Results as tables for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table

from ensemble.blend.blend import Blend


def blend_table(blend: Blend) -> Group:
    """The scores of a blend side by side, what its method and test-time augmentation are worth, and its members."""
    s = blend.estimate
    interval = f"95 % interval {s['interval'][0]:.4f} to {s['interval'][1]:.4f}" if s["interval"] else "no interval"
    scores = _table(f"what the blend is worth (globally weighted R2); method {s['method']}", "score", "R2", "")
    rows = (
        ("nested", s["nested"], f"on dates it was not fitted to: quote this one; {interval}"),
        ("fitted", s["fitted"], "on the images it was fitted to: too high"),
        ("optimum", s["optimum"], f"best of all convex weights on these images; fitted is {_below(s['gap'])}"),
        ("best single", s["best_single"], "best member alone"),
        ("uniform", s["uniform"], f"mean of all candidates; on dates held out {_number(s['uniform_nested'])}"),
        ("baseline", s["baseline"], "each target's mean"),
    )
    for name, value, meaning in rows:
        scores.add_row(name, _number(value), meaning)
    tables = [scores]
    if s["auto"]:
        methods = _table(
            "methods, from the simplest to the most flexible", "method", "held out", "behind the best", "std. error"
        )
        for name, held_out in s["auto"]["held_out"].items():
            methods.add_row(
                name, _number(held_out), _number(s["auto"]["behind"][name]), _number(s["auto"]["error"][name])
            )
        tables.append(methods)
    targets = _table(
        "targets; on dates it was not fitted to, in grams",
        "target",
        "R2",
        "RMSE",
        "RMSE of the mean",
        "bias",
        "fitted R2",
    )
    for name, t in s["targets"].items():
        grams = (f"{t[fact]:.2f}" if t[fact] is not None else "-" for fact in ("nested_rmse", "sd", "nested_bias"))
        targets.add_row(name, _number(t["nested_r2"]), *grams, _number(t["r2"]))
    tables.append(targets)
    members = _table(
        "members; out-of-fold R2 alone, with 1, 2, 4, 8 elements of D4", "trial", "weight", *s["tta"], "what"
    )
    for member in blend.members:
        worth = [_number(member.tta.get(elements)) for elements in s["tta"]]
        members.add_row(member.key, f"{member.weight:.3f}", *worth, member.what)
    members.add_row("the blend", "", *map(_number, s["tta"].values()), "")
    return Group(*tables, members)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        left = name in ("score", "method", "trial", "target", "what", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "trial")
    return table


def _below(gap: float) -> str:
    return f"{gap:.5f} below" if gap >= 0 else f"{-gap:.5f} above"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
