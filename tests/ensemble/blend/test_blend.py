"""The blend folder: what is in it, and what is refused on the way in and on the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ensemble.blend.build
from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from pasture.errors import ForageError, InputError, JobError
from pasture.files import Folder
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from trainables.images import d4


@pytest.fixture
def run(finished_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A run that may be damaged."""
    return RunFolder(shutil.copytree(finished_run.folder.path, tmp_path / "run"))


@pytest.fixture
def folder(blend: Blend, tmp_path: Path) -> Path:
    """A blend folder that may be damaged."""
    return Path(shutil.copytree(blend.folder, tmp_path / "copy"))


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "blend.json").read_text())
    edit(content)
    (folder / "blend.json").write_text(json.dumps(content))


def test_the_folder_holds_what_the_contract_says(blend: Blend) -> None:
    files = {path.relative_to(blend.folder).as_posix() for path in blend.folder.rglob("*") if path.is_file()}
    digests = {member.backbone for member in blend.members}
    assert len(digests) == 2
    assert files == {
        "blend.json",
        "oof.parquet",
        "evidence.npz",
        *(f"backbones/{digest}.safetensors" for digest in digests),
        *(f"members/run-t000{i}/recipe.yaml" for i in range(3)),
        *(f"members/run-t000{i}/fold{fold}.safetensors" for i in range(3) for fold in range(3)),
    }
    content = json.loads((blend.folder / "blend.json").read_text())
    assert set(content) == {
        "format", "tta", "fingerprint", "scores", "conformal", "members", "warnings", "versions", "half",
    }  # fmt: skip
    assert set(content["scores"]) == {
        "fitted", "nested", "interval", "best_single", "uniform", "uniform_nested", "optimum", "gap", "baseline",
        "start", "method", "options", "auto", "tta", "targets", "prefixes", "steps",
    }  # fmt: skip
    assert [(m["key"], m["weight"]) for m in content["members"]] == [
        ("run-t0000", 0.5), ("run-t0002", 0.3), ("run-t0001", 0.2)
    ]  # fmt: skip


def test_it_reads_as_it_was_built(blend: Blend) -> None:
    read = Blend.read(blend.folder)
    assert (read.tta, read.fingerprint, read.members) == (blend.tta, blend.fingerprint, blend.members)
    assert read.warnings == blend.warnings
    assert json.dumps(read.scores()) == json.dumps(blend.scores())
    assert read.evidence is None


def test_its_oof_is_the_weighted_mean_of_its_members(blend: Blend, finished_run: RunFolder) -> None:
    table = OofTable.read(Folder.at(blend.folder), "oof.parquet")
    expected = sum(m.weight * finished_run.read_oof(m.key.removeprefix("run-")).mean(d4.ALL) for m in blend.members)
    assert table.image_ids == finished_run.read_oof("t0000").image_ids
    np.testing.assert_allclose(table.predictions[:, 0], expected, atol=1e-4)
    assert table.metadata["fingerprint"] == blend.fingerprint


def test_its_evidence_is_its_oof_element_by_element(blend: Blend) -> None:
    evidence = blend.evidence
    assert evidence is not None
    table = OofTable.read(Folder.at(blend.folder), "oof.parquet")
    assert table.image_ids == evidence.image_ids
    assert evidence.predictions.shape == (24, 8, 5)
    np.testing.assert_allclose(evidence.predictions.mean(axis=1), table.predictions[:, 0], atol=1e-4)


def test_the_choice_is_that_of_the_estimate(run: RunFolder, tmp_path: Path) -> None:
    blend = build([run], tmp_path / "blend", "flips")
    assert blend.tta == "flips"
    assert sum(m.weight for m in blend.members) == pytest.approx(1)
    assert [m.weight for m in blend.members] == sorted((m.weight for m in blend.members), reverse=True)
    table = OofTable.read(Folder.at(tmp_path / "blend"), "oof.parquet")
    assert blend.evidence is not None
    assert weighted_r2(blend.evidence.truth, table.predictions[:, 0]) == pytest.approx(blend.estimate["fitted"])


def test_out_that_exists_is_refused_and_untouched(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "blend").mkdir()
    (tmp_path / "blend" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        build([run], tmp_path / "blend", "d4")
    assert [path.name for path in (tmp_path / "blend").iterdir()] == ["mine.txt"]


@pytest.mark.heavy
@pytest.mark.parametrize("error", [KeyboardInterrupt, JobError("disk full")])
@pytest.mark.parametrize("step", ["_write_member", "_write_oof"])
def test_a_failed_build_leaves_nothing(
    error: BaseException, step: str, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Folder, *_: object) -> None:
        folder.write("half.safetensors", b"half")
        raise error

    monkeypatch.setattr(ensemble.blend.build, step, fail)
    before = sorted(tmp_path.iterdir())
    with pytest.raises((KeyboardInterrupt, JobError)):
        build([run], tmp_path / "blend", "d4")
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_killed_build_left_is_cleared_away(run: RunFolder, tmp_path: Path) -> None:
    partial = tmp_path / ".blend.partial"
    partial.mkdir()
    (partial / "half.safetensors").write_bytes(b"half")
    build([run], tmp_path / "blend", "d4")
    assert not partial.exists()
    assert not (tmp_path / "blend" / "half.safetensors").exists()


def _truncate(run: RunFolder) -> None:
    for path in Path(run.folder.path).rglob("fold1.safetensors"):
        path.write_bytes(path.read_bytes()[:-8])


def _lose_a_fold(run: RunFolder) -> None:
    for path in Path(run.folder.path).rglob("fold2.safetensors"):
        path.unlink()


def _swap_the_backbone(run: RunFolder) -> None:
    for trial in ("t0000", "t0001", "t0002"):
        table = run.read_oof(trial)
        table.metadata["backbone_digest"] = "0" * 32
        table.write(run.oof, f"{trial}.parquet")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_truncate, r"fold1\.safetensors: damaged weights"),
        (_lose_a_fold, "the first of 3, run-t0000: .* has weights of 2 of 3 folds"),
        (_swap_the_backbone, "is not what the trial was trained on"),
    ],
)
def test_a_damaged_run_is_refused(
    damage: Callable[[RunFolder], None], complaint: str, run: RunFolder, tmp_path: Path
) -> None:
    damage(run)
    with pytest.raises(InputError, match=complaint):
        build([run], tmp_path / "blend", "d4")
    assert not (tmp_path / "blend").exists()


def test_a_member_without_weights_is_left_out_and_named(run: RunFolder, tmp_path: Path) -> None:
    shutil.rmtree(Path(run.weights("t0000").path))
    run.weights("t0001").delete("fold1.safetensors")
    blend = build([run], tmp_path / "blend", "d4")
    assert [member.key for member in blend.members] == ["run-t0002"]
    assert blend.evidence is not None
    refused = dict(blend.evidence.refused)
    assert refused["run-t0000"].endswith("weights/t0000 has weights of 0 of 3 folds")
    assert refused["run-t0001"].endswith("weights/t0001 has weights of 2 of 3 folds")


def test_a_run_directory_that_does_not_exist_is_named(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/nowhere: no such run directory; give a folder that"):
        build([run, RunFolder(tmp_path / "nowhere")], tmp_path / "blend", "d4")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"/other: not a run directory \(no truth\.parquet\)"):
        build([RunFolder(tmp_path / "other")], tmp_path / "blend", "d4")


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda c: c.pop("members"), "members is missing"),
        (lambda c: c.pop("tta"), "tta is missing"),
        (lambda c: c.update(tta="d8"), "tta='d8': Input should be 'none', 'flips' or 'd4'"),
        (lambda c: c.update(members=[]), "do not sum to 1"),
        (lambda c: c.update(members=7), "members=7: Input should be a valid array"),
        (lambda c: c["members"].pop(), "do not sum to 1"),
        (
            lambda c: c["members"][0].update(weight="much"),
            r"members\[0\]\.weight='much': Input should be",
        ),
        (lambda c: c["members"][0].update(weight=-0.5), "the weight -0.5"),
        (lambda c: c["members"][0].update(folds=0), "0 models"),
        (lambda c: c["members"][0].update(key="../../elsewhere"), r"members\[0\]\.key=.*: String should match"),
        (lambda c: c["members"][0].update(key=".."), r"members\[0\]\.key=.*: String should match"),
        (lambda c: c["members"][0].update(key=""), r"members\[0\]\.key=.*: String should match"),
        (lambda c: c["members"][0].update(key="run-t9999"), r"run-t9999/recipe\.yaml: not readable .*No such file"),
        (
            lambda c: c["members"][0].update(backbone="../../elsewhere"),
            r"members\[0\]\.backbone=.*: String should match",
        ),
    ],
)
def test_a_damaged_blend_json_is_refused(edit: Callable[..., object], complaint: str, folder: Path) -> None:
    edited(folder, edit)
    with pytest.raises(InputError, match=complaint) as caught:
        Blend.read(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_a_blend_json_that_is_none_is_refused(content: bytes, folder: Path) -> None:
    (folder / "blend.json").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        Blend.read(folder)


def test_a_folder_without_blend_json_is_no_blend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a blend folder"):
        Blend.read(tmp_path)


def test_a_recipe_with_an_unknown_field_is_refused(folder: Path) -> None:
    recipe = folder / "members" / "run-t0000" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("dropout:", "dropuot:"))
    with pytest.raises(InputError, match=r"recipe\.yaml: .*dropuot"):
        Blend.read(folder)


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-8])])
def test_damaged_weights_are_refused_in_one_line(damage: Callable[[Path], object], folder: Path) -> None:
    member = Blend.read(folder).members[0]
    for path in (folder / "members" / member.key / "fold1.safetensors", folder / "backbones" / member.backbone):
        damage(path.with_suffix(".safetensors"))
    for read in (lambda b: b.fold_weights(member, 1), lambda b: b.backbone_weights(member.backbone)):
        with pytest.raises(ForageError, match=r"\.safetensors: ") as caught:
            read(Blend.read(folder))
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_weights_is_noticed_when_blending_and_when_predicting(
    finished_run: RunFolder, tmp_path: Path, make_blend: Callable[..., Blend]
) -> None:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[-20] ^= 0x40  # within the last tensor: safetensors itself would load it
        path.write_bytes(content)

    run = RunFolder(shutil.copytree(finished_run.folder.path, tmp_path / "run"))
    blend = make_blend(run, tmp_path / "blend", (0.5, 0.2, 0.3))
    member = blend.members[0]
    flip(blend.folder / "members" / member.key / "fold0.safetensors")
    with pytest.raises(InputError, match=r"fold0\.safetensors: damaged weights \(their sha256"):
        Blend.read(blend.folder).fold_weights(member, 0)
    flip(Path(run.weights("t0000").file("fold1.safetensors")))
    with pytest.raises(InputError, match=r"t0000/fold1\.safetensors: damaged weights \(their sha256"):
        make_blend(run, tmp_path / "again", (0.5, 0.2, 0.3))
