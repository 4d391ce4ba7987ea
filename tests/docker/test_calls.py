"""Every call of the protocol, made by a client to a plugin that really listens."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading

import pytest

import graphdriver
from graphdriver import Change, ChangeKind, Handler, IDMap
from graphdriver.docker.client import Client
from graphdriver.docker.request_messages import Request
from graphdriver.errors import GraphDriverError, RemoteError, UnreachableError
from tests.support.plugin import Plugin
from tests.support.tarbox import TarBox
from tests.support.waiting import wait_until


def made(client: Client, id: str, tar: bytes = b"tar") -> None:
    client.create(id, "", "", {})
    client.apply_diff(id, "", io.BytesIO(tar))


def read_all(client: Client, id: str) -> bytes:
    stream = client.diff(id, "")
    try:
        return b"".join(iter(lambda: stream.read(100_000), b""))
    finally:
        stream.close()


def test_a_plugin_says_that_it_is_a_graph_driver(plugin: Plugin) -> None:
    with plugin.client() as client:
        assert client.activate() == ("GraphDriver",)


def test_init_reaches_the_driver_with_all_that_was_said(plugin: Plugin) -> None:
    maps = [IDMap(0, 100000, 65536)]
    with plugin.client() as client:
        client.init(plugin.home, ["a=b"], maps, maps)
    assert plugin.box.inits == [(plugin.home, ["a=b"], maps)]
    assert os.stat(plugin.home).st_mode & 0o777 == 0o710
    assert os.stat(plugin.home).st_gid == 100000


def test_every_call_does_what_its_name_says(ready: Plugin) -> None:
    with ready.client() as client:
        client.create("base", "", "", {})
        assert client.apply_diff("base", "", io.BytesIO(b"x" * 300_000)) == 300_000
        client.create_read_write("top", "base", "", {})
        assert client.exists("base")
        assert not client.exists("other")
        assert client.get("base", "") == f"{ready.home}/base"
        client.put("base")
        assert ready.box.held == {"base": 0}
        assert client.get_metadata("base") == {"Tar": f"{ready.home}/base"}
        added = (("Sync", "layer"), ("Plugin Version", graphdriver.__version__))
        assert client.status() == (("Z", "first"), ("A", "second"), *added)
        assert client.diff_size("base", "") == 300_000
        assert read_all(client, "base") == b"x" * 300_000
        assert client.changes("base", "") == (
            Change("/a\ufffd", ChangeKind.ADDED),
            Change("/b", ChangeKind.DELETED),
        )
        assert client.capabilities().reproduces_exact_diffs
        client.remove("top")
        client.remove("never-there")
        client.cleanup()
        assert not client.exists("top")


def test_a_drivers_error_names_call_layer_and_cause(ready: Plugin) -> None:
    with ready.client() as client, pytest.raises(RemoteError) as caught:
        client.create("top", "91aa", "", {})
    assert str(caught.value) == "create top: parent 91aa does not exist"
    assert caught.value.status == 500


def test_a_call_before_init_is_refused_with_the_reason(plugin: Plugin) -> None:
    with (
        plugin.client() as client,
        pytest.raises(RemoteError, match="the plugin is not initialised"),
    ):
        client.get("a", "")


def test_a_diff_that_fails_later_is_broken_off_and_never_ended(ready: Plugin) -> None:
    with ready.client() as client:
        made(client, "a", b"x" * 2_000_000)
        with open(f"{ready.home}/a/break", "w") as file:
            file.write("1000000")
        with pytest.raises(GraphDriverError, match="broke"):
            read_all(client, "a")
        assert client.exists("a")
    wait_until(lambda: ready.box.open_streams == 0)


class OddError(Exception):
    """An error that cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError


class BareError(GraphDriverError):
    """One of the tree that was never made as the tree says."""

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GraphDriverError("no room", hint="make some"), "get a: no room; make some"),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            "get a: No such file or directory: /x",
        ),
        (OSError(5, "Input/output error"), "get a: the filesystem or its disk failed (see dmesg)"),
        (
            OSError(28, "No space left on device"),
            "get a: no space or no inodes are left on the filesystem",
        ),
        (OSError("odd"), "get a: OSError: odd"),
        (KeyError("a"), "get a: KeyError: 'a'"),
        (RecursionError(), "get a: RecursionError: "),
        (
            MemoryError(),
            "get a: no memory is left for this process (see RLIMIT_AS and its cgroup)",
        ),
        (ValueError("\udcff\ud800\0\n"), "get a: ValueError: \ufffd\ufffd\0\n"),
        (OddError(), "get a: OddError, which cannot be put into words"),
        (BareError(), "get a: BareError, which cannot be put into words"),
        (SystemExit(1), "get a: SystemExit: 1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_driver_raises_is_an_answer(
    ready: Plugin, error: BaseException, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(id: str, mount_label: str) -> str:
        raise error

    with ready.client() as client:
        made(client, "a")
        monkeypatch.setattr(ready.box, "get", fail)
        for _ in range(2):
            with pytest.raises(RemoteError) as caught:
                client.get("a", "")
            assert str(caught.value) == said
            assert caught.value.status == 500
        assert client.exists("a")


def test_a_call_that_ends_its_thread_runs_no_more(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(id: str, mount_label: str) -> str:
        raise KeyboardInterrupt

    with ready.client() as client:
        made(client, "a")
        monkeypatch.setattr(ready.box, "get", fail)
        with pytest.raises(KeyboardInterrupt):
            ready.handler.handle(
                Request("POST", "/GraphDriver.Get", "", io.BytesIO(b'{"ID": "a"}'))
            )
        assert ready.handler.running() == []
        assert client.exists("a")


@pytest.mark.parametrize("answered", [None, 7, b"/path", object()])
def test_what_no_driver_may_answer_is_an_error(
    ready: Plugin, answered: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready.box, "get", lambda *_: answered)
    with ready.client() as client:
        made(client, "a")
        with pytest.raises(RemoteError, match=r"^get a: ") as caught:
            client.get("a", "")
        assert caught.value.status == 500
        assert client.exists("a")


def test_what_a_driver_returns_where_nothing_is_asked_for_is_ignored(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("init", "create", "create_read_write", "put", "remove", "cleanup")
    for method in methods:
        made_by = getattr(ready.box, method)
        monkeypatch.setattr(ready.box, method, lambda *given, call=made_by: [call(*given)])
    with ready.client() as client:
        client.init(ready.home, [], [], [])
        client.create("a", "", "", {})
        client.create_read_write("b", "", "", {})
        client.get("a", "")
        client.put("a")
        client.remove("b")
        assert client.exists("a")
        assert not client.exists("b")
        client.cleanup()


def test_calls_for_one_layer_wait_for_each_other_and_others_do_not(ready: Plugin) -> None:
    box = ready.box
    with ready.client() as client:
        made(client, "a")
        made(client, "b")
        box.pause.clear()
        getters = [threading.Thread(target=client.get, args=("a", "")) for _ in range(4)]
        for getter in getters:
            getter.start()
        while not box.inside.get("a"):
            threading.Event().wait(0.01)
        assert client.exists("b")  # not held up
        box.pause.set()
        for getter in getters:
            getter.join()
    assert box.overlaps == []
    assert box.held["a"] == 4


def test_no_layer_is_removed_or_filled_while_another_is_made_of_it(ready: Plugin) -> None:
    box = ready.box
    with ready.client() as client:
        client.create("a", "", "", {})
        box.pause.clear()
        making = threading.Thread(target=client.create, args=("b", "a", "", {}))
        making.start()
        wait_until(lambda: box.inside.get("b"))
        assert client.exists("a")  # a call for it alone does not wait
        removing = threading.Thread(target=client.remove, args=("a",))
        removing.start()
        threading.Event().wait(0.1)
        assert ("remove", "a") not in box.calls
        box.pause.set()
        making.join()
        removing.join()
        assert ("remove", "a") in box.calls
        assert client.exists("b")


def test_other_calls_are_answered_while_a_diff_is_read(ready: Plugin) -> None:
    with ready.client() as client:
        made(client, "a", b"x" * 5_000_000)
        stream = client.diff("a", "")
        assert stream.read(10)
        client.create("b", "a", "", {})
        client.apply_diff("b", "a", io.BytesIO(b"y"))
        client.remove("b")
        assert client.get("a", "")
        stream.close()


def test_a_restarted_plugin_serves_the_home_without_a_new_init(ready: Plugin) -> None:
    with ready.client() as client:
        made(client, "a")
        ready.restart()
        assert read_all(client, "a") == b"tar"
    assert [home for home, _, _ in ready.box.inits] == [ready.home]


def test_what_is_no_call_is_told_so(ready: Plugin) -> None:
    def status(method: str, path: str, body: bytes = b"") -> int:
        request = Request(method, path, "", io.BytesIO(body))
        answer = ready.handler.handle(request)
        assert isinstance(answer.body, bytes)
        assert set(json.loads(answer.body)) == {"Err", "Kind"}
        return answer.status

    assert status("POST", "/GraphDriver.Fly") == 404
    assert status("GET", "/GraphDriver.Get") == 405
    assert status("POST", "/GraphDriver.Get") == 400
    assert status("POST", "/GraphDriver.Get", b"x" * (1 << 20)) == 400
    assert status("POST", "/GraphDriver.Get", b"x" * ((1 << 20) + 1)) == 413
    assert ready.box.calls == []


def test_the_sync_option_is_the_frameworks_and_never_reaches_the_driver(plugin: Plugin) -> None:
    with plugin.client() as client:
        client.init(plugin.home, ["sync=none", "x=y"], [], [])
        assert plugin.box.inits[-1][1] == ["x=y"]
        with pytest.raises(RemoteError, match="sync is 'layer'"):
            client.init(plugin.home, ["sync=often"], [], [])


def test_two_processes_on_one_home_are_refused_naming_both(ready: Plugin) -> None:
    init = b'{"Home":"%s"}' % ready.home.encode()
    with contextlib.closing(Handler(ready.box)) as second:
        answer = second.handle(Request("POST", "/GraphDriver.Init", "", io.BytesIO(init)))
    assert answer.status == 500
    assert f"in use by process {os.getpid()}".encode() in bytes(answer.body)  # type: ignore[arg-type]


def test_a_home_of_another_driver_is_refused_naming_both_before_it_is_touched(
    ready: Plugin,
) -> None:
    class Other(TarBox):
        pass

    ready.stop()
    os.unlink(ready.folder / "state/init.json")  # else it does not start
    ready.box = Other()
    ready.start()
    with ready.client() as client, pytest.raises(RemoteError, match=r"'TarBox'.*'Other'"):
        client.init(ready.home, [], [], [])
    assert ready.box.inits == []


def test_a_home_is_bound_to_what_was_promised_about_exact_diffs(ready: Plugin) -> None:
    ready.stop()
    os.unlink(ready.folder / "state/init.json")  # else it does not start
    ready.box = TarBox()
    ready.box.exact = False
    ready.start()
    with ready.client() as client, pytest.raises(RemoteError, match="promise of exact diffs"):
        client.init(ready.home, [], [], [])


def test_a_client_says_when_nobody_is_there(plugin: Plugin) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        Client(plugin.path + "-not").status()
