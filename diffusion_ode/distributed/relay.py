"""A way to the coordinator that does not end when the coordinator does.

JAX aborts a process as soon as its connection to the first one closes, from within, with a stack of
C++. Led through here the connection just falls silent, and whoever watches the peers can end this
process in its own way; see `peer_watch`.
"""

import contextlib
import socket
import threading

_TO_CONNECT = 10.0  # seconds; JAX tries again
_CHUNK = 1 << 16  # bytes


class Relay:
    """Passes on what this process and the coordinator tell each other: a few messages a second.

    Args:
      host, port: of the coordinator, which need not be there yet.
    """

    def __init__(self, host: str, port: int):
        self._coordinator = (host, port)
        self._holds = False
        self._held: list[socket.socket] = []  # closed if nobody knew them
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True, name="relay").start()

    @property
    def address(self) -> str:
        """What JAX is told to be the coordinator's address."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def hold(self) -> None:
        """From now on the end of the coordinator is not passed on."""
        self._holds = True

    def _accept(self) -> None:
        while True:
            here, _ = self._listener.accept()
            threading.Thread(target=self._connect, args=(here,), daemon=True).start()

    def _connect(self, here: socket.socket) -> None:
        try:
            there = socket.create_connection(self._coordinator, timeout=_TO_CONNECT)
        except OSError:
            here.close()
            return
        there.settimeout(None)
        for connection in (here, there):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held += [here, there]
        threading.Thread(target=self._pass_on, args=(there, here), daemon=True).start()
        _copy(here, there)
        _close(there)

    def _pass_on(self, there: socket.socket, here: socket.socket) -> None:
        _copy(there, here)
        if not self._holds:
            _close(here)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(_CHUNK):
            sink.sendall(content)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
