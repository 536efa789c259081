"""What was done to the program, and what came of it.

    python -m benchmarks.reliability [--full] [--rows=kills,damages,…] [--minutes=30]

Makes the table of docs/reliability.md: some ten minutes on two cores, and with `--full` two hours,
as no row begins another trial after so many minutes. What is killed, signalled or full is a process
of its own, in a folder that is thrown away; how it goes on is seen in this one, which has imported
everything already. Files are the tests of the suite, counted. Chance comes of `--seed`.
"""

import argparse
import collections
import contextlib
import functools
import io
import itertools
import logging
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks.measuring import machine, markdown_table, some_of
from diffusion_ode.checkpoints.records import read_records
from diffusion_ode.exit_statuses import FAILED, INTERRUPTED, REFUSED
from launch import run
from launch.compilation_cache import keep_compilations
from launch.screen import quiet_about_closed_loops
from tests.experiments.test_ranges import FIELDS, NONSENSE, accepted_wrongly

ROOT = Path(__file__).resolve().parents[1]
STEPS, EVERY = 40, 4
SETTINGS = (
    *(f"train.num_steps={STEPS}", "train.batch_size=8", f"train.checkpoint_every={EVERY}"),
    *("train.log_every=7", "train.pictures_every=None", "train.validation_images=0"),
    *("model.network.features=32", "model.network.blocks=1", "evaluate.num_images=16"),
    *("evaluate.bound.draws=2", "evaluate.error_images=0", "sample.num_images=4"),
    *("compress.num_images=4", "compress.likelihoods=False"),
)
_TRACEBACK = "Traceback (most recent call last)"
_TOLD = 3000  # letters of what a trial said that did not hold
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STEPPING = 0.2  # about the share of a short run's time that its steps take


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
      minutes: after which a row begins no further trial.
      chance: of all moments and places.
    """

    def __init__(self, folder: Path, full: bool, minutes: float, chance: random.Random):
        self.folder, self.full, self.minutes, self.chance = folder, full, minutes, chance

    def numbered(self, few: int, many: int) -> Iterator[int]:
        """A number for each trial of a row, as long as its time lasts."""
        end = time.monotonic() + 60 * self.minutes
        for number in range(many if self.full else few):
            if time.monotonic() > end:
                return
            yield number

    def held(self, good: bool, trial: str, output: str) -> bool:
        """Whether it is good; of a trial that is not, what it was and said is told."""
        if not good:
            print(f"not held: {trial}\n{output[-_TOLD:]}", file=sys.stderr, flush=True)
        return good

    def launch(self, workdir: Path, *flags: str, limit: int | None = None) -> subprocess.Popen:
        """The launcher in a process of its own; `limit` bounds the bytes of a file it writes."""
        command = [sys.executable, "launch/run.py", *_flags(workdir), *flags]

        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if limit is not None:  # Python ignores the signal, so that writing fails with EFBIG
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        return process

    def ended(self, workdir: Path, *flags: str, limit: int | None = None) -> tuple[int, str]:
        """The status and the words of a launch that nothing disturbs."""
        process = self.launch(workdir, *flags, limit=limit)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def goes_on(self, workdir: Path, *flags: str) -> tuple[int, str]:
        """The same in this process."""
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            status = run.main([*_flags(workdir), *flags])
        return status, shown.getvalue()

    def is_as_undisturbed(self, workdir: Path) -> bool:
        """Whether the last checkpoint has the same bits as that of the undisturbed run."""
        return _digests(workdir) == _digests(self.undisturbed)

    @property
    def undisturbed(self) -> Path:
        """The workdir of a run that nothing disturbs."""
        return self._undisturbed[0]

    @property
    def seconds(self) -> float:
        """That it takes, with all compiled."""
        return self._undisturbed[1]

    @functools.cached_property
    def _undisturbed(self) -> tuple[Path, float]:
        workdir = self.folder / "undisturbed"
        status, output = self.ended(workdir)
        assert status == 0, output
        shutil.rmtree(workdir)
        start = time.monotonic()
        self.ended(workdir)
        return workdir, time.monotonic() - start


def kills(trials: Trials) -> Row:
    """SIGKILL, in turn before there is a checkpoint, after it, and while one is written."""
    tried = bits = 0
    at = collections.Counter[str]()
    for number in trials.numbered(6, 100):
        workdir = trials.folder / f"killed-{number}"
        process, kind = trials.launch(workdir), number % 3
        if kind == 0:
            time.sleep(trials.chance.uniform(0.0, (1 - _STEPPING) * trials.seconds))
        elif kind == 1:
            _wait(process, workdir, saved=EVERY)
            time.sleep(trials.chance.uniform(0.0, _STEPPING * trials.seconds))
        else:
            saved = trials.chance.randrange(0, STEPS, EVERY)
            _wait(process, workdir, saved=saved, saving=True)
        moment = "saving" if _is_saving(workdir) else "training" if _steps(workdir) else "starting"
        at[moment if process.poll() is None else "ended"] += 1
        process.kill()
        process.communicate()
        status, output = trials.goes_on(workdir)
        same = status == 0 and trials.is_as_undisturbed(workdir)
        bits += trials.held(same, f"killed while {moment}", output)
        tried += 1
        shutil.rmtree(workdir, ignore_errors=True)
    where = ", ".join(f"{number} {moment}" for moment, number in at.items())
    promise = "a killed run that goes on ends with the bits of an undisturbed one"
    return Row(promise, tried, bits, where)


# What is launched to be signalled, and its line at which the phase has begun; a save has none.
PHASES: dict[str, tuple[str, str | None]] = {
    "starting": ("train", "preparing the"),
    "compiling": ("train", "compiling the"),
    "training": ("train", "step 1"),
    "saving": ("train", None),
    "evaluating": ("evaluate", "bound of image"),
    "sampling": ("sample", "drawing"),
    "compressing": ("compress", "compressing"),
}


def signals(trials: Trials) -> Row:
    """SIGTERM, SIGINT and SIGHUP in each phase: saved, status 75, no traceback, and it goes on."""
    cases = list(itertools.product(PHASES, _SIGNALS))
    held = tried = 0
    for number in trials.numbered(len(cases), 5 * len(cases)):
        phase, sent = cases[number % len(cases)]
        task, line = PHASES[phase]
        workdir = trials.folder / f"signalled-{number}"
        if task != "train":
            shutil.copytree(trials.undisturbed, workdir)
        process = trials.launch(workdir, f"--task={task}")
        seen = _read_until(process, line) if line else ""
        if not line:
            _wait(process, workdir, saved=EVERY, saving=True)
        process.send_signal(sent)
        rest, _ = process.communicate(timeout=300)
        output = seen + rest
        clean = process.returncode == INTERRUPTED and _TRACEBACK not in output
        status, again = trials.goes_on(workdir, f"--task={task}")
        good = clean and status == 0 and trials.is_as_undisturbed(workdir)
        trial = f"{sent.name} while {phase}: {process.returncode}, then {status}"
        held += trials.held(good, trial, output + again)
        tried += 1
        shutil.rmtree(workdir)
    promise = "a signal ends a run with status 75 and no traceback, and the run goes on"
    return Row(promise, tried, held, "while " + ", ".join(PHASES))


def damages(trials: Trials) -> Row:
    """A file of the newest checkpoint is cut, emptied, removed, or has a bit flipped."""
    tried, held, noticed, kinds = 0, 0, 0, ("bit", "cut", "empty", "removed")
    for number in trials.numbered(8, 155):
        workdir = trials.folder / f"damaged-{number}"
        shutil.copytree(trials.undisturbed, workdir)
        newest = workdir / "checkpoints" / str(STEPS)
        file = trials.chance.choice(sorted(p for p in newest.rglob("*") if p.is_file()))
        _damage(file, kinds[number % len(kinds)], trials.chance)
        status, output = trials.goes_on(workdir)
        whole = status == 0 and trials.is_as_undisturbed(workdir)
        trial = f"{kinds[number % len(kinds)]} of {file}: {status}, {whole}"
        held += trials.held(whole and _TRACEBACK not in output, trial, output)
        noticed += f"checkpoint {STEPS} in " in output and "is damaged" in output
        tried += 1
        shutil.rmtree(workdir)
    promise = "a damaged newest checkpoint is noticed, kept aside, and made anew"
    return Row(promise, tried, held, f"{noticed} noticed; of the others nothing is read")


def full_disks(trials: Trials) -> Row:
    """No file may grow beyond some bytes, as on a disk that is full."""
    few = [2**k * 1000 for k in (0, 4, 7, 9)]
    limits = few + [trials.chance.randrange(1, 2**20) for _ in range(20)]
    tried = held = 0
    for number in trials.numbered(len(few), len(limits)):
        limit = limits[number]
        workdir = trials.folder / f"full-{limit}"
        status, output = trials.ended(workdir, limit=limit)
        # Where not even a log can be written the traceback follows the sentence.
        said = status in (0, FAILED, REFUSED) and _TRACEBACK not in output.partition(" failed: ")[0]
        again, _ = trials.goes_on(workdir)
        good = said and again == 0 and trials.is_as_undisturbed(workdir)
        held += trials.held(good, f"{limit} bytes: {status}, then {again}", output)
        tried += 1
        shutil.rmtree(workdir)
    return Row("a full disk is one sentence, and with room the run goes on", tried, held)


def launchers(trials: Trials) -> Row:
    """Several launchers in one workdir: one trains, the others are refused."""
    count = 16 if trials.full else 4
    workdir = trials.folder / "together"
    started = [trials.launch(workdir) for _ in range(count)]
    outputs = [process.communicate(timeout=1200)[0] for process in started]
    statuses = [process.returncode for process in started]
    one = statuses.count(0) >= 1 and statuses.count(0) + statuses.count(REFUSED) == count
    clean = not any(_TRACEBACK in output for output in outputs)
    held = count if one and clean and trials.is_as_undisturbed(workdir) else 0
    return Row("of launchers in one workdir one trains", count, held)


def fields(trials: Trials) -> Row:
    """Each field of each class that an experiment has is given each value that makes no sense."""
    tried = held = 0
    for number in trials.numbered(len(FIELDS), len(FIELDS)):
        try:
            wrong = len(accepted_wrongly(*list(FIELDS.values())[number]))
        except Exception:
            wrong = len(NONSENSE)
        tried += len(NONSENSE)
        held += len(NONSENSE) - wrong
    promise = "a value that makes no sense is refused in a sentence, field by field"
    return Row(promise, tried, held, f"{len(FIELDS)} fields")


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


_MUTATED = ("checkpoints", "coding", "configs", "data", "evaluation")
ROWS: dict[str, Callable[[Trials], Row]] = {
    "kills": kills,
    "signals": signals,
    "damages": damages,
    "full_disks": full_disks,
    "launchers": launchers,
    "fields": fields,
    "files": tests_of(
        "a hostile file is refused, within bounds on memory and time",
        *(
            f"tests/{room}/test_bounds.py"
            for room in ("data", "checkpoints", "evaluation", "reporting")
        ),
        *(f"tests/{room}/test_mutations.py" for room in _MUTATED),
    ),
}


def main() -> None:
    """Prints a row after another, and then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rows", type=some_of(ROWS), default=[*ROWS], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--minutes", type=float, default=30.0, help="for a row, but the tests")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the runs would ignore it, too
    # As a launch does; its JAX is not imported yet.
    logging.getLogger().addHandler(logging.NullHandler())
    sys.unraisablehook = quiet_about_closed_loops
    keep_compilations()
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        chance = random.Random(flags.seed)
        trials = Trials(Path(folder), flags.full, flags.minutes, chance)
        for name in flags.rows:
            start = time.monotonic()
            row = ROWS[name](trials)
            rows.append((*row, f"{time.monotonic() - start:.0f}"))
            print(row, flush=True)
    print(f"\n{machine()}\n")
    print(markdown_table(("promise", "tried", "held", "", "seconds"), rows))
    sys.exit(0 if all(row[1] == row[2] for row in rows) else 1)


def _read_until(process: subprocess.Popen, sign: str) -> str:
    """What it says up to the first line with the sign in it."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if sign in line:
            break
    return "".join(seen)


def _wait(process: subprocess.Popen, workdir: Path, *, saved: int, saving: bool = False) -> None:
    """Until a step is saved and, if that is asked for, another is being saved."""
    while process.poll() is None:
        if max(_steps(workdir), default=0) >= saved and (_is_saving(workdir) or not saving):
            return
        time.sleep(0.0005)


def _is_saving(workdir: Path) -> bool:
    """A checkpoint is being written: its folder has Orbax's temporary name."""
    return any("tmp" in entry.name for entry in (workdir / "checkpoints").glob("*"))


def _steps(workdir: Path) -> list[int]:
    names = [entry.name for entry in (workdir / "checkpoints").glob("*")]
    return [int(name) for name in names if name.isdigit()]


def _flags(workdir: Path) -> list[str]:
    settings = (*SETTINGS, "after_training=()")
    return ["--exp=digits_vp", f"--workdir={workdir}", *(f"--set={each}" for each in settings)]


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
