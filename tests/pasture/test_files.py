"""Whole files on any filesystem: read, listed and replaced at once or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pasture.errors import InputError, JobError
from pasture.files import Folder


def test_what_is_written_is_read(folder: Folder) -> None:
    folder.write("a.bin", b"one")
    folder.write("a.bin", b"two")
    assert folder.read("a.bin") == b"two"


def test_writing_makes_the_folders_on_the_way(folder: Folder) -> None:
    (folder / "weights" / "t1").write("fold0.bin", b"x")
    folder.write("deep/er/a.bin", b"y")
    assert folder.read("weights/t1/fold0.bin") == b"x"
    assert (folder / "deep").read("er/a.bin") == b"y"


def test_names_are_sorted_filtered_and_direct(folder: Folder) -> None:
    for name in ("b.csv", "a.csv", "c.txt", "sub.csv/d.csv"):
        folder.write(name, b"")
    assert folder.names() == ["a.csv", "b.csv", "c.txt"]
    assert folder.names(".csv") == ["a.csv", "b.csv"]


def test_no_folder_has_no_names(folder: Folder) -> None:
    assert (folder / "absent").names() == []


def test_existence_of_folder_and_file(folder: Folder) -> None:
    assert not folder.exists()
    assert not folder.exists("a")
    folder.write("a", b"")
    assert folder.exists()
    assert folder.exists("a")
    assert not folder.exists("b")


def test_sizes_of_all_files_below(folder: Folder) -> None:
    assert folder.sizes() == {}
    folder.write("a", b"123")
    folder.write("deep/er/b.bin", b"12345")
    assert folder.sizes() == {"a": 3, "deep/er/b.bin": 5}
    assert (folder / "deep").sizes() == {"er/b.bin": 5}


def test_delete_removes_one_file_and_does_not_mind_its_absence(folder: Folder) -> None:
    folder.write("a", b"")
    folder.write("b", b"")
    folder.delete("a")
    folder.delete("a")
    assert folder.names() == ["b"]


def test_reading_an_absent_file_names_it(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"cannot read .*runs/none\.bin: "):
        folder.read("none.bin")


def test_a_folder_knows_its_name_and_prints_its_place(tmp_path: Path, folder: Folder) -> None:
    assert folder.name == "runs"
    assert (folder / "oof").name == "oof"
    assert str(folder) == (str(tmp_path / "runs") if folder.is_local else "mock://bucket/runs")


def test_a_trailing_slash_changes_nothing(tmp_path: Path) -> None:
    assert Folder.at(f"{tmp_path}/runs/").path == Folder.at(tmp_path / "runs").path


def test_relative_and_home_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Folder.at("runs").path == str(tmp_path / "runs")
    assert Folder.at("~/runs").path == str(tmp_path / "home/runs")


def test_a_file_uri_is_a_local_folder(tmp_path: Path) -> None:
    folder = Folder.at(f"file://{tmp_path}/runs")
    folder.write("a", b"x")
    assert folder.is_local
    assert (tmp_path / "runs/a").read_bytes() == b"x"


@pytest.mark.parametrize("uri", ["nothing://bucket/runs", "http://host/runs", "://", "hdfs://host/runs"])
def test_a_uri_that_cannot_be_opened_is_refused_in_one_line(uri: str) -> None:
    with pytest.raises(InputError) as caught:
        Folder.at(uri)
    assert str(caught.value).startswith(f"cannot open {uri!r}: ")
    assert "\n" not in str(caught.value)


def test_options_of_a_uri_go_with_the_folder_to_wherever_it_is_opened_again() -> None:
    folder = Folder.at("s3://bucket/runs?endpoint_override=http://127.0.0.1:1&region=us-east-1") / "night"
    assert str(folder) == "s3://bucket/runs/night?endpoint_override=http://127.0.0.1:1&region=us-east-1"
    assert (Folder.at(str(folder)).path, str(Folder.at(str(folder)))) == ("bucket/runs/night", str(folder))


def test_a_secret_in_a_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="set AWS_ACCESS_KEY_ID") as caught:
        Folder.at("s3://key:secret@bucket/runs")
    assert "secret" not in str(caught.value).replace("AWS_SECRET", "")


def test_a_store_out_of_reach_is_a_job_error(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        type_name = "s3"

        def get_file_info(self, _: object) -> None:
            raise OSError("AWS Error NETWORK_CONNECTION\nmore")

    folder.filesystem = Away()
    for act in (folder.exists, folder.names, lambda: folder.delete("a")):
        with pytest.raises(JobError, match=r"cannot reach .*runs.*: AWS Error NETWORK_CONNECTION$"):
            act()


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_write_that_fails_midway_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    folder = Folder.at(tmp_path)
    if before is not None:
        folder.write("a.bin", before)
    reached = []

    def full(descriptor: int) -> None:
        reached.append(list(tmp_path.glob(".a.bin.*")))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JobError, match=r"cannot write .*/a\.bin: No space left on device; make space"):
        folder.write("a.bin", b"new content")
    assert len(reached[0]) == 1, "the content was to be flushed from a temporary file"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({} if before is None else {"a.bin": before})


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Folder.at(tmp_path).write("a.bin", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_file_of_a_killed_process_is_in_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(tmp_path)
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append((folder.names(".csv"), len(list(tmp_path.iterdir())))))
    folder.write("a.csv", b"x")
    assert seen == [([], 1)]


def test_writing_below_a_file_is_a_job_error(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    folder.write("a", b"")
    with pytest.raises(JobError, match="cannot write"):
        (folder / "a").write("b", b"")


def test_an_error_without_words_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wordless(descriptor: int) -> None:
        raise TimeoutError

    monkeypatch.setattr(os, "fsync", wordless)
    with pytest.raises(JobError, match="TimeoutError"):
        Folder.at(tmp_path).write("a", b"")
