"""Several processes watch each other, so that none waits long for one that has gone.

A process that waits for a dead one does so within XLA or its transport, and is aborted from there
minutes later. So each holds a connection to the first one, the leader, who passes on what it hears.
A connection that ends without a farewell means that its process was killed, or its machine lost.
"""

import contextlib
import hmac
import ipaddress
import os
import secrets
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from diffusion_ode.exit_statuses import FAILED, INTERRUPTED

_KEY = "diffusion_ode/peer_watch"
_TOKEN_BYTES = 16
_LOST, _ENDED = 0, 1
_NOTE = struct.Struct("!Bii")  # lost or ended, which process, with what status

# Of a handshake between processes that have just met elsewhere: longer means that a firewall
# stands between them.
_MEETING = 15.0  # seconds
_HANDSHAKE = 5.0  # seconds, that a stranger may keep a thread busy
# A process whose peer has ended by itself usually does the same at the same time.
_GRACE = 10.0  # seconds
_TO_SAVE = 90.0  # seconds; a little more than an interruption's patience
_TO_PASS_ON = 3.0  # seconds that the leader waits for the others to have read the news
_TO_FLUSH = 1.0  # seconds; a screen that hangs must not keep the process
# A machine that vanishes closes nothing: noticed after 15 + 6 · 5 seconds without an answer.
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6}


class Store(Protocol):
    """Where the processes of a run leave each other notes: JAX's coordination service."""

    def key_value_set(self, key: str, value: str) -> None: ...

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str: ...


class PeerWatch:
    """Ends this process with one sentence and status 1 when another one has gone.

    Args:
      count: processes of the run.
      index: the number of this one, from 0.
      connections: to the others, by number: the leader's to all that could be reached, anybody
        else's to the leader.
      end: ends the process, whatever its main thread is waiting for.
    """

    def __init__(
        self,
        count: int,
        index: int,
        connections: dict[int, socket.socket],
        end: Callable[[int], object] = os._exit,
    ):
        self._count = count
        self._index = index
        self._connections = connections
        self._end = end
        self._open = set(connections)
        self._ended: dict[int, int] = {}  # with what status
        self._leaving = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begins to watch, beside everything else."""
        threading.Thread(target=self._listen, daemon=True, name="peer watch").start()

    @property
    def ended_badly(self) -> tuple[int, int] | None:
        """The first process that has ended with another status than 0, and its status."""
        return next(((number, status) for number, status in self._ended.items() if status), None)

    def farewell(self, status: int, patience: float = 0.0) -> None:
        """Tells the others that this process ends, and why; from now on it watches no more.

        Args:
          status: with which it ends; unless it is 0 the others end soon, too.
          patience: seconds to wait until they have gone.
        """
        with self._lock:
            self._leaving = True
        self._tell(self._connections, _ENDED, self._index, status)
        self._wait_for_others(patience)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for number, connection in self._connections.items():
                selector.register(connection, selectors.EVENT_READ, number)
            while selector.get_map():
                for key, _ in selector.select():
                    connection, sender = self._connections[key.data], key.data
                    note = _received(connection, _NOTE.size)
                    if note is not None:
                        self._hear(sender, *_NOTE.unpack(note))
                        continue
                    selector.unregister(connection)
                    self._open.discard(sender)
                    if sender not in self._ended:
                        self._lose(sender)

    def _hear(self, sender: int, kind: int, number: int, status: int) -> None:
        if kind == _LOST:
            self._lose(number)
        elif number not in self._ended:
            self._ended[number] = status
            if status:  # else it waits for nobody, and nobody for it
                self._tell(self._all_but(sender), kind, number, status)
                later(_GRACE, self._left_behind, number, status)

    def _lose(self, number: int) -> None:
        self._leave(
            f"Process {number} of {self._count} has gone without a word (killed, or its machine"
            " lost): what was saved is kept; start the same command again, in all processes, to"
            " go on.",
            lost=number,
        )

    def _left_behind(self, number: int, status: int) -> None:
        """What remains to be done if this process still waits for one that has ended."""
        sentence = (
            f"Process {number} of {self._count} has ended with status {status}, and this one"
            " cannot go on without it: what was saved is kept; see what that one said, then start"
            " the same command again, in all processes, to go on."
        )
        if status != INTERRUPTED:
            self._leave(sentence)
        elif not self._leaving:  # it saved what it had: so does this one
            os.kill(os.getpid(), signal.SIGTERM)
            later(_TO_SAVE, self._leave, sentence)

    def _leave(self, sentence: str, lost: int | None = None) -> None:
        with self._lock:
            if self._leaving:
                return
            self._leaving = True
        if lost is not None:
            self._tell(self._all_but(lost), _LOST, lost, 0)
        _say(sentence)
        # In a thread of its own: this one sees whether the others have gone.
        threading.Thread(target=self._leave_last, daemon=True).start()

    def _leave_last(self) -> None:
        self._tell(self._connections, _ENDED, self._index, FAILED)
        self._wait_for_others(_TO_PASS_ON if self._index == 0 else 0.0)
        self._end(FAILED)

    def _wait_for_others(self, patience: float) -> None:
        end = time.monotonic() + patience
        while self._open and time.monotonic() < end:
            time.sleep(0.01)

    def _all_but(self, number: int) -> set[int]:
        return self._connections.keys() - {number}

    def _tell(self, numbers: Iterable[int], kind: int, about: int, status: int) -> None:
        for number in numbers:
            with contextlib.suppress(OSError):  # it has gone already
                self._connections[number].sendall(_NOTE.pack(kind, about, status))


def meet(count: int, index: int, host: str, store: Store) -> dict[int, socket.socket]:
    """Together: the connections that a `PeerWatch` holds.

    The leader listens at its address, on a port that the system chooses, until all have come, no
    longer, and lets in whoever shows the token that it left in the store. Nobody is left out for
    being unreachable: a network may be closed but for the coordinator's port; then fewer are
    watched.

    Args:
      count: processes of the run, which have all reached the store.
      index: the number of this one, from 0.
      host: by which all of them know the leader's machine.
      store: of the run.
    """
    if index == 0:
        return _receive_all(count, host, store)
    with contextlib.suppress(Exception):  # whatever the store and the network are up to
        port, token = store.blocking_key_value_get(_KEY, round(1000 * _MEETING)).split()
        connection = socket.create_connection((host, int(port)), timeout=_MEETING)
        connection.sendall(bytes.fromhex(token) + index.to_bytes(4, "big"))
        if _received(connection, 1) is not None:
            return {0: _kept(connection)}
    return {}


def _receive_all(count: int, host: str, store: Store) -> dict[int, socket.socket]:
    token = secrets.token_bytes(_TOKEN_BYTES)
    arrived: dict[int, socket.socket] = {}
    lock = threading.Lock()

    def receive(connection: socket.socket) -> None:
        connection.settimeout(_HANDSHAKE)
        shown = _received(connection, _TOKEN_BYTES + 4) or b""
        number = int.from_bytes(shown[_TOKEN_BYTES:], "big")
        known = hmac.compare_digest(shown[:_TOKEN_BYTES], token)
        with lock:
            if known and 0 < number < count and number not in arrived:
                with contextlib.suppress(OSError):
                    connection.sendall(b"\0")
                    arrived[number] = _kept(connection)
                    return
        connection.close()

    with _listener(host, count) as listener:
        store.key_value_set(_KEY, f"{listener.getsockname()[1]} {token.hex()}")
        end = time.monotonic() + _MEETING
        listener.settimeout(0.05)
        while len(arrived) < count - 1 and time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                threading.Thread(target=receive, args=(connection,), daemon=True).start()
    with lock:
        return dict(arrived)


def _listener(host: str, count: int) -> socket.socket:
    """At the address by which the others know this machine, on a port that is free."""
    address = own_address(host)
    if address is not None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, 0), family=family, backlog=count)
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=count
        )
    return socket.create_server(("", 0), backlog=count)


def own_address(host: str) -> str | None:
    """The address of one of this machine's interfaces that `host` names; None: listen on all.

    A name may stand for several of them, for what only forwards to this machine, or be looked up as
    this machine's loopback address, where no other one would find it.
    """
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
        (address,) = found
        numeric = ipaddress.ip_address(address)
        if (numeric.is_loopback and host != address) or numeric.is_unspecified:
            return None
        family = socket.AF_INET6 if numeric.version == 6 else socket.AF_INET
        socket.create_server((address, 0), family=family).close()
    except (OSError, ValueError):
        return None
    return address


def _kept(connection: socket.socket) -> socket.socket:
    """The connection, made to last as long as the machine at its other end."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _received(connection: socket.socket, size: int) -> bytes | None:
    """That many bytes; None if the connection ends, or its time limit, before."""
    content = b""
    try:
        while len(content) < size:
            more = connection.recv(size - len(content))
            if not more:
                return None
            content += more
    except OSError:
        return None
    return content


def later(seconds: float, act: Callable[..., object], *arguments: object) -> threading.Timer:
    """Acts after that time, unless cancelled or ended before."""
    timer = threading.Timer(seconds, act, arguments)
    timer.daemon = True
    timer.start()
    return timer


def _say(sentence: str) -> None:
    """On the screen, past a main thread that may hold Python's own streams."""
    flushing = threading.Thread(target=sys.stdout.flush, daemon=True)
    flushing.start()
    flushing.join(_TO_FLUSH)
    over_a_line_of_progress = "\r\x1b[K" if os.isatty(2) else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{over_a_line_of_progress}{sentence}\n".encode())
