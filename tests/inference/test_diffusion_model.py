"""The public model: what its methods take, without a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.inference.diffusion_model import DiffusionModel, LogProbability
from diffusion_ode.inference.likelihood import (
    ImageLikelihood,
    OdeLikelihood,
    likelihood_controller,
)
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


def test_a_key_is_typed_or_raw_and_one(model):
    by_seed = model.sample(2, 7).images
    np.testing.assert_array_equal(model.sample(2, jax.random.PRNGKey(7)).images, by_seed)
    np.testing.assert_array_equal(model.sample(2, jnp.asarray(7)).images, by_seed)
    model.sample(1, 2**32 - 1)
    several = jax.random.split(jax.random.key(0))
    raw = [np.zeros(3, np.uint32), np.zeros(2, np.int32), np.zeros(2, bool)]
    for key in (several, *raw, jnp.asarray(0.5)):
        with pytest.raises(UserError, match="no single key"):
            model.sample(1, key)


class Sums:
    """Minus an image's sum as its log-likelihood, the last first; the second does not converge."""

    def of_images(self, model, parameters, images, key, *, num_importance):
        del model, parameters, key
        for index, levels in reversed(list(images)):
            yield ImageLikelihood(index, -float(levels.sum()), num_importance, index != 1)


def test_figures_stand_in_the_order_of_the_images(model):
    images = np.repeat(np.uint8([1, 2, 3]), 192).reshape(3, 8, 8, 3)
    found = model.log_prob(images, likelihood=Sums(), num_importance=5)
    assert found.nats.tolist() == [-192.0, -384.0, -576.0]
    assert found.bits_per_dimension == pytest.approx(np.array([1.0, 2.0, 3.0]) / np.log(2.0))
    assert found.nfe.tolist() == [5, 5, 5]
    assert found.converged.tolist() == [True, False, True]
    assert model.log_prob(images[0], likelihood=Sums()).nats.tolist() == [-192.0]


def test_by_default_a_step_may_err_by_a_part_of_the_noise_however_large_z_is():
    z, error, unit = jnp.full((1, 4), 100.0), jnp.full((1, 4), 0.003), jnp.asarray([0.2])
    controller = likelihood_controller()
    found = controller.error(z, z, error, None, jnp.zeros(1), None, unit)
    assert float(found[0]) == pytest.approx(1.0)  # 1.5 % of 0.2
    found = controller.error(z, z, 0 * error, None, jnp.asarray([0.04]), None, unit)
    assert float(found[0]) == pytest.approx(1.0)  # a hundredth of a nat per dimension


def test_mean_and_standard_error_are_those_of_the_images_that_converged():
    bits = np.array([1.0, 9.0, 2.0, 6.0])
    scores = LogProbability(-bits, bits, np.ones(4, int), np.ones(4, bool))
    assert scores.mean == pytest.approx(4.5)
    sound = scores.where(np.array([True, False, True, True]))
    assert np.isnan(sound.nats[1]) and np.isnan(sound.bits_per_dimension[1])
    assert sound.converged.tolist() == [True, False, True, True]
    with pytest.warns(UserWarning, match="1 of 4 images did not converge"):
        assert sound.mean == pytest.approx(3.0)
    assert sound.standard_error == pytest.approx(np.sqrt(7.0 / 3.0))
    alone = scores.where(np.array([True, False, False, False]))
    assert alone.standard_error == np.inf


def test_one_image_is_none_of_several(model):
    lost = LogProbability(
        np.full(1, np.nan), np.full(1, np.nan), np.ones(1, int), np.zeros(1, bool)
    )
    with pytest.raises(UserError, match="None of 1 image converged"):
        _ = lost.mean
