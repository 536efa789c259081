"""SIGTERM, SIGINT and SIGHUP end a run with status 75, wherever its main thread is."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from diffusion_ode.distributed.interruption import Interrupted, Interruption

ROOT = Path(__file__).parents[2]
# `deaf` stays in C and lets go of the interpreter's lock, as XLA does while it compiles.
# The signals are what they are to a program of a terminal: nohup or a shell's background, in which
# the tests may run, lets some be ignored.
PROLOGUE = """
import ctypes, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
from diffusion_ode.distributed.interruption import Interruption
libc = ctypes.CDLL(None)
def deaf(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        libc.usleep(int(seconds * 1e6))
def ready():
    print("ready", flush=True)
def cleanup():
    print("saved", flush=True)
"""
LOOP = """
with Interruption() as interruption:
    ready()
    while not interruption.requested:
        time.sleep(0.01)
    cleanup()
    interruption.raise_if_requested()
print("never")
"""
DEAF = """
with Interruption() as interruption, interruption.immediately(cleanup):
    ready()
    deaf(20)
print("never")
"""
SLOW_CLEANUP = """
def slow():
    time.sleep(1)
    cleanup()
with Interruption() as interruption:
    with interruption.immediately(slow):
        ready()
        deaf(0.5)
    print("never")
"""
STUCK_CLEANUP = """
with Interruption() as interruption, interruption.immediately(lambda: time.sleep(20)):
    ready()
    deaf(20)
"""
IMPATIENT = STUCK_CLEANUP.replace("Interruption()", "Interruption(patience=0.3)")
FAILING_CLEANUP = """
def fail():
    raise OSError("no space left")
with Interruption() as interruption, interruption.immediately(fail):
    ready()
    deaf(20)
"""


def run(program: str, *signals: int, pause: float = 0.2) -> tuple[int, str, str]:
    """Status, output and errors of a program that gets the signals once it says `ready`."""
    command = [sys.executable, "-c", PROLOGUE + program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=ROOT, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        for number in signals:
            time.sleep(pause)
            process.send_signal(number)
        begin = time.monotonic()
        output, errors = process.communicate(timeout=30)
        assert time.monotonic() - begin < 5
        return process.returncode, output, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("program", [LOOP, DEAF, SLOW_CLEANUP], ids=["loop", "deaf", "slow"])
def test_a_signal_saves_and_exits_with_75(program, number):
    status, output, errors = run(program, number)
    assert (status, output) == (75, "saved\n")
    assert f"{signal.Signals(number).name}: " in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("program", [LOOP, DEAF], ids=["loop", "deaf"])
def test_a_lost_terminal_ends_nothing_that_ignores_it(program):
    """As after `nohup`; the signal that is not ignored comes when the other has been."""
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + program
    status, output, errors = run(ignoring, signal.SIGHUP, signal.SIGTERM)
    assert (status, output) == (75, "saved\n")
    assert "SIGHUP" not in errors
    assert "SIGTERM: " in errors


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_sigint_aborts_at_once(first):
    signals = [first, signal.SIGINT, signal.SIGINT][first == signal.SIGINT :]
    assert run(STUCK_CLEANUP, *signals)[0] == 130


def test_sigterm_again_changes_nothing():
    assert run(SLOW_CLEANUP, signal.SIGTERM, signal.SIGTERM)[:2] == (75, "saved\n")


def test_a_cleanup_that_fails_or_never_ends_does_not_claim_to_have_saved():
    status, _, errors = run(FAILING_CLEANUP, signal.SIGTERM)
    assert status == 1
    assert "no space left" in errors
    status, _, errors = run(IMPATIENT, signal.SIGTERM)
    assert status == 1
    assert "not saved" in errors


RECORDING = """
record = lambda outcome: print("recorded", outcome, flush=True)
"""


@pytest.mark.parametrize(
    ("program", "signals", "recorded"),
    [
        (DEAF, [signal.SIGTERM], "saved\nrecorded interrupted\n"),
        (FAILING_CLEANUP, [signal.SIGTERM], "recorded failed: no space left\n"),
        (IMPATIENT, [signal.SIGTERM], "recorded failed: not saved after 0 s\n"),
        (STUCK_CLEANUP, [signal.SIGTERM, signal.SIGINT, signal.SIGINT], "recorded aborted\n"),
    ],
    ids=["saved", "failed", "overdue", "aborted"],
)
def test_an_end_without_the_main_thread_is_recorded(program, signals, recorded):
    recording = program.replace("Interruption(", "Interruption(record=record, ")
    assert run(RECORDING + recording, *signals)[1] == recorded


def test_a_record_that_hangs_does_not_keep_the_process():
    recording = DEAF.replace("Interruption(", "Interruption(record=lambda _: deaf(20)")
    assert run(recording, signal.SIGTERM)[:2] == (75, "saved\n")


def test_interrupted_is_not_an_ordinary_exception():
    assert not issubclass(Interrupted, Exception)
    assert Interrupted().code == 75


def test_a_section_entered_after_the_signal_cleans_up_and_stops():
    cleaned = []
    with (
        pytest.raises(Interrupted, match="SIGTERM"),
        Interruption(report=lambda _: None) as interruption,
    ):
        signal.raise_signal(signal.SIGTERM)
        assert interruption.requested
        section = interruption.immediately(lambda: cleaned.append(1))
        with section:
            cleaned.append("never")
    assert cleaned == [1]


def test_a_signal_that_comes_when_all_is_done_stops_what_would_follow():
    with (
        pytest.raises(Interrupted, match="SIGTERM"),
        Interruption(report=lambda _: None) as interruption,
    ):
        interruption.raise_if_requested()  # the last question, before the signal
        signal.raise_signal(signal.SIGTERM)


def test_handlers_and_threads_are_put_back():
    watched = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = list(map(signal.getsignal, watched))
    threads = threading.active_count()
    with Interruption() as interruption, interruption.immediately(lambda: None):
        assert not interruption.requested
    assert list(map(signal.getsignal, watched)) == before
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_outside_the_main_thread_nothing_is_installed():
    seen = []

    def work():
        with Interruption() as interruption:
            seen.append(interruption.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


COMPILING = """
import jax, jax.numpy as jnp
def program(x):
    for k in range(40):
        x = jnp.linalg.svd(jnp.sort(x @ x.T + k))[0] + jnp.cumsum(x, axis=1)
    return x
lowered = jax.jit(program).lower(jnp.ones((50, 50)))
with Interruption() as interruption:
    begin = time.monotonic()
    with interruption.immediately(cleanup):
        ready()
        for _ in range(100):
            jax.clear_caches()
            lowered.compile()
    print("never")
"""


def test_a_signal_during_compilation_exits_with_75():
    assert run(COMPILING, signal.SIGTERM, pause=0.1)[:2] == (75, "saved\n")
