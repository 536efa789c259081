"""The public model: what its methods take, without a network."""

import jax
import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.inference.diffusion_model import DiffusionModel, LogProbability
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.sampling import Sample
from tests.published_checkpoint import small_model


class KeyAsImage:
    """Draws a key's own bits, which tell keys apart."""

    def draw(self, model, parameters, indices, key, sharding=None):
        del model, parameters, sharding
        for index in indices:
            yield Sample(index, np.asarray(jax.random.key_data(key)), 1, True)


@pytest.fixture
def model():
    return DiffusionModel(small_model(), {}, OdeLikelihood(), KeyAsImage())


def test_a_seed_does_for_a_key(model):
    by_key = model.sample(2, jax.random.key(7)).images
    np.testing.assert_array_equal(model.sample(2, 7).images, by_key)
    np.testing.assert_array_equal(model.sample(2, np.int64(7)).images, by_key)


@pytest.mark.parametrize("key", [-1, 1 << 32, 0.5, True, None])
def test_what_is_neither_key_nor_seed_is_refused(model, key):
    with pytest.raises(UserError, match=r"neither a key nor a seed.*give jax\.random\.key\(0\)"):
        model.sample(1, key)
    with pytest.raises(UserError, match="neither a key nor a seed"):
        model.log_prob(np.zeros((8, 8, 3), np.uint8), key)


def test_one_image_is_none_of_several(model):
    lost = LogProbability(
        np.full(1, np.nan), np.full(1, np.nan), np.ones(1, int), np.zeros(1, bool)
    )
    with pytest.raises(UserError, match="None of 1 image converged"):
        _ = lost.mean
