"""What libraries' threads cannot raise stays off the screen where it is told already."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import asyncio, sys, threading
from launch.screen import quiet_about_closed_loops

class Careless:
    def __init__(self, act):
        self.act = act

    def __del__(self):
        self.act()

sys.unraisablehook = quiet_about_closed_loops
loop = asyncio.new_event_loop()
loop.close()
Careless(lambda: loop.call_soon_threadsafe(print))
Careless(lambda: 1 / 0)
"""


def test_a_loop_that_has_ended_is_no_news_and_another_error_is():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Event loop is closed" not in done.stderr
    assert "ZeroDivisionError" in done.stderr
