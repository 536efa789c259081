"""SIGTERM, SIGINT and SIGHUP: save, then exit with status 75; also while the main thread is in XLA.

Python runs signal handlers only between bytecodes of the main thread, which during compilation or
a long kernel is minutes away. Hence a second road: the interpreter's C handler writes the signal's
number into a socket at once (`signal.set_wakeup_fd`), and a thread that reads it can act.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from diffusion_ode.distributed import processes
from diffusion_ode.exit_statuses import ABORTED, FAILED, INTERRUPTED

_TIME_TO_RECORD = 1.0  # seconds; it takes milliseconds
_STOP_WATCHING = 0  # no signal has this number


class Interrupted(SystemExit):
    """The run was interrupted and everything is saved; leaves the process with status 75.

    It is no `Exception`, so that nothing which handles failures swallows it.
    """

    def __init__(self, message: str = "interrupted"):
        super().__init__(INTERRUPTED)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Interruption:
    """Watches for SIGTERM, SIGINT and SIGHUP as long as its context is open.

    The loop asks `agreed` at every step, saves, and raises `Interrupted`. Sections in which the
    main thread cannot ask are wrapped in `immediately`. A second SIGINT aborts at once.
    Outside the main thread nothing can be installed: then nothing is ever requested.
    """

    def __init__(
        self,
        report: Callable[[str], None] | None = None,
        record: Callable[[str], None] = lambda outcome: None,
        patience: float = 60.0,
        end: Callable[[int], None] = processes.leave,
    ):
        """Installs nothing yet; see the class.

        Args:
            report: takes one sentence for the screen.
            record: takes how the process ended where it ends without the main thread, which can
                then record nothing: "interrupted", "aborted" or "failed: …".
            patience: for a cleanup, in seconds.
            end: ends the process with a status, from another thread.
        """
        self._report = report or (lambda sentence: print(sentence, file=sys.stderr, flush=True))
        self._record = record
        self._patience = patience
        self._end = end
        self._vote = processes.Vote()
        self._elsewhere = False
        self._speaks = processes.is_leader()  # asked now: later JAX may be busy
        self._signal: signal.Signals | None = None
        self._announced = False
        self._sigints = 0
        self._cleanups: list[Callable[[], None]] = []
        self._leaving = False
        self._lock = threading.RLock()
        self._undo = contextlib.ExitStack()

    @property
    def requested(self) -> bool:
        """Whether a signal has asked this run to stop."""
        return self._signal is not None

    def raise_if_requested(self) -> None:
        """Raise `Interrupted` if a signal has asked for it; call it when all is saved."""
        if self._signal is not None:
            raise Interrupted(f"interrupted by {self._signal.name}")
        if self._elsewhere:
            raise Interrupted("interrupted, as another process was")

    def agreed(self) -> bool:
        """Whether any process has been asked to stop: all learn of it at the same step.

        With one process the same as `requested`; with several every one asks at every step.
        """
        self._elsewhere = self._vote(self.requested)
        return self._elsewhere

    @contextlib.contextmanager
    def immediately(self, cleanup: Callable[[], None]) -> Iterator[None]:
        """A section in which a signal ends the process without the main thread's help.

        The watching thread runs `cleanup` (wait for the asynchronous save, flush the logs) and
        exits with 75; with 1 if `cleanup` raises or takes longer than `patience`. Nothing of the
        section itself is saved. The innermost section's cleanup counts.

        Raises:
            Interrupted: a signal came before the section began (after running `cleanup`).
        """
        with self._lock:
            self._cleanups.append(cleanup)
            already = self.requested and not self._leaving
        try:
            if already:
                cleanup()
                self.raise_if_requested()
            yield
        finally:
            with self._lock:
                self._cleanups.pop()
                leaving = self._leaving
            while leaving:  # the process ends in the other thread: nothing more must happen here
                time.sleep(1)

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        watcher = threading.Thread(target=self._watch, args=(reader,), daemon=True)
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._undo.callback(reader.close)
        self._undo.callback(writer.close)
        self._undo.callback(watcher.join)
        self._undo.callback(writer.send, bytes([_STOP_WATCHING]))
        self._undo.callback(signal.set_wakeup_fd, previous)
        for number in (*_WATCHED, *_lost()):
            self._undo.callback(signal.signal, number, signal.signal(number, self._handle))
        watcher.start()
        return self

    def __exit__(self, _type: object, failure: BaseException | None, _trace: object) -> None:
        self._undo.close()
        if failure is None:  # it may have been asked when all was done but leaving
            self.raise_if_requested()

    def _handle(self, number: int, _frame: object) -> None:
        # The main thread's own view, so that `requested` is true on the very next line.
        self._signal = self._signal or signal.Signals(number)

    def _watch(self, reader: socket.socket) -> None:
        while True:
            for number in reader.recv(64):
                if number == _STOP_WATCHING:
                    return
                if number in (*_WATCHED, signal.SIGHUP):
                    self._note(signal.Signals(number))

    def _note(self, number: signal.Signals) -> None:
        self._sigints += number == signal.SIGINT
        if self._sigints > 1:
            self._leave_with(ABORTED, "aborted")
        with self._lock:
            self._signal = self._signal or number
            cleanup = self._cleanups[-1] if self._cleanups else None
            first, self._announced = not self._announced, True
            begin = cleanup is not None and not self._leaving
            self._leaving = self._leaving or begin
        # Threads of their own, as this one must stay awake for the second SIGINT.
        sentence = f"{number.name}: stopping after saving; a second SIGINT (Ctrl-C) aborts at once"
        announcement = threading.Thread(target=self._report, args=(sentence,), daemon=True)
        if first:
            announcement.start()
        if begin:
            leave = threading.Thread(target=self._leave, args=(cleanup,), daemon=True)
            leave.start()

    def _leave(self, cleanup: Callable[[], None]) -> None:
        def give_up() -> None:
            reason = f"not saved after {self._patience:.0f} s"
            print(f"{reason}: leaving", file=sys.stderr, flush=True)
            self._leave_with(FAILED, f"failed: {reason}")

        overdue = threading.Timer(self._patience, give_up)
        overdue.daemon = True
        overdue.start()
        status, outcome = INTERRUPTED, "interrupted"
        try:
            cleanup()
            if self._speaks:
                print("Interrupted; run the same command to go on.", file=sys.stderr)
        except BaseException as failure:
            status, outcome = FAILED, f"failed: {failure}"
            print(f"interrupted, and then: {failure}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            self._leave_with(status, outcome)

    def _leave_with(self, status: int, outcome: str) -> None:
        # In a thread of its own, as a disk that hangs must not keep the process.
        recording = threading.Thread(target=self._record, args=(outcome,), daemon=True)
        recording.start()
        recording.join(_TIME_TO_RECORD)
        if status == ABORTED:
            os._exit(status)
        self._end(status)


_WATCHED = (signal.SIGTERM, signal.SIGINT)


def _lost() -> tuple[signal.Signals, ...]:
    """A lost terminal's signal, unless it is ignored, as after `nohup`."""
    return () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
