"""Readers of foreign files under a limit on memory and time, each in a process that it may kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PROLOGUE = """
import json, resource, signal, sys, time
{imports}
from diffusion_ode.errors import UserError

def attempt(read):
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + {megabytes} * 10**6, resource.RLIM_INFINITY))
    signal.alarm({seconds})
    try:
        return f"read {{read()!r:.99}}"
    except UserError as refusal:
        return f"refused: {{refusal}}"
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)

signal.signal(signal.SIGALRM, lambda *_: sys.exit("too slow"))
"""


def attempts(imports: str, reads: dict[str, str], *, megabytes: int, seconds: int = 10) -> dict:
    """What came of each expression, by its name: `read …` or `refused: …`.

    Args:
      imports: what the expressions use.
      reads: Python expressions by name.
      megabytes: that each may take, as an address space, besides what was there before.
      seconds: of the clock that each may take.
    """
    listed = ", ".join(f"{name!r}: lambda: {read}" for name, read in reads.items())
    script = _PROLOGUE.format(imports=imports, megabytes=megabytes, seconds=seconds) + (
        f"for name, read in {{{listed}}}.items():\n"
        "    print(json.dumps([name, attempt(read)]), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )
    found = dict(map(json.loads, done.stdout.splitlines()))
    assert list(found) == list(reads), f"{[*found][-1:]}, then {done.stderr[-1500:]}"
    return found
