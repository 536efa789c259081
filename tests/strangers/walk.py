"""Through a door and all the way: train, resume, evaluate, sample, by the launcher's flags."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.run import main

TINY = ("model.network=tests.small_network:SmallNetwork()",)
"""A network that compiles in a blink: the door that is walked through is another one."""
_QUICK = (
    *("train.batch_size=4", "train.log_every=1", "train.checkpoint_every=2", "after_training=()"),
    *("train.pictures_every=None", "data.held_out=0"),
    *("evaluate.num_images=2", "evaluate.error_images=0", "evaluate.bound.draws=2"),
    *("evaluate.ode.lanes=2", "evaluate.ode.controller=fixed_steps(4)"),
    *("sample.num_images=2", "sample.sampler.lanes=2", "sample.sampler.controller=fixed_steps(4)"),
)


@dataclass(frozen=True)
class Walk:
    """What was written.

    Attributes:
      workdir: of it all.
      steps: of the training that were logged, in order.
      result: of the evaluation.
      samples: the files.
    """

    workdir: Path
    steps: list[int]
    result: dict[str, Any]
    samples: list[Path]


def walk(tmp_path: Path, *flags: str, network: tuple[str, ...] = TINY) -> Walk:
    """Trains 2 steps, goes on to 4, evaluates 2 images, draws 2; every launch must succeed.

    Args:
      tmp_path: where to.
      flags: of the launcher, with which one goes through the door.
      network: settings that make the network small.
    """
    workdir = tmp_path / "walk"
    settings = [f"--set={setting}" for setting in (*_QUICK, *network)]

    def launch(*more: str) -> None:
        status = main([f"--workdir={workdir}", *settings, *flags, *more])
        assert status == 0, f"{more} ended with status {status}: {workdir / 'log.txt'}"

    launch("--set=train.num_steps=2")
    launch("--set=train.num_steps=4")
    launch("--set=train.num_steps=4", "--task=evaluate")
    launch("--set=train.num_steps=4", "--task=sample")
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    (result,) = workdir.glob("evaluations/*/result.json")
    return Walk(
        workdir,
        [json.loads(line)["step"] for line in lines],
        json.loads(result.read_text()),
        sorted(workdir.glob("samples/**/*")),
    )
