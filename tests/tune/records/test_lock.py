from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from filelock import FileLock

from pasture.errors import InputError, JobError
from pasture.files import Folder
from pasture.run_folder import RunFolder
from tune.records import lock
from tune.records.lock import driver_at_work, exclusive_lock


@pytest.fixture
def store(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run on an object store, where leases last for a fraction of a second."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.3)
    run.folder = Folder(pafs._MockFileSystem(), "bucket/run")
    return run


def lease(run: RunFolder) -> dict[str, str]:
    return dict(json.loads(run.folder.read("driver.json")))


def test_a_folder_on_disk_is_held_by_one_at_a_time(run: RunFolder) -> None:
    with exclusive_lock(run) as hold:
        with pytest.raises(InputError, match="another forage is at work in this run directory"), exclusive_lock(run):
            pass
        assert not hold.lost
    with exclusive_lock(run):
        pass


def test_a_lock_file_of_the_dead_is_no_lock(run: RunFolder) -> None:
    run.folder.write(".driver.lock", b"")
    with exclusive_lock(run), pytest.raises(TimeoutError), FileLock(run.folder.file(".driver.lock")).acquire(timeout=0):
        pass


def test_whether_a_driver_is_at_work(run: RunFolder) -> None:
    assert driver_at_work(run) is False, "no driver has run yet"
    with exclusive_lock(run):
        assert driver_at_work(run) is True
    assert driver_at_work(run) is False
    with exclusive_lock(run):
        pass


def test_whether_the_driver_of_a_remote_run_is_at_work(store: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert driver_at_work(store) is False
    age = 0.1
    monkeypatch.setattr(Folder, "age", lambda self, name: age if self.exists(name) else None)
    with exclusive_lock(store):
        assert driver_at_work(store) is True
        age = 1.0
        assert driver_at_work(store) is False, "it was killed"
    age = 0.1
    assert driver_at_work(store) is False


def test_a_folder_that_cannot_be_made(run: RunFolder) -> None:
    Path(run.folder.path).write_bytes(b"a file")
    with pytest.raises(JobError, match=r"cannot write .*run: "), exclusive_lock(run):
        pass


def test_a_lease_is_kept_and_given_back(store: RunFolder) -> None:
    with exclusive_lock(store) as hold:
        first = lease(store)
        time.sleep(0.2)
        assert lease(store)["driver"] == first["driver"]
        assert int(lease(store)["beat"]) > int(first["beat"])
    assert not hold.lost
    assert not store.folder.exists("driver.json")


def test_a_lease_is_given_back_where_the_sweep_fails(store: RunFolder) -> None:
    with pytest.raises(ZeroDivisionError), exclusive_lock(store):
        _ = 1 / 0
    assert not store.folder.exists("driver.json")


def test_a_second_driver_is_refused_and_told_by_whom(store: RunFolder) -> None:
    with exclusive_lock(store) as hold:
        with (
            pytest.raises(InputError, match=r"another forage is at work there \(process \d+ on .+\)"),
            exclusive_lock(store),
        ):
            pass
        assert lease(store)
        assert not hold.lost


@pytest.mark.parametrize("content", [b'{"driver": "dead", "beat": "7", "host": "h", "pid": "1"}', b"{", b"[1]"])
def test_the_lease_of_a_dead_driver_is_taken_over(store: RunFolder, content: bytes) -> None:
    store.folder.write("driver.json", content)
    with exclusive_lock(store):
        assert lease(store)["driver"] != "dead"


def test_of_several_at_once_one_stays(store: RunFolder) -> None:
    outcomes: list[str] = []
    start, end = threading.Barrier(4), threading.Event()

    def contend() -> None:
        start.wait()
        try:
            with exclusive_lock(store):
                outcomes.append("held")
                end.wait(10)
        except InputError:
            outcomes.append("refused")

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(outcomes) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    end.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "refused", "refused", "refused"]


def test_a_store_that_is_out_of_reach_for_a_while_is_no_loss(store: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(name: str = "") -> bytes:
        raise InputError("cannot read driver.json: network")

    with exclusive_lock(store) as hold:
        with monkeypatch.context() as patch:
            patch.setattr(store.folder, "read", away)
            time.sleep(0.2)
        beat = lease(store)["beat"]
        time.sleep(0.2)
        assert lease(store)["beat"] != beat
        assert not hold.lost


def test_who_slept_through_the_end_of_its_lease_is_told(store: RunFolder) -> None:
    with exclusive_lock(store) as hold:
        store.folder.write("driver.json", b'{"driver": "another", "beat": "1"}')
        deadline = time.monotonic() + 5
        while not hold.lost and time.monotonic() < deadline:
            time.sleep(0.01)
        assert hold.lost
    assert lease(store)["driver"] == "another"  # it is not ours to delete
