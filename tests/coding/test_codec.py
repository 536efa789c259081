"""Two pixels of four levels: all sixteen images come back, in as many bits as the bound says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.coding import times
from diffusion_ode.coding.chain import Chain
from diffusion_ode.coding.codec import PLAIN, BitsBackCodec
from diffusion_ode.coding.stack import BitStack
from diffusion_ode.diffusion.time_sampling import DiscreteTimes
from diffusion_ode.errors import UserError
from diffusion_ode.inference.variational_bound import VariationalBound
from tests.inference.test_whole_alphabet import IMAGES, PATHS, random_model

STEPS, REPEATS = 10, 40


@pytest.fixture(scope="module", params=PATHS, ids=str)
def coded(request):
    model, parameters = random_model(request.param)
    chain = Chain.over(model, times.levels(model, STEPS, times.EVEN), 0.25)
    codec = BitsBackCodec(chain, parameters)
    images = np.random.default_rng(0).permutation(np.repeat(IMAGES, REPEATS, axis=0))
    return codec, images, codec.encode(images)


def test_every_image_comes_back(coded):
    codec, images, file = coded
    assert np.array_equal(codec.decode(file.payload, file.groups), images)


def test_mean_length_over_draws_is_the_bound_of_as_many_steps(coded):
    codec, images, file = coded
    model, count = codec.chain.model, len(images)
    assert file.coded > 0.8 * count
    assert file.net_bits * np.log(2) == pytest.approx(file.bound_nats, rel=0.01)

    # The same images, each with draws of its own that no stack has given.
    bound = VariationalBound(draws=STEPS, times=DiscreteTimes(STEPS))
    some = [i for i, group in enumerate(_group_of_each(file.groups)) if group != PLAIN]
    levels = jnp.asarray(np.repeat(images[some], 8, axis=0), jnp.int32)
    keys = jax.random.split(jax.random.key(5), len(levels))
    nats = np.asarray(bound.terms(model, codec.parameters, levels, keys).total)
    nats = nats.reshape(-1, 8)
    # The file is one draw an image, whose spread is that of the independent ones.
    error = np.sqrt(nats.var(axis=1, ddof=1).mean() * (1 + 1 / 8) / len(some))
    assert abs(file.bound_nats / file.coded - nats.mean()) < 4 * error


def test_groups_grow_with_the_stack(coded):
    _, images, file = coded
    assert file.groups[0] == PLAIN
    assert max(file.groups) >= 8
    assert sum(group or 1 for group in file.groups) == len(images)


def test_a_payload_that_is_not_the_encoders_is_refused(coded):
    codec, _, file = coded
    with pytest.raises(UserError, match="altered"):
        codec.decode(file.payload, (*file.groups, 1))
    with pytest.raises(UserError, match="altered"):
        codec.decode(file.payload[:-1], file.groups)
    with pytest.raises(UserError, match="altered"):
        codec.decode(b"", (1,) * 5)


def test_draws_of_a_file_are_never_far_out(coded, monkeypatch):
    codec, images, file = coded
    seen, draw = [], BitStack.draw

    def watched(stack, gaussian, number):
        multiples = draw(stack, gaussian, number)
        seen.append((multiples * gaussian.grid - gaussian.mean) / gaussian.std)
        return multiples

    monkeypatch.setattr(BitStack, "draw", watched)
    assert codec.encode(images).payload == file.payload
    innovations = np.concatenate(seen)
    assert np.abs(innovations).max() < 6.0
    # The grid adds its own variance, (1/4)²/12 at most.
    excess, error = np.square(innovations).mean() - 1.0, np.sqrt(2 / innovations.size)
    assert -4 * error < excess < 1 / 192 + 4 * error


def test_adaptive_times_shorten_the_bound_and_reach_both_ends():
    model, parameters = random_model(PATHS[0])
    images = np.repeat(IMAGES, REPEATS, axis=0)
    density = times.density(model, parameters, images)
    assert times.is_density(density)
    levels = times.levels(model, STEPS, density)
    assert (levels[0], levels[-1]) == (model.schedule.gamma_0, model.schedule.gamma_1)
    assert np.all(np.diff(levels) > 0.0)
    bounds = [
        BitsBackCodec(Chain.over(model, gammas, 0.25), parameters).encode(images)
        for gammas in (levels, times.levels(model, STEPS, times.EVEN))
    ]
    adaptive, even = (file.bound_nats / file.coded for file in bounds)
    assert adaptive < even


def test_as_many_first_bits_are_needed_wherever_the_short_steps_are():
    """Short steps' latents are lent more finely than longer ones' before them came back."""
    model, _ = random_model(PATHS[0])
    density = bytes([16, 16, 16, 16, 50, 50, 200, 255])
    there, back, even = (
        Chain.over(model, times.levels(model, STEPS, each), 0.25).first_bits
        for each in (density, density[::-1], times.EVEN)
    )
    assert there == pytest.approx(back)
    assert there > even + 0.5


def _group_of_each(groups):
    return [group for group in groups for _ in range(group or 1)]
