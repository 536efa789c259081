"""Processes that watch each other, here as threads with connections of their own."""

import contextlib
import signal
import socket
import threading
import time

import pytest

from diffusion_ode.distributed import peer_watch
from diffusion_ode.distributed.peer_watch import PeerWatch, meet, own_address
from diffusion_ode.distributed.relay import Relay

PATIENCE = 20  # seconds; a busy machine's


class Store:
    """What JAX's coordination service keeps."""

    def __init__(self):
        self._values = {}
        self._changed = threading.Condition()

    def key_value_set(self, key, value):
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def blocking_key_value_get(self, key, timeout_in_ms):
        with self._changed:
            self._changed.wait_for(lambda: key in self._values, timeout_in_ms / 1000)
            return self._values[key]


class Group:
    """Three processes that have met."""

    def __init__(self, count=3, store=None):
        self.connections, self.statuses = {}, {}
        store = store or Store()

        def join(index):
            self.connections[index] = meet(count, index, "localhost", store)

        threads = [threading.Thread(target=join, args=(index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.watches = [
            PeerWatch(count, i, self.connections[i], lambda status, i=i: self._note(i, status))
            for i in range(count)
        ]
        for watch in self.watches:
            watch.start()

    def _note(self, index, status):
        self.statuses[index] = status
        self.kill(index)

    def kill(self, index):
        """What the system does with the connections of a process, which then acts no more."""
        self.watches[index]._leaving = True
        for connection in self.connections[index].values():
            with contextlib.suppress(OSError):  # the other end was faster
                connection.shutdown(socket.SHUT_RDWR)

    def ended(self, count):
        end = time.monotonic() + PATIENCE
        while len(self.statuses) < count and time.monotonic() < end:
            time.sleep(0.01)
        return self.statuses


@pytest.mark.parametrize("victim", [0, 2])
def test_the_others_end_and_name_the_one_that_was_killed(victim, capfd):
    group = Group()
    group.kill(victim)
    assert group.ended(2) == {number: 1 for number in range(3) if number != victim}
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith(f"Process {victim} of 3 has gone without a word") for line in said)


def test_those_that_have_all_done_their_work_part_without_a_word(capfd):
    group = Group()
    for index, watch in enumerate(group.watches):
        watch.farewell(0)
        group.kill(index)
    time.sleep(0.2)
    assert group.statuses == {}
    assert capfd.readouterr().err == ""


def test_those_that_wait_for_one_that_was_refused_end_after_a_grace(monkeypatch, capfd):
    monkeypatch.setattr(peer_watch, "_GRACE", 0.1)
    group = Group()
    group.watches[1].farewell(2)
    group.kill(1)
    assert group.ended(2) == {0: 1, 2: 1}
    assert capfd.readouterr().err.count("Process 1 of 3 has ended with status 2") == 2


def test_those_that_are_refused_together_say_nothing_of_each_other(monkeypatch, capfd):
    monkeypatch.setattr(peer_watch, "_GRACE", 0.1)
    group = Group()
    for index in (1, 2, 0):
        group.watches[index].farewell(2, patience=1.0 if index == 0 else 0.0)
        group.kill(index)
    time.sleep(0.3)
    assert group.statuses == {}
    assert capfd.readouterr().err == ""


def test_one_that_waits_for_an_interrupted_one_is_interrupted_too(monkeypatch):
    monkeypatch.setattr(peer_watch, "_GRACE", 0.0)
    interrupted = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: interrupted.append(number))
    try:
        group = Group(count=2)
        group.watches[1].farewell(75)
        group.kill(1)
        end = time.monotonic() + PATIENCE
        while not interrupted and time.monotonic() < end:
            time.sleep(0.01)
        assert interrupted
        assert group.watches[0].ended_badly == (1, 75)
        assert group.statuses == {}
    finally:
        signal.signal(signal.SIGTERM, previous)


class StrangersFirst(Store):
    """Before anybody else learns of the port, strangers knock."""

    def key_value_set(self, key, value):
        port = int(value.split()[0])
        self.silent, self.wrong = (
            socket.create_connection(("localhost", port), timeout=PATIENCE) for _ in range(2)
        )
        self.wrong.sendall(bytes(16) + (1).to_bytes(4, "big"))
        super().key_value_set(key, value)


def test_strangers_neither_come_in_nor_keep_the_others_out():
    store = StrangersFirst()
    group = Group(store=store)
    assert sorted(group.connections[0]) == [1, 2]
    assert store.wrong.recv(1) == b""  # turned away
    store.silent.close()
    time.sleep(0.1)
    assert group.statuses == {}


def test_who_cannot_be_reached_is_not_watched_and_not_refused(monkeypatch):
    monkeypatch.setattr(peer_watch, "_MEETING", 0.2)
    assert meet(2, 0, "localhost", Store()) == {}
    assert meet(2, 1, "localhost", Store()) == {}


@pytest.mark.parametrize("holds", [True, False])
def test_the_way_to_the_coordinator_outlives_it_where_the_peers_are_watched(holds):
    with socket.create_server(("127.0.0.1", 0)) as coordinator:
        relay = Relay(*coordinator.getsockname()[:2])
        host, _, port = relay.address.partition(":")
        process = socket.create_connection((host, int(port)), timeout=PATIENCE)
        there, _ = coordinator.accept()
        process.sendall(b"heart")
        assert there.recv(5) == b"heart"
        there.sendall(b"beat")
        assert process.recv(4) == b"beat"
        if holds:
            relay.hold()
        there.close()
    if not holds:
        assert process.recv(1) == b""
        return
    process.settimeout(0.2)
    with pytest.raises(TimeoutError):
        process.recv(1)


def test_a_name_that_is_no_address_of_this_machine_alone_leaves_all_interfaces_open(monkeypatch):
    assert own_address("127.0.0.1") == "127.0.0.1"
    assert own_address("192.0.2.1") is None  # of a network for documentation, that nobody has
    assert own_address("0.0.0.0") is None
    assert own_address("no such host") is None

    def looked_up(*addresses):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 0)) for a in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        return own_address("node1")

    assert looked_up("127.0.1.1") is None  # as Debian names its own machine
    assert looked_up("10.0.0.1", "10.1.0.1") is None
