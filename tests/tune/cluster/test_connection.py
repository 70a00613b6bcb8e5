from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from pasture.errors import InputError, JobError
from tune.cluster import connection
from tune.cluster.connection import ExistingRay, RayConnection


class Session(NamedTuple):
    """What ray.init returns."""

    dashboard_url: str


def node(cpu: float, gpu: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpu, "memory": 1e9} | ({"GPU": gpu} if gpu else {})}


@pytest.mark.parametrize(
    "error", [ConnectionError("no\nanswer"), ValueError("bad"), RuntimeError("no"), Exception("timed out")]
)
@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("local", JobError, "Ray does not start on this machine"),
        ("auto", InputError, "--address auto: no Ray cluster answers there"),
    ],
)
def test_no_ray_is_one_line(
    error: Exception, address: str, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(kind, match=message) as caught, RayConnection(address).open():
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nowhere.invalid:6379"])
def test_an_address_where_nothing_listens_is_refused_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray would try for minutes"))
    with pytest.raises(InputError, match=f"--address {address}: no Ray cluster answers"), RayConnection(address).open():
        pass


def test_ray_client_is_refused_with_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Tune would run on the head"))
    instead = "with --address HOST:PORT, or as a job with `ray job submit`"
    with pytest.raises(InputError, match=instead) as caught, RayConnection("ray://127.0.0.1:10001").open():
        pass
    assert "\n" not in str(caught.value)


def test_an_address_where_something_listens_is_passed_to_ray_and_its_dashboard_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    addresses: list[str] = []
    monkeypatch.setattr("ray.nodes", list)
    monkeypatch.setattr("ray.init", lambda address, **_: addresses.append(address) or Session("10.0.0.1:8265"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with RayConnection(address).open():
            pass
    assert addresses == [address]
    assert capsys.readouterr().err == "Ray's dashboard: http://10.0.0.1:8265\n"


def test_ray_is_shut_down_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr("ray.init", lambda **_: calls.append("init") or Session(""))
    monkeypatch.setattr("ray.shutdown", lambda: calls.append("shutdown"))
    with pytest.raises(ZeroDivisionError), RayConnection().open():
        _ = 1 / 0
    assert calls == ["init", "shutdown"]


def test_a_node_that_dies_while_it_is_asked_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [node(8) | {"NodeID": name * 56, "NodeManagerAddress": f"10.0.0.{name}"} for name in "12"]
    views = iter([asked, [asked[0], asked[1] | {"Alive": False}]])
    monkeypatch.setattr("ray.nodes", lambda: next(views))
    task = SimpleNamespace(options=lambda scheduling_strategy: SimpleNamespace(remote=lambda _: scheduling_strategy))
    monkeypatch.setattr("ray.remote", lambda **_: lambda _: task)
    monkeypatch.setattr(connection, "_refusal", lambda there: f"says {there.node_id[0]}")
    with pytest.raises(InputError) as caught:
        connection._check_nodes()
    assert str(caught.value) == "node 10.0.0.1 says 1"


def test_an_existing_session_is_used_and_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("there is a session already"))
    monkeypatch.setattr("ray.shutdown", lambda: pytest.fail("the session is not ours"))
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    with ExistingRay().open():
        pass
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(JobError, match="not connected to Ray"), ExistingRay().open():
        pass
