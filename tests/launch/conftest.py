"""A stand-in experiment outside the repository, with tasks that take no time."""

import textwrap

import pytest

STAND_INS = textwrap.dedent('''
    from dataclasses import dataclass, field
    from pathlib import Path

    import fiddle as fdl

    from data.pipeline import Data
    from data.sources.digits import Digits
    from diffusion_ode.errors import UserError
    from diffusion_ode.networks.unet import UNet
    from diffusion_ode.diffusion.model import Model
    from diffusion_ode.diffusion.parameterization import VelocityPrediction
    from diffusion_ode.diffusion.pixels import Pixels
    from diffusion_ode.diffusion.schedule import LinearSchedule
    from diffusion_ode.diffusion.variance_preserving import VariancePreserving
    from diffusion_ode.tasks.experiment import Experiment
    from diffusion_ode.tasks.task_result import TaskResult
    from diffusion_ode.distributed.interruption import Interrupted
    from diffusion_ode.training.sharding import Mesh
    from experiments.registry import experiment


    @dataclass(frozen=True)
    class Nothing:
        """A task."""

        num_steps: int = 1
        end: str = "well"
        loses_log: bool = False

        def run(self, run):
            if self.end == "refused":
                raise UserError("num_steps is 1: give 2.")
            run.begin(fingerprint="0123")
            run.save_config()
            print(f"ran {self.num_steps} from {run.init_from} at {run.checkpoint}")
            if self.end == "noisy":
                import logging

                import orbax.checkpoint  # absl, which it logs by, would show this

                logging.getLogger("orbax").error("many lines")
            if self.loses_log:
                run.config_path.with_name("log.txt").symlink_to("nowhere/log.txt")
            if self.end == "full":
                from diffusion_ode.checkpoints.errors import SaveFailed

                raise SaveFailed("checkpoint 3 could not be written (No space left): make room")
            if self.end == "disk":
                raise OSError(28, "No space left on device")
            if self.end == "refused late":
                raise UserError("num_steps is 1: give 2.")
            if self.end == "failed":
                raise RuntimeError("out of paper\\nand ink")
            if self.end == "interrupted":
                raise Interrupted("interrupted by SIGTERM")
            return TaskResult(
                [("steps", str(self.num_steps))],
                [("config", run.config_path)],
                ["--task=sample"],
            )


    @experiment(data="digits", source="nobody", published=2.5)
    def tiny():
        """Nothing is trained faster than nothing."""
        return fdl.Config(
            Experiment,
            model=fdl.Config(
                Model,
                path=fdl.Config(VariancePreserving),
                schedule=fdl.Config(LinearSchedule, gamma_0=-7.876),
                parameterization=fdl.Config(VelocityPrediction),
                network=fdl.Config(UNet, features=32, blocks=1),
                pixels=fdl.Config(Pixels, shape=(8, 8, 1), levels=17),
            ),
            data=fdl.Config(Data, source=fdl.Config(Digits)),
            train=fdl.Config(Nothing),
            evaluate=fdl.Config(Nothing, num_steps=2),
            sample=fdl.Config(Nothing, num_steps=3),
            mesh=fdl.Config(Mesh),
        )


    @experiment(parent="tiny")
    def tiny_sp(config):
        """The straight path is no slower."""
        from diffusion_ode.diffusion.straight_path import StraightPath

        config.model.path = fdl.Config(StraightPath)
        return config
''')


@pytest.fixture
def outside(tmp_path):
    """A folder that holds `outside.py` with the experiments `tiny` and `tiny_sp`."""
    (tmp_path / "outside.py").write_text(STAND_INS)
    return tmp_path
