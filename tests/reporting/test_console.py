"""The screen and its log."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_ode.reporting.console import Console
from diffusion_ode.reporting.progress import Progress, duration, rate

ROOT = Path(__file__).parents[2]


class Terminal(io.StringIO):
    """A terminal: what one sees in the end, and each state of its live line."""

    def isatty(self):
        return True

    @property
    def drawn(self) -> list[str]:
        """Every line that was drawn, also those that were drawn over."""
        return re.sub(r"\x1b\[\d*[A-Z]|\r", "\0", self.getvalue()).replace("\n", "\0").split("\0")

    @property
    def seen(self) -> str:
        """The lines that stay."""
        return re.sub(r"[^\n]*(\r\x1b\[2K)+", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def test_a_terminal_has_one_live_line_that_never_wraps(terminal):
    with Console(stream=terminal) as console:
        console.progress("first")
        console.progress("x" * 100)
        console.print("a sentence")
        console.progress("second")
    assert terminal.seen == "a sentence\nsecond\n"
    assert "first" in terminal.drawn
    assert max(map(len, terminal.drawn)) == 80


def test_a_terminal_keeps_its_cursor_even_if_the_process_is_ended(terminal):
    Console(stream=terminal).progress("first")
    assert "\x1b[?25l" not in terminal.getvalue()


def test_a_long_sentence_is_never_cut(terminal):
    Console(stream=terminal).print("word " * 100 + "[not markup] :smile:")
    assert terminal.getvalue() == "word " * 100 + "[not markup] :smile:\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_file_and_a_dumb_terminal_get_a_line_now_and_then(stream, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    screen = stream()
    with Console(stream=screen) as console:
        for step in range(100):
            console.progress(f"step {step}")
        console.end_progress("step 100")
    assert screen.getvalue() == "step 0\nstep 100\n"


def test_everything_printed_is_in_the_log_with_its_time(tmp_path, terminal):
    for word in ("one", "two"):
        with Console(tmp_path / "new" / "log.txt", terminal) as console:
            console.print(f"{word}\nand more ±")
            console.progress("far")
    lines = (tmp_path / "new" / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line[21:] for line in lines] == ["one", "and more ±", "far", "two", "and more ±", "far"]
    assert lines[0][:2] == "20"


def test_a_log_that_is_begun_later_has_all_that_was_printed_before(tmp_path, terminal):
    with Console(stream=terminal) as console:
        console.print("one")
        logging.getLogger("absl").error("a traceback")
        assert not list(tmp_path.iterdir())
        console.log_to(tmp_path / "log.txt")
        logging.getLogger("absl").error("another")
        console.print("two")
    assert [line[-12:].split()[-1] for line in (tmp_path / "log.txt").open()] == [
        *("one", "traceback", "another", "two")
    ]


def test_a_screen_without_our_signs_spells_them_or_shows_a_question_mark():
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(stream=screen).print("2.1 ± 0.1 of ε")
    screen.seek(0)
    assert screen.read() == "2.1 +/- 0.1 of ?\n"


def test_a_closed_pipe_does_not_end_the_run(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, Console(tmp_path / "log.txt", stream) as console:
        console.print("one")
        console.print("two")
        console.progress("three")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # else closing the file complains
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 3


NOISY = """
import logging, sys, pathlib
from diffusion_ode.reporting.console import Console
with Console(pathlib.Path(sys.argv[1])):
    logging.getLogger("absl").error("a traceback")
    logging.getLogger("absl").info("chatter")
"""


def test_noise_of_libraries_goes_into_the_log(tmp_path):
    command = [sys.executable, "-c", NOISY, str(tmp_path / "log.txt")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout + result.stderr == ""
    assert (tmp_path / "log.txt").read_text() == "a traceback\n"


def test_progress_tells_speed_and_time_left(terminal):
    now = iter([0.0, 10.0, 20.0])
    progress = Progress(Console(stream=terminal), "step", 5000, clock=lambda: next(now))
    progress.update(0, "4.1 bpd")
    progress.update(100, "2.15 bpd", "1.3k images/s")
    assert progress.speed() == 10.0
    progress.update(200)
    progress.end()
    lines = [line for line in terminal.drawn if line]
    assert lines[0] == "step 0/5000 · 4.1 bpd"
    assert lines[1] == "step 100/5000 · 2.15 bpd · 1.3k images/s · 8 min left"
    assert terminal.seen == "step 200/5000 · 8 min left\n"


def test_images_that_come_in_batches_leave_the_time_that_their_batches_take(terminal):
    batches = ((0.0, range(1, 129)), (480.0, range(129, 257)))
    now = iter([start + k / 1000 for start, images in batches for k in range(len(images))])
    progress = Progress(Console(stream=terminal), "image", 512, clock=lambda: next(now))
    for _, images in batches:
        for done in images:
            progress.update(done)
    assert progress.speed() == 128 / 480
    progress.end()
    assert terminal.seen == "image 256/512 · 16 min left\n"


def test_a_pause_is_no_part_of_the_speed(terminal):
    now = iter([0.0, 10.0, 10.0, 50.0, 60.0])
    progress = Progress(Console(stream=terminal), "step", 5000, clock=lambda: next(now))
    progress.update(0)
    progress.update(100)
    with progress.pause():
        pass
    progress.update(200)
    assert progress.speed() == 10.0


def test_progress_draws_no_faster_than_eyes_read(terminal):
    now = iter(k / 1000 for k in range(1000))
    progress = Progress(Console(stream=terminal), "image", 1000, clock=lambda: next(now))
    for done in range(1000):
        progress.update(done)
    assert sum(line.startswith("image") for line in terminal.drawn) == 5


def test_durations_and_rates_are_short():
    seconds = (3, 59.4, 90, 3599, 7500, 90_000)
    assert [duration(s) for s in seconds] == [
        "3 s", "59 s", "2 min", "1 h 00 min", "2 h 05 min", "1 d 1 h",
    ]  # fmt: skip
    rates = (0.824, 85.31, 999.4, 999.7, 3120, 2.5e6)
    assert [rate(r) for r in rates] == ["0.824", "85.3", "999", "1k", "3.12k", "2.5M"]


ON_A_TERMINAL = """
from diffusion_ode.reporting.console import Console
with Console() as console:
    console.progress("step 1")
    console.print("done")
"""


def test_a_real_terminal_is_recognised():
    main, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    subprocess.run(
        [sys.executable, "-c", ON_A_TERMINAL], stdout=child, env=environment, check=True, cwd=ROOT
    )
    shown = os.read(main, 1000).decode()
    assert shown.startswith("step 1\r\x1b[2Kdone")
