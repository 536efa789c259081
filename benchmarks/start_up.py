"""Seconds from the command to the first training step, with and without kept compilations.

    python -m benchmarks.start_up [--exp=digits_vp] [--set PATH=VALUE …] [--another PATH=VALUE …]

Runs the launcher in a folder of its own: once uncounted with compilations kept elsewhere, so that
no later start reads libraries and data from the disk; then with an empty store of compiled
programs: the first start is cold, the second warm, and the third is the next point of a sweep, with
another seed and learning rate. Prints a markdown table. A deep network takes longer to compile and
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

ANOTHER = ("train.seed=1", "train.optimizer.learning_rate.peak=1e-3")
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--exp", default="digits_vp")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument(
        "--another",
        action="append",
        metavar="PATH=VALUE",
        help="what the third start has otherwise",
    )
    flags = parser.parse_args()
    another = [f"--set={setting}" for setting in flags.another or ANOTHER]
    asked = [f"--exp={flags.exp}", *(f"--set={setting}" for setting in flags.set)]
    with tempfile.TemporaryDirectory() as folder:
        _, cold, warm, swept = (
            _seconds_to_first_step(
                [*asked, *others, f"--workdir={folder}/{name}"],
                os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/{compilations}"},
            )
            for name, compilations, others in (
                ("uncounted", "uncounted_compiled", ()),
                ("cold", "compiled", ()),
                ("warm", "compiled", ()),
                ("swept", "compiled", another),
            )
        )
    print(f"{' '.join(asked)}: {machine()}\n")
    print(
        markdown_table(
            ["from the command to the first step", "seconds"],
            [
                ["cold", f"{cold:.1f}"],
                ["with kept compilations", f"{warm:.1f} ({warm / cold:.2f} of cold)"],
                [f"with {' '.join(another)}", f"{swept:.1f} ({swept / cold:.2f} of cold)"],
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
    shown = []
    for line in process.stdout:
        if line.startswith("step 1/"):
            break
        shown.append(line)
    else:
        sys.exit(
            f"{' '.join(command)} ended with status {process.wait()} and no line that begins with"
            f" 'step 1/'; it said:\n{''.join(shown)}"
        )
    seconds = time.perf_counter() - start
    process.terminate()
    process.communicate()
    return seconds


if __name__ == "__main__":
    main()
