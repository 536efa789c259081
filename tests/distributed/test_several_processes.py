"""Two processes train, evaluate and sample as one does; one dies or is interrupted, they go on."""

import dataclasses
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fiddle as fdl
import jax
import numpy as np
import pytest

from diffusion_ode.checkpoints.records import read_records
from diffusion_ode.checkpoints.stored import StoredCheckpoints
from diffusion_ode.evaluation.per_example import read_table
from tests.distributed import small_experiment

ROOT = Path(__file__).resolve().parents[2]
STEPS = small_experiment.NUM_STEPS
SMALL = ("--exp=tests.distributed.small_experiment:small",)
PATIENCE = 600  # seconds; a busy machine's


@dataclasses.dataclass(frozen=True)
class Ended:
    """What became of the processes of one launch."""

    statuses: list[int]
    outputs: list[str]


class Launch:
    """One command in one or several processes."""

    def __init__(self, workdir: Path, *flags: str, count: int = 2, flag_of_the_second: str = ""):
        command = [sys.executable, "launch/run.py", *SMALL, f"--workdir={workdir}", *flags]
        several = [f"--coordinator=localhost:{free_port()}", f"--num_processes={count}"]
        self.workdir = workdir
        self.processes = [
            subprocess.Popen(
                [
                    *command,
                    *((*several, f"--process_id={index}") if count > 1 else ()),
                    *((flag_of_the_second,) if index and flag_of_the_second else ()),
                ],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(count)
        ]

    def wait_until(self, condition: Callable[[], bool]) -> "Launch":
        end = time.monotonic() + PATIENCE
        while not condition() and all(process.poll() is None for process in self.processes):
            assert time.monotonic() < end
            time.sleep(0.002)
        return self

    def end(self) -> Ended:
        outputs = []
        try:
            for process in self.processes:
                output, _ = process.communicate(timeout=PATIENCE)
                outputs.append(output)
        finally:
            for process in self.processes:
                process.kill()
        return Ended([process.returncode for process in self.processes], outputs)

    def succeed(self) -> Ended:
        ended = self.end()
        assert set(ended.statuses) == {0}, "\n".join(ended.outputs)
        return ended


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def saved_steps(workdir: Path) -> list[int]:
    folder = workdir / "checkpoints"
    return sorted(int(entry.name) for entry in folder.glob("*") if entry.name.isdigit())


def digests(workdir: Path) -> tuple[dict, dict]:
    """The iterator's state, and a digest of the bits of every array, by name."""
    records = read_records(workdir / "checkpoints" / str(STEPS))
    return records.data_state, {name: leaf.digest for name, leaf in records.leaves.items()}


def final_parameters(workdir: Path) -> dict:
    experiment = fdl.build(small_experiment.small())
    wanted = {
        name: jax.eval_shape(experiment.model.init, jax.random.key(0))
        for name in ("parameters", "ema")
    }
    return StoredCheckpoints(workdir / "checkpoints").restore_parameters(wanted, STEPS).state


def figures(workdir: Path) -> tuple[dict, np.ndarray]:
    """Every image's row, in order, and the drawn images."""
    (path,) = workdir.glob("evaluations/*/per_example.csv")
    table = read_table(path)
    order = np.argsort(table["index"])
    (samples,) = workdir.glob("samples/*/samples.npz")
    with np.load(samples) as file:
        return {name: column[order] for name, column in table.items()}, file["images"]


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> tuple[Path, Ended]:
    """What two processes leave that nothing disturbs."""
    workdir = tmp_path_factory.mktemp("together")
    return workdir, Launch(workdir).succeed()


def test_only_the_first_process_speaks_and_writes(together):
    workdir, ended = together
    assert "2 × cpu, mesh data 2" in ended.outputs[0]
    assert ended.outputs[1] == ""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    of_training = [line["step"] for line in lines if "train/bpd" in line]
    of_validation = [line["step"] for line in lines if "validation/bpd" in line]
    assert (of_training, of_validation) == ([5, 10, 15, 20, STEPS], [8, 16, STEPS])
    assert len(lines) == len({*of_training, *of_validation})
    launches = json.loads((workdir / "run.json").read_text())["launches"]
    assert [(entry["task"], entry["outcome"]) for entry in launches] == [
        ("train", "done"),
        ("evaluate", "done"),
        ("sample", "done"),
    ]
    written = {path.name for path in workdir.iterdir()} - {"code"}  # of a checkout with changes
    assert written == {
        *("checkpoints", "config.json", "evaluations", "history.json", "log.txt"),
        *("metrics.jsonl", "run.json", "samples", "tensorboard"),
    }


def test_one_process_judges_and_draws_the_same(together, tmp_path):
    shutil.copytree(together[0] / "checkpoints", tmp_path / "checkpoints")
    # The training is at its end, so that evaluation and sampling follow at once.
    Launch(tmp_path, count=1).succeed()
    (mine, drawn), (theirs, also_drawn) = figures(tmp_path), figures(together[0])
    assert theirs["index"].tolist() == list(range(11))
    for column, values in mine.items():
        np.testing.assert_allclose(theirs[column], values, rtol=1e-5, err_msg=column)
    np.testing.assert_array_equal(also_drawn, drawn)


def test_processes_with_other_requests_are_refused_in_one_sentence(tmp_path):
    ended = Launch(tmp_path / "run", flag_of_the_second="--set=train.seed=1").end()
    assert ended.statuses == [2, 2]
    assert ended.outputs[0].startswith("The request is not the same in process 0 and process 1:")
    assert len(ended.outputs[0].splitlines()) == 1
    assert ended.outputs[1] == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_other_ends_within_seconds_with_one_sentence(victim, tmp_path):
    launch = Launch(tmp_path, "--set=train.num_steps=1000000")
    launch.wait_until(lambda: bool(saved_steps(tmp_path)))
    launch.processes[victim].kill()
    killed = time.monotonic()
    ended = launch.end()
    assert time.monotonic() - killed < 10
    assert ended.statuses[1 - victim] == 1
    *_, sentence = ended.outputs[1 - victim].splitlines()
    assert sentence.startswith(f"Process {victim} of 2 has gone without a word")
    assert "Traceback" not in ended.outputs[1 - victim]
    assert "stack trace" not in ended.outputs[1 - victim]


@pytest.mark.long
def test_one_that_is_interrupted_while_it_compiles_interrupts_the_other(tmp_path):
    # Deep enough to be caught at it.
    launch = Launch(tmp_path, "--set=model.network=unet(features=32, blocks=2)")
    launch.wait_until(lambda: (tmp_path / "config.json").exists())
    launch.processes[1].send_signal(signal.SIGTERM)
    ended = launch.end()
    assert ended.statuses == [75, 75], ended


@pytest.mark.long
def test_killed_and_interrupted_runs_go_on_with_two_processes_or_one(together, tmp_path):
    workdir = tmp_path / "two"
    alone = tmp_path / "one"
    only_train = "--set=after_training=()"
    interrupted = Launch(workdir, only_train).wait_until(lambda: bool(saved_steps(workdir)))
    interrupted.processes[1].send_signal(signal.SIGTERM)
    ended = interrupted.end()
    assert ended.statuses == [75, 75], ended
    assert "interrupted, as another process was" in ended.outputs[0]
    stopped_at = saved_steps(workdir)[-1]
    assert 4 <= stopped_at < STEPS

    killed = Launch(workdir, only_train)
    killed.wait_until(lambda: saved_steps(workdir)[-1] > stopped_at)
    killed.processes[1].kill()
    ended = killed.end()
    assert ended.statuses[0] == 1, ended
    assert saved_steps(workdir)[-1] < STEPS

    shutil.copytree(workdir / "checkpoints", alone / "checkpoints")
    Launch(workdir, only_train).succeed()
    assert digests(workdir) == digests(together[0])
    Launch(alone, only_train, count=1).succeed()
    assert digests(alone)[0] == digests(together[0])[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        final_parameters(alone),
        final_parameters(together[0]),
    )
