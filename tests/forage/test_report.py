"""The report pages: whole, offline, and deaf to what stands in the data."""

from __future__ import annotations

import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from forage import run_charts
from forage.charts import score_range
from forage.report import attempt, write_blend_report, write_run_report
from pasture.metric import baseline_r2
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from tune.records.ledger import Ledger, Record

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


class Seen(HTMLParser):
    """Elements, links and visible text of a page, as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

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
    assert "t0001 complete 0.5000 2 2 3 0.005 log1p" in seen.text


def test_a_run_whose_trials_wait(swept: RunFolder) -> None:
    _, seen = read(write_run_report(swept))
    assert "wait" not in seen.text
    ledger = Ledger(swept)
    record = ledger.records["t0001"]
    record.status = "WAITING"
    ledger.write(record)
    page, seen = read(write_run_report(swept))
    assert "1 waiting" in seen.text
    assert "A waiting trial has trained the first stage." in seen.text
    assert "t0001 waiting 0.5000" in seen.text
    assert page.count('"name":"waiting"') == 2 + len(record.params)  # in every chart of trials


@pytest.mark.parametrize("left", [[], ["t0003"], ["t0004"]], ids=["nothing", "one pruned", "one failed"])
def test_a_run_of_which_there_is_little_to_tell(left: list[str], swept: RunFolder) -> None:
    for record in Ledger(swept).records:
        if record not in left:
            swept.trials.delete(f"{record}.json")
    _, seen = read(write_run_report(swept))
    assert "no complete trial yet" in seen.text


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
    for heading in ("Scores of the blend", "Predicted against true", "Test-time augmentation"):
        assert heading in seen.text


def test_a_blend_by_auto_tells_why(swept: RunFolder, tmp_path: Path) -> None:
    blend = build([swept], tmp_path / "blend", "d4", "auto")
    _, seen = read(write_blend_report(blend))
    facts = blend.estimate["auto"]
    for name, nested in facts["nested"].items():
        assert f"{name} {nested:.4f} {facts['behind'][name]:.4f} {facts['error'][name]:.4f}" in seen.text
    assert f"members, by method {blend.estimate['method']}" in seen.text


def test_a_blend_without_a_nested_score(blend: Blend, tmp_path: Path) -> None:
    estimate = {**blend.estimate, "nested": None, "interval": None}
    bare = dataclasses.replace(blend, folder=tmp_path, estimate=estimate, warnings=["no nested score: one date"])
    _, seen = read(write_blend_report(bare))
    assert "no nested score: one date" in seen.text


def test_a_blend_that_was_read_has_no_report(blend: Blend) -> None:
    with pytest.raises(ValueError, match="needs the evidence"):
        write_blend_report(Blend.read(blend.folder))


def test_pages_need_no_internet(swept: RunFolder, blend: Blend, tmp_path: Path) -> None:
    for location in (write_run_report(swept), write_blend_report(dataclasses.replace(blend, folder=tmp_path))):
        page, seen = read(location)
        assert not {"src", "href"} & seen.attributes
        assert len(re.findall(r"\* plotly\.js v\d", page)) == 1, "plotly's script is in the page once"


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
    ("scores", "low", "high"),
    [([0.4, 0.6], 0.3, 0.6), ([-9.0, 0.6], -0.2, 0.6), ([0.1], 0.1, 0.3), ([], 0.3, 0.3)],
)
def test_a_diverged_trial_does_not_squeeze_the_others(scores: list[float], low: float, high: float) -> None:
    start, end = score_range(scores, 0.3)
    assert start < low < start + 0.1
    assert end - 0.1 < high < end


def test_the_bar_of_a_hopeless_target_keeps_its_label_in_sight() -> None:
    report = {"score": 0.1, "best_epoch": 1} | {f"r2_{target}": 0.5 for target in TARGETS} | {f"r2_{TARGETS[1]}": -4.0}
    figure = run_charts.target_scores(Record(0, {}, {}, "COMPLETE", [report]))
    (bars,) = figure.data
    assert (bars.x[1], bars.text[1]) == (-1.0, "-4.00")
    assert figure.layout.xaxis.range == (-1.0, 1)
