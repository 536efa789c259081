"""Seconds from the command to the first training step, with and without kept compilations.

    python -m benchmarks.start_up [--exp=digits_vp] [--set PATH=VALUE …]

Runs the launcher twice in a folder of its own with an empty store of compiled programs: the first
start is cold, the second warm. Prints a markdown table. A deep network takes longer to compile and
hardly longer to start warm: --set model.network.blocks=16 shows it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import machine, markdown_table

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--exp", default="digits_vp")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    flags = parser.parse_args()
    asked = [f"--exp={flags.exp}", *(f"--set={setting}" for setting in flags.set)]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
        cold, warm = (
            _seconds_to_first_step([*asked, f"--workdir={folder}/{name}"], environment)
            for name in ("cold", "warm")
        )
    print(f"{' '.join(asked)}: {machine()}\n")
    print(
        markdown_table(
            ["from the command to the first step", "seconds"],
            [
                ["cold", f"{cold:.1f}"],
                ["with kept compilations", f"{warm:.1f} ({warm / cold:.2f} of cold)"],
            ],
        )
    )


def _seconds_to_first_step(flags: list[str], environment: dict[str, str]) -> float:
    """Until the launcher shows its first step; then it is stopped."""
    command = [sys.executable, "launch/run.py", *flags]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 1/"):
            break
    seconds = time.perf_counter() - start
    process.terminate()
    process.communicate()
    return seconds


if __name__ == "__main__":
    main()
