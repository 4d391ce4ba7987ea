"""Each process that connects is logged once."""

from __future__ import annotations

import logging
import os
import socket

import pytest

from graphdriver.linux.unix_sockets import Credentials, peer_of
from graphdriver.serving.peers import PeerLog


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_the_kernel_names_the_process_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        assert peer_of(ours) == Credentials(os.getpid(), os.geteuid(), os.getegid())


def test_a_process_is_logged_once_however_often_it_connects(log: pytest.LogCaptureFixture) -> None:
    peers = PeerLog()
    mine = Credentials(os.getpid(), 0, 0)
    for _ in range(3):
        peers.note(mine)
    with open("/proc/self/comm", encoding="utf-8") as file:
        name = file.read().strip()
    assert log.messages == [f"process {os.getpid()} ({name}) of user 0 connected"]
    peers.note(mine._replace(uid=1000))  # the same process, as another user
    assert log.messages[1:] == [f"process {os.getpid()} ({name}) of user 1000 connected"]


def test_a_process_that_cannot_be_seen_is_logged_too(log: pytest.LogCaptureFixture) -> None:
    PeerLog().note(Credentials(0, 5, 5))
    PeerLog().note(Credentials(1 << 30, 6, 6))  # has ended
    assert log.messages == [
        "process 0 (in another PID namespace) of user 5 connected",
        f"process {1 << 30} () of user 6 connected",
    ]


def test_the_log_of_many_callers_does_not_grow_in_memory(log: pytest.LogCaptureFixture) -> None:
    peers = PeerLog()
    for pid in range(1 << 29, (1 << 29) + 1000):
        peers.note(Credentials(pid, 0, 0))
    assert len(log.messages) == 1000
    assert len(peers._logged) < 100
