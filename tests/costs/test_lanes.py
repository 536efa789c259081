"""What later tasks cannot solve is refused before the first step of training."""

import dataclasses

import flax.linen as nn
import pytest

from diffusion_ode.costs.lanes import check_lanes
from diffusion_ode.errors import UserError
from diffusion_ode.inference.sampling import OdeSampler
from diffusion_ode.tasks.sample import Sample
from diffusion_ode.tasks.train import Train
from experiments import registry
from experiments.config.building import build
from tests.small_network import SmallNetwork


class Halved(nn.Module):
    """Of its input's rows it gives every other."""

    @nn.compact
    def __call__(self, z, time, flag, sigma, *, deterministic=True):
        return nn.Dense(1)(z)[:, ::2]


@pytest.fixture(scope="module")
def experiment():
    built = build(registry.configuration_of(registry.find("digits_vp")))
    return dataclasses.replace(
        built, model=dataclasses.replace(built.model, network=SmallNetwork())
    )


def test_so_many_images_at_once_that_they_do_not_fit_are_refused_with_the_estimate(experiment):
    check_lanes("sample.sampler.lanes", experiment.model, 64)
    sampler = OdeSampler(lanes=2**31 - 1)
    ode = dataclasses.replace(experiment.evaluate.ode, lanes=sampler.lanes)
    for name, task in {
        "sample.sampler.lanes": Sample(sampler=sampler),
        "train.picture_sampler.lanes": Train(picture_sampler=sampler, pictures_every=1),
        "evaluate.ode.lanes": dataclasses.replace(experiment.evaluate, ode=ode),
    }.items():
        with pytest.raises(UserError, match=rf"^{name} = 2147483647 takes at least 1,649 GB on"):
            task.check(experiment)
    Train(picture_sampler=sampler).check(experiment)  # which draws none


def test_a_network_whose_output_is_no_image_is_refused(experiment):
    model = dataclasses.replace(experiment.model, network=Halved())
    with pytest.raises(UserError, match=r"makes \[2, 4, 8, 1\] of images \[2, 8, 8, 1\]"):
        check_lanes("sample.sampler.lanes", model, 5)
