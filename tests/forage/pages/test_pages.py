"""The pages of a run and of a blend: complete, offline, and with every text of the data escaped."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from ensemble.estimate.evidence import Evidence
from forage.figures import blend_charts, field_charts, groups, trial_charts
from forage.figures.charts import ScoreAxis, bars, by_value
from forage.figures.study import importances
from forage.pages.report import attempt, write_blend_report, write_run_report
from forage.pages.run_page import run_page
from pasture.errors import InputError
from pasture.metric import baseline_r2
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from search_spaces.catalogue import load_space
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger, Record

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


class Seen(HTMLParser):
    """Elements, links and visible text of a page, as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: set[str] = set()
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links |= {value or "" for name, value in attrs if name in ("src", "href")}

    def handle_data(self, data: str) -> None:
        if self.tags[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def read(location: str) -> tuple[str, Seen]:
    page = Path(location).read_text()
    return page, Seen(page)


def test_a_run_in_ten_seconds(swept: RunFolder) -> None:
    location = write_run_report(swept)
    assert location == f"{swept}/report.html"
    _, seen = read(location)
    baseline = baseline_r2(swept.read_truth()[list(TARGETS)].to_numpy())
    for words in ("0.5000", "best score, t0001", f"{baseline:.4f}", "predicting each target's mean", "3 complete"):
        assert words in seen.text
    for heading in ("Score of every trial", "Learning curves", "Score against each searched field", "target by target"):
        assert heading in seen.text
    assert "1 trial(s) are below the axis" in seen.text, "t0003 has diverged"
    assert "t0001 complete 0.5000 2 2 3 - - 0.005 0.1" in seen.text
    assert "t0004 0 head.hidden: no" in seen.text, "a failed trial has its reason"
    assert "1 cut" in seen.text
    for group in ("state", "species", "month", "date", "fold"):
        assert f" {group} " in seen.text, "where the best trial errs"


def test_the_recipe_on_the_page_is_the_trials_recipe(swept: RunFolder) -> None:
    page, _ = read(write_run_report(swept))
    facts = json.loads(page.split('id="data-trials">')[1].split("</script>")[0])
    record = Ledger(swept).records["t0001"]
    assert set(facts) == {"t0000", "t0001", "t0002", "t0003"}, "t0004 has no recipe"
    assert Recipe.from_yaml(facts["t0001"]["yaml"], "page").to_dict() == record.recipe
    assert facts["t0001"]["command"].endswith("--recipe t0001.yaml --name run-t0001")
    assert facts["t0001"]["command"].startswith("forage train ")


@pytest.mark.heavy
def test_only_rungs_that_a_trial_has_reached_are_named(swept: RunFolder) -> None:
    assert "Dotted lines" not in run_page(swept).html(), "two epochs of 60"
    ledger = Ledger(swept)
    record = ledger.records["t0000"]
    record.curve = [dict(record.curve[0], epoch=epoch) for epoch in range(1, 11)]
    ledger.write(record)
    assert "Dotted lines: epochs 7, at which" in run_page(swept).html()


@pytest.mark.heavy
def test_waiting_and_nodes_of_trials(swept: RunFolder) -> None:
    assert "waited for a worker" not in read(write_run_report(swept))[1].text
    ledger = Ledger(swept)
    for name, waited in (("t0001", 12.4), ("t0002", 61.0)):
        ledger.records[name].waited, ledger.records[name].where = waited, "node-a, GPU 1"
        ledger.write(ledger.records[name])
    seen = read(write_run_report(swept))[1]
    assert "2 trial(s) waited for a worker for 0:01:13 in all, the longest 0:01:01" in seen.text
    assert "t0001 complete 0.5000 2 2 3 12 node-a, GPU 1 0.005 0.1" in seen.text


@pytest.mark.heavy
def test_a_run_whose_trials_wait(swept: RunFolder) -> None:
    _, seen = read(write_run_report(swept))
    assert "waiting" not in seen.text
    ledger = Ledger(swept)
    record = ledger.records["t0001"]
    record.status = "WAITING"
    ledger.write(record)
    page, seen = read(write_run_report(swept))
    assert "1 waiting" in seen.text
    assert "A waiting trial has trained the first stage." in seen.text
    assert "t0001 waiting 0.5000" in seen.text
    assert page.count('"name":"waiting"') == 3 + len(record.params)  # in every chart of trials and in that of time


@pytest.mark.parametrize("left", [[], ["t0003"], ["t0004"]], ids=["nothing", "one pruned", "one failed"])
def test_a_run_of_which_there_is_little_to_tell(left: list[str], swept: RunFolder) -> None:
    for record in Ledger(swept).records:
        if record not in left:
            swept.trials.delete(f"{record}.json")
    _, seen = read(write_run_report(swept))
    assert "no complete trial yet" in seen.text


@pytest.mark.heavy
def test_a_blend_in_ten_seconds(swept: RunFolder, make_blend, tmp_path: Path) -> None:
    blend = make_blend(swept, tmp_path / "blend", (0.5, 0.2, 0.3))
    location = write_blend_report(blend)
    assert location == str(tmp_path / "blend" / "report.html")
    _, seen = read(location)
    estimate = blend.estimate
    assert seen.text.index(f"{estimate['nested']:.4f}") < seen.text.index(f"{estimate['baseline']:.4f}")
    assert f"{estimate['interval'][0]:.3f} to {estimate['interval'][1]:.3f}" in seen.text
    for member in blend.members:
        worth = " ".join(f"{member.tta[elements]:.4f}" for elements in "1248")
        row = f"{member.key} {member.weight:.3f} {member.score:.4f} {worth} {member.recipe.backbone.name}"
        assert row in seen.text
    for heading in (
        "Scores of the blend", "Predicted against true", "Test-time augmentation", "Score by number of members",
        "Correlation of the members' residuals", "The worst photographs", "Error by state",
    ):  # fmt: skip
        assert heading in seen.text
    for name, scores in estimate["targets"].items():
        assert f"{name} {scores['nested_r2']:.4f} {scores['nested_rmse']:.2f} {scores['nested_bias']:+.2f}" in seen.text
    assert sum(link.startswith("data:image/jpeg") for link in seen.links) >= 16, "the worst and the best photographs"


@pytest.mark.heavy
def test_a_blend_by_auto_tells_why(swept: RunFolder, tmp_path: Path) -> None:
    blend = build([swept], tmp_path / "blend", "d4", "auto")
    _, seen = read(write_blend_report(blend))
    facts = blend.estimate["auto"]
    for name, held_out in facts["held_out"].items():
        assert f"{name} {held_out:.4f} {facts['behind'][name]:.4f} {facts['error'][name]:.4f}" in seen.text
    assert f"members, by method {blend.estimate['method']}" in seen.text


def test_a_blend_without_a_nested_score(blend: Blend, tmp_path: Path) -> None:
    estimate = {**blend.estimate, "nested": None, "interval": None}
    bare = dataclasses.replace(blend, folder=tmp_path, estimate=estimate, warnings=["no nested score: one date"])
    _, seen = read(write_blend_report(bare))
    assert "no nested score: one date" in seen.text


@pytest.mark.heavy
def test_a_blend_that_was_read_has_the_same_page(swept: RunFolder, make_blend, tmp_path: Path) -> None:
    blend = make_blend(swept, tmp_path / "blend", (0.5, 0.2, 0.3))
    built = read(write_blend_report(blend))[1].text
    assert read(write_blend_report(Blend.read(blend.folder), tmp_path / "page.html"))[1].text == built
    (tmp_path / "blend" / "evidence.npz").unlink()
    with pytest.raises(InputError, match=r"has no evidence\.npz"):
        write_blend_report(Blend.read(blend.folder))


@pytest.mark.heavy
def test_a_blend_without_its_data_folder(swept: RunFolder, make_blend, tmp_path: Path, monkeypatch) -> None:
    blend = make_blend(swept, tmp_path / "blend", (0.5, 0.2, 0.3))
    blend = dataclasses.replace(blend, evidence=dataclasses.replace(blend.evidence, data=str(tmp_path / "moved")))
    _, seen = read(write_blend_report(blend))
    assert "Photographs, states and species are absent" in seen.text
    assert "Error by state" not in seen.text


@pytest.mark.heavy
def test_pages_need_no_internet(swept: RunFolder, blend: Blend, tmp_path: Path) -> None:
    for location in (write_run_report(swept), write_blend_report(dataclasses.replace(blend, folder=tmp_path))):
        page, seen = read(location)
        assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in seen.links)
        assert len(re.findall(r"\* plotly\.js v\d", page)) == 1, "plotly's script is in the page once"


@pytest.mark.heavy
def test_text_in_a_run_stays_text(swept: RunFolder, tmp_path: Path) -> None:
    clean = read(write_run_report(swept))[1].tags
    ledger = Ledger(swept)
    for record in ledger.records.values():
        record.error = EVIL if record.error else ""
        record.params = {f"a<b>{name}": f"{EVIL}{v}" if isinstance(v, str) else v for name, v in record.params.items()}
        ledger.write(record)
    run = RunFolder(shutil.copytree(swept.folder.path, tmp_path / "<script>alert(1)"))
    page, seen = read(write_run_report(run))
    assert seen.tags == clean
    assert "<script>alert(1)" not in page
    assert EVIL in seen.text
    assert "Run <script>alert(1)" in seen.text


def test_text_in_a_blend_stays_text(blend: Blend, tmp_path: Path) -> None:
    assert blend.evidence is not None
    (tmp_path / "clean").mkdir()
    evil = tmp_path / "<script>alert(1)"
    evil.mkdir()

    def page(folder: Path, text: str) -> tuple[str, Seen]:
        member = dataclasses.replace(blend.members[0])
        object.__setattr__(member, "key", text)  # a key that a blend folder cannot have
        evidence = dataclasses.replace(
            blend.evidence, image_ids=[text] * len(blend.evidence.image_ids), refused=[(text, text)]
        )
        altered = dataclasses.replace(blend, folder=folder, members=(member,), warnings=[text], evidence=evidence)
        return read(write_blend_report(altered))

    text, seen = page(evil, EVIL)
    assert seen.tags == page(tmp_path / "clean", "clean")[1].tags
    assert "<script>alert(1)" not in text
    assert EVIL in seen.text


def test_a_report_that_fails_is_said() -> None:
    said: list[str] = []

    def fail() -> str:
        raise OSError("disk full")

    attempt(fail, said.append)
    attempt(lambda: "x/report.html", said.append)
    assert said == ["warning: no report (OSError: disk full)", "report: x/report.html"]


@pytest.mark.parametrize(
    ("scores", "low", "high", "below"),
    [
        ([0.4, 0.6], 0.3, 0.6, 0),
        ([-9.0, 0.6, 0.6, 0.5], 0.3, 0.6, 1),
        ([0.1, 0.2, 0.25], 0.1, 0.3, 0),
        ([], 0.3, 0.3, 0),
        ([0.7] * 9 + [0.1], 0.3, 0.7, 1),
    ],
)
def test_a_diverged_trial_does_not_stretch_the_axis(scores: list[float], low: float, high: float, below: int) -> None:
    axis = ScoreAxis.of(scores, 0.3)
    assert axis.low < low < axis.low + 0.1
    assert axis.high - 0.1 < high < axis.high
    assert axis.below(scores) == below
    assert axis.symbols(scores).count("triangle-down") == below
    assert min(axis.shown(scores), default=axis.low) >= axis.low


def test_a_trial_below_the_axis_is_drawn_at_its_end_with_its_score(swept: RunFolder) -> None:
    records = [r for r in Ledger(swept).records.values() if r.curve]
    pruned = trial_charts.score_by_trial(records, 0.3).data[0]
    assert (pruned.name, pruned.marker.symbol, pruned.text) == (
        "pruned",
        ("triangle-down",),
        ("t0003: -20.0000, 1 epoch(s)",),
    )
    assert pruned.y[0] > 0


def test_many_learning_curves_are_drawn_without_markers(swept: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [r for r in Ledger(swept).records.values() if r.curve]  # 7 epochs in all
    monkeypatch.setattr(trial_charts, "MOST_MARKERS", 7)
    assert {t.mode for t in trial_charts.learning_curves(records, records[1], 0.3).data[:3]} == {"lines+markers"}
    monkeypatch.setattr(trial_charts, "MOST_MARKERS", 6)
    pruned, complete, best = trial_charts.learning_curves(records, records[1], 0.3).data[:3]
    assert (pruned.mode, complete.mode, best.mode) == ("lines", "lines", "lines+markers")


def test_every_bar_has_its_value_and_a_hopeless_one_ends_in_sight() -> None:
    figure = bars(["a", "b", "c"], [0.5, -0.01, -4.0], ".2f", "R²", limit=1.0)
    (drawn,) = figure.data
    assert drawn.text == ("0.50", "-0.01", "-4.00")
    assert drawn.textposition == "outside"
    assert drawn.x == (0.5, -0.01, -1.0)
    low, high = figure.layout.xaxis.range
    assert low < -1
    assert high > 0.5


def test_categories_stand_in_the_order_of_their_values() -> None:
    assert by_value(["512", "64", "1024"]) == ["64", "512", "1024"]
    assert by_value(["[512]", "[128]", "[256, 64]", "[]"]) == ["[]", "[128]", "[512]", "[256, 64]"]
    assert by_value(["True", "False", "sqrt", "none"]) == ["False", "True", "none", "sqrt"]


def test_a_rate_that_is_drawn_logarithmically_has_a_logarithmic_axis(swept: RunFolder) -> None:
    records = [r for r in Ledger(swept).records.values() if r.status == "COMPLETE"]  # head_lr .003 to .005
    names = ["optimizer.head_lr"]
    assert field_charts.slices(records, names, 0.3, names).layout.xaxis.type == "log"
    assert field_charts.slices(records, names, 0.3, []).layout.xaxis.type is None


def test_what_pruning_has_saved() -> None:
    curve = [{"seconds": 9.0}, {"seconds": 1.0}, {"seconds": 2.0}]
    record = Record(0, {}, {"schedule": {"epochs": 10}}, "PRUNED", curve)
    assert trial_charts.saved_by_pruning([record]) == pytest.approx(7 * 1.5), "the first epoch may include features"
    assert trial_charts.saved_by_pruning([Record(0, {}, {"schedule": {"epochs": 10}}, "COMPLETE", curve)]) == 0


def test_a_running_trial_has_a_curve_and_no_dot_yet(swept: RunFolder) -> None:
    ledger = Ledger(swept)
    record = ledger.records["t0002"]
    record.status = "RUNNING"
    ledger.write(record)
    figures = run_page(swept).figures
    assert "running" in [trace.name for trace in figures["learning-curves"].data]
    assert "running" not in [trace.name for trace in figures["score-of-every-trial"].data]


def test_importance_finds_the_field_that_matters(swept: RunFolder) -> None:
    space = load_space("demo")
    (rate,) = (p for p in space.parameters if p.field == "optimizer.head_lr")
    (weight,) = (p for p in space.parameters if p.field == "loss.consistency")
    records = []
    for i in range(16):
        params = {rate.field: rate.low + (rate.high - rate.low) * i / 16, weight.field: [*weight.options][i % 2]}
        records.append(Record(i, params, {}, "COMPLETE", [{"epoch": 1, "score": 0.3 + i / 50}]))
    found = importances(records, [rate, weight])
    assert set(found) == {"fANOVA", "PED-ANOVA"}
    assert all(shares[rate.field] > 0.6 for shares in found.values())
    assert importances(records[:3], [rate, weight]) == {}


def test_errors_by_group() -> None:
    truth = np.repeat(np.array([[1.0], [1.0], [3.0], [5.0]]), 5, axis=1)
    predictions = truth + np.array([[0.0], [0.0], [1.0], [3.0]])
    first, second, _ = groups.rows(truth, predictions, {"state": ["a", "a", "b", "b"], "x": ["c"] * 4})
    assert first == ["state", "a", "2", "50%", "0%", "1.000", "0.0", "+0.0"]
    about = (3 - 2.5) ** 2 + (5 - 2.5) ** 2  # the mean of all images is 2.5
    assert second == ["state", "b", "2", "50%", "100%", f"{1 - 10 / about:.3f}", f"{5**0.5:.1f}", "+2.0"]


def test_intervals_that_hold_what_they_promise_are_on_the_line() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(10, 50, (200, 5))
    unseen = (truth + rng.normal(0, 5, truth.shape))[None]
    dates = np.array([f"2015-01-{i % 20 + 1:02d}" for i in range(200)])
    evidence = Evidence([str(i) for i in range(200)], dates, truth, unseen, truth[None], unseen, False, [])
    figure = blend_charts.calibration(evidence)
    assert figure is not None
    promised, *targets = figure.data
    for target in targets:
        np.testing.assert_allclose(target.y, promised.y, atol=0.12)
