"""Likelihoods and samples do not depend on how many devices share the lanes."""

import jax
import numpy as np
import pytest

from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.sampling import OdeSampler, drawn_in_order
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.training.sharding import Mesh
from tests import eight_devices
from tests.small_network import SmallNetwork

CONTROLLER = PIController(1e-3, 1e-3, 1e-3)


def judged_and_drawn() -> dict[str, list]:
    """Run here on one device, and in a process of its own on eight."""
    model = Model(
        VariancePreserving(),
        LinearSchedule(-7.88),
        VelocityPrediction(),
        SmallNetwork(),
        Pixels((4, 4, 1), 17),
    )
    parameters = model.init(jax.random.key(0))
    sharding = Mesh().build().batch if jax.device_count() > 1 else None
    images = np.random.default_rng(0).integers(0, 17, (11, 4, 4, 1))
    likelihoods = sorted(
        OdeLikelihood(controller=CONTROLLER, lanes=8).of_images(
            model, parameters, enumerate(images), jax.random.key(1), sharding=sharding
        )
    )
    samples = drawn_in_order(
        OdeSampler(controller=CONTROLLER, lanes=8).draw(
            model, parameters, range(11), jax.random.key(2), sharding
        )
    )
    return {
        "log_likelihoods": [image.log_likelihood for image in likelihoods],
        "images": [sample.image.tolist() for sample in samples],
    }


def test_eight_devices_judge_and_draw_what_one_does():
    script = "import json; from tests.inference.test_devices import judged_and_drawn as go;"
    code = f"{script} print(json.dumps(go()))"
    eight, one = eight_devices.last_line("-c", code, timeout=300), judged_and_drawn()
    assert eight["log_likelihoods"] == pytest.approx(one["log_likelihoods"], rel=1e-4)
    assert eight["images"] == one["images"]
