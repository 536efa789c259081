"""What was done to the program, and what came of it.

    python -m benchmarks.reliability [--full] [--rows=kills,damages,…]

Makes the table of docs/reliability.md: some ten minutes on two cores, and hours with `--full`.
Kills, signals, damages, full disks and launchers at once are of real processes in a folder that is
thrown away; the other rows are tests of the suite, counted. Chance comes of `--seed`.
"""

import argparse
import collections
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import machine, markdown_table
from diffusion_ode.checkpoints.records import read_records
from diffusion_ode.exit_statuses import FAILED, INTERRUPTED, REFUSED

ROOT = Path(__file__).resolve().parents[1]
STEPS = 40
SETTINGS = (
    *(f"train.num_steps={STEPS}", "train.batch_size=8", "train.checkpoint_every=4"),
    *("train.log_every=7", "train.pictures_every=None", "train.validation_images=0"),
    *("model.network.features=32", "model.network.blocks=1", "evaluate.num_images=16"),
    *("evaluate.bound.draws=2", "evaluate.error_images=0", "sample.num_images=4"),
)
_TRACEBACK = "Traceback (most recent call last)"


class Row(NamedTuple):
    """What is promised; how often it was tried; how often it held; what else was seen."""

    promise: str
    tried: int
    held: int
    remark: str = ""


class Trials:
    """Runs in a folder that is thrown away.

    Args:
      folder: for their workdirs.
      full: many trials, not a few.
      chance: of all moments and places.
    """

    def __init__(self, folder: Path, full: bool, chance: random.Random):
        self.folder, self.full, self.chance = folder, full, chance
        self.undisturbed = folder / "undisturbed"
        self.seconds = self._seconds_of(self.undisturbed)

    def launch(self, workdir: Path, *flags: str, limit: int | None = None) -> subprocess.Popen:
        """The launcher in a process of its own; `limit` bounds the bytes of a file it writes."""
        command = [sys.executable, "launch/run.py", "--exp=digits_vp", f"--workdir={workdir}"]
        command += [f"--set={setting}" for setting in (*SETTINGS, "after_training=()")]
        command += flags

        def bounded():
            if limit is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails with EFBIG
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=bounded,
        )

    def ended(self, workdir: Path, *flags: str, limit: int | None = None) -> tuple[int, str]:
        """The status and the words of a launch that nothing disturbs."""
        process = self.launch(workdir, *flags, limit=limit)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def is_as_undisturbed(self, workdir: Path) -> bool:
        """Whether the last checkpoint has the same bits as that of the undisturbed run."""
        return _digests(workdir) == _digests(self.undisturbed)

    def _seconds_of(self, workdir: Path) -> float:
        status, output = self.ended(workdir)
        assert status == 0, output
        shutil.rmtree(workdir)
        start = time.monotonic()
        self.ended(workdir)  # all is compiled now
        return time.monotonic() - start


def kills(trials: Trials) -> Row:
    """SIGKILL at moments spread over a run, and twice as many while a checkpoint is written."""
    count = 100 if trials.full else 6
    bits, at = 0, collections.Counter[str]()
    for number in range(count):
        workdir = trials.folder / f"killed-{number}"
        process = trials.launch(workdir)
        if number % 3:
            while process.poll() is None and not _is_saving(workdir):
                time.sleep(0.001)
        else:
            time.sleep(trials.chance.uniform(0.0, trials.seconds))
        at["saving" if _is_saving(workdir) else "training" if _steps(workdir) else "earlier"] += 1
        process.kill()
        process.communicate()
        status, _ = trials.ended(workdir)
        bits += status == 0 and trials.is_as_undisturbed(workdir)
        shutil.rmtree(workdir)
    where = ", ".join(f"{number} {moment}" for moment, number in at.items())
    promise = "a killed run that goes on ends with the bits of an undisturbed one"
    return Row(promise, count, bits, where)


def signals(trials: Trials) -> Row:
    """SIGTERM, SIGINT and SIGHUP in each phase: saved, status 75, and no traceback."""
    phases = {"starting": "preparing the", "compiling": "compiling the", "training": "step 1"}
    held = tried = 0
    for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for sign in phases.values():
            for _ in range(5 if trials.full else 1):
                workdir = trials.folder / f"signalled-{tried}"
                process = trials.launch(workdir, "--set=train.num_steps=100000")
                assert process.stdout is not None
                seen = []
                for line in process.stdout:
                    seen.append(line)
                    if sign in line:
                        break
                process.send_signal(sent)
                output, _ = process.communicate(timeout=120)
                output = "".join(seen) + output
                held += process.returncode == INTERRUPTED and _TRACEBACK not in output
                tried += 1
    promise = "a signal ends a run with status 75 and no traceback"
    return Row(promise, tried, held, "while " + ", ".join(phases))


def damages(trials: Trials) -> Row:
    """A file of the newest checkpoint is cut, emptied, removed, or has a bit flipped."""
    count = 155 if trials.full else 8
    held, kinds = 0, ("bit", "cut", "empty", "removed")
    for number in range(count):
        workdir = trials.folder / f"damaged-{number}"
        shutil.copytree(trials.undisturbed, workdir)
        newest = workdir / "checkpoints" / str(STEPS)
        file = trials.chance.choice(sorted(p for p in newest.rglob("*") if p.is_file()))
        _damage(file, kinds[number % len(kinds)], trials.chance)
        status, output = trials.ended(workdir)
        whole = status == 0 and trials.is_as_undisturbed(workdir)
        held += whole and _TRACEBACK not in output
        shutil.rmtree(workdir)
    return Row("a damaged newest checkpoint is noticed, kept aside, and made anew", count, held)


def full_disks(trials: Trials) -> Row:
    """No file may grow beyond some bytes, as on a disk that is full."""
    limits = [2**k * 1000 for k in (range(12) if trials.full else (0, 4, 7, 9))]
    held = 0
    for limit in limits:
        workdir = trials.folder / f"full-{limit}"
        status, output = trials.ended(workdir, limit=limit)
        # Where not even a log can be written the traceback follows the sentence.
        said = status in (0, FAILED, REFUSED) and _TRACEBACK not in output.partition(" failed: ")[0]
        again, _ = trials.ended(workdir)
        held += said and again == 0 and trials.is_as_undisturbed(workdir)
        shutil.rmtree(workdir)
    return Row("a full disk is one sentence, and with room the run goes on", len(limits), held)


def launchers(trials: Trials) -> Row:
    """Several launchers in one workdir: one trains, the others are refused."""
    count = 32 if trials.full else 4
    workdir = trials.folder / "together"
    started = [trials.launch(workdir) for _ in range(count)]
    outputs = [process.communicate(timeout=1200)[0] for process in started]
    statuses = [process.returncode for process in started]
    one = statuses.count(0) >= 1 and statuses.count(0) + statuses.count(REFUSED) == count
    clean = not any(_TRACEBACK in output for output in outputs)
    held = count if one and clean and trials.is_as_undisturbed(workdir) else 0
    return Row("of launchers in one workdir one trains", count, held)


def tests_of(promise: str, *files: str) -> Callable[[Trials], Row]:
    """The tests in these files, counted; with `--full` their long forms too."""

    def row(trials: Trials) -> Row:
        marker = [] if not trials.full else ["-m", "long or not long"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "2", *marker, *files],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        counted = re.findall(r"(\d+) (passed|failed|error)", done.stdout)
        found = {kind: int(number) for number, kind in counted}
        passed = found.get("passed", 0)
        return Row(promise, sum(found.values()), passed, "`" + " ".join(files) + "`")

    row.__doc__ = promise
    return row


ROWS: dict[str, Callable[[Trials], Row]] = {
    "kills": kills,
    "signals": signals,
    "damages": damages,
    "full_disks": full_disks,
    "launchers": launchers,
    "fields": tests_of(
        "a value that makes no sense is refused in a sentence, field by field",
        "tests/experiments/test_ranges.py",
        "tests/configs/test_mutations.py",
    ),
    "files": tests_of(
        "a hostile file is refused, within bounds on memory and time",
        "tests/data/test_bounds.py",
        "tests/data/test_mutations.py",
        "tests/checkpoints/test_mutations.py",
        "tests/coding/test_mutations.py",
        "tests/evaluation/test_mutations.py",
    ),
}


def main() -> None:
    """Prints a row after another, and then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), flags.full, random.Random(flags.seed))
        for name in flags.rows.split(","):
            start = time.monotonic()
            row = ROWS[name](trials)
            rows.append((*row, f"{time.monotonic() - start:.0f}"))
            print(row, flush=True)
    print(f"\n{machine()}\n")
    print(markdown_table(("promise", "tried", "held", "", "seconds"), rows))
    sys.exit(0 if all(row[1] == row[2] for row in rows) else 1)


def _is_saving(workdir: Path) -> bool:
    """A checkpoint is being written: its folder has Orbax's temporary name."""
    return any("tmp" in entry.name for entry in (workdir / "checkpoints").glob("*"))


def _steps(workdir: Path) -> list[str]:
    return [entry.name for entry in (workdir / "checkpoints").glob("*") if entry.name.isdigit()]


def _digests(workdir: Path) -> tuple:
    records = read_records(workdir / "checkpoints" / str(STEPS))
    leaves = sorted((name, leaf.digest) for name, leaf in records.leaves.items())
    return records.data_state, leaves


def _damage(file: Path, kind: str, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if kind == "removed" or not content:
        file.unlink()
    elif kind == "bit":
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2 if kind == "cut" else 0])


if __name__ == "__main__":
    main()
