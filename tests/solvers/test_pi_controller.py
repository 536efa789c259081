"""What the step control decides, by its formulas in plain numbers."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.solvers.pi_controller import PIController

CONTROLLER = PIController(rtol=1e-2, atol=1e-3, log_density_tolerance=1e-2, unit_tolerance=1e-3)


def lanes(*values):
    return jnp.asarray(values, jnp.float32)


def decided(error, *, before=0.5, size=0.1, after_rejection=False, order=4):
    decision = CONTROLLER.decide(
        lanes(error), lanes(before), lanes(size), jnp.asarray([after_rejection]), order
    )
    return bool(decision.accept[0]), float(decision.size[0]), float(decision.remembered_error[0])


@pytest.mark.parametrize("error", [0.0, 0.5, 1.0, 1.001, 1.9, math.inf, math.nan])
def test_a_step_is_accepted_up_to_an_error_of_one(error):
    accepted, _, remembered = decided(error)
    assert accepted == (error <= 1)
    assert remembered == pytest.approx(max(error, 1e-4) if accepted else 0.5)


@pytest.mark.parametrize("order", [2, 4])
def test_the_next_size_heeds_this_error_and_the_one_before(order):
    k = order + 1
    for error, before in ((0.3, 0.5), (0.9, 0.01), (0.5, 0.9)):
        grown = 0.9 * error ** (-(1 - 0.75 * 0.2) / k) * before ** (0.2 / k)
        assert decided(error, before=before, order=order)[1] == pytest.approx(0.1 * grown, rel=1e-5)
    # A rejected step has no history, and does not grow.
    assert decided(2.0, before=1e-4, order=order)[1] == pytest.approx(0.09 * 2 ** (-1 / k))


def test_sizes_stay_within_their_factors():
    assert decided(0.0)[1] == pytest.approx(1.0)
    assert decided(1e30)[1] == decided(math.nan)[1] == decided(math.inf)[1] == pytest.approx(0.02)
    assert decided(1e-3, after_rejection=True)[1] == pytest.approx(0.1)
    assert decided(0.9, after_rejection=True)[1] < 0.1


def test_the_last_step_ends_exactly_and_two_halves_precede_a_stub():
    s, end = lanes(0.0, 0.0, 0.0, 0.0), lanes(1.0, 1.0, 1.0, -1.0)
    following = CONTROLLER.next_time(s, lanes(0.995, 0.7, 0.3, 0.7), s, end, None)
    np.testing.assert_allclose(following, [1.0, 0.5, 0.3, -0.5], rtol=1e-6)


def test_the_error_is_the_larger_one_in_units_of_its_tolerance():
    z, new = jnp.asarray([[1.0, -2.0], [0.5, 0.0]]), jnp.asarray([[-3.0, 1.0], [0.5, 0.0]])
    z_error, unit = jnp.asarray([[0.06, 0.01], [0.0, 0.0]]), lanes(1.0, 3.0)
    error = CONTROLLER.error(z, new, z_error, None, lanes(0.0, -0.05), None, unit)
    of_z = math.sqrt(((0.06 / 0.032) ** 2 + (0.01 / 0.022) ** 2) / 2)
    np.testing.assert_allclose(error, [of_z, 0.05 / (2 * 0.01)], rtol=1e-5)
    low = CONTROLLER.error(z, new, z_error, 3 * z_error, lanes(0.0, -0.05), lanes(0.0, 0.1), unit)
    weighed = [h**2 / math.sqrt(h**2 + 0.01 * w**2) for h, w in ((of_z, 3 * of_z), (2.5, 5.0))]
    np.testing.assert_allclose(low, weighed, rtol=1e-5)


def test_the_first_step_changes_z_by_a_hundredth_and_is_cut_where_slopes_bend():
    """Hairer, Nørsett and Wanner, section II.4, with |z| = 1 and a scale of 0.012."""
    z, one = jnp.ones((1, 4)), lanes(1.0)
    scale = 1e-3 + 1e-2 + 1e-3
    guess = CONTROLLER.first_guess(z, 5.0 * z, lanes(9.0), one)
    assert float(guess[0]) == pytest.approx(0.01 / 5.0)
    assert float(CONTROLLER.first_guess(z, 5.0 * z, lanes(1e-3), one)[0]) == pytest.approx(1e-3)
    small = CONTROLLER.first_guess(1e-3 * z, 5.0 * z, lanes(9.0), one)  # half a scale
    assert float(small[0]) == pytest.approx(0.01 * 1e-3 / 5.0)
    for value, slope in ((0.0, 5.0), (1.0, 0.0)):
        blind = CONTROLLER.first_guess(value * z, slope * z, lanes(9.0), one)
        assert float(blind[0]) == pytest.approx(9e-6)

    def size(slope=0.0, there=0.0, dell=0.0, dell_there=0.0, guess=0.01, order=4):
        arguments = slope * z, there * z, lanes(dell), lanes(dell_there), lanes(guess)
        return float(CONTROLLER.first_size(z, *arguments, order, one)[0])

    assert size() == pytest.approx(1.0)  # flat: a hundred guesses
    assert size(5.0, 5.0) == pytest.approx((0.01 * scale / 5.0) ** 0.2, rel=1e-5)
    assert size(5.0, 6.0) == pytest.approx((0.01 * scale * 0.01 / 1.0) ** 0.2, rel=1e-5)
    assert size(dell=8.0, dell_there=8.0) == pytest.approx((0.01 * 0.04 / 8.0) ** 0.2, rel=1e-5)
    assert size(dell=8.0, dell_there=7.0) == pytest.approx((0.01 * 0.04 * 0.01) ** 0.2, rel=1e-5)
    assert size(5.0, 5.0, guess=1e-4) == pytest.approx(0.01)
    assert size(5.0, 5.0, order=1) == pytest.approx((0.01 * scale / 5.0) ** 0.5, rel=1e-5)
