"""What is pushed is popped, and what is popped is as random as a Gaussian's draws."""

import itertools

import numpy as np
import pytest

from diffusion_ode.coding.stack import BitStack, GridGaussian
from diffusion_ode.errors import UserError


def filled(words=4000):
    """A stack of zeros, the least random there is."""
    return BitStack(np.append(np.zeros(words), 1).astype(np.uint32))


def test_far_values_are_popped_as_they_were_pushed():
    gaussian = GridGaussian(np.zeros(7), 0.5, 0.1)
    multiples = np.asarray([0, 3, -60, 10**6, -(10**9), 55, 49])
    stack = filled(2)
    before = stack.to_bytes()
    stack.push(multiples, gaussian)
    assert np.array_equal(stack.pop(gaussian), multiples)
    assert stack.to_bytes() == before


def test_returned_draws_leave_the_stack_as_it_was():
    gaussian = GridGaussian(np.linspace(-9.0, 9.0, 500), 1.3, 0.2)
    stack = filled()
    before, bits = stack.to_bytes(), stack.bits
    drawn = stack.draw(gaussian, 3)
    assert bits - stack.bits == pytest.approx(500 * gaussian.bits, rel=0.05)
    stack.undraw(drawn, gaussian, 3)
    assert stack.to_bytes() == before


def test_what_lies_far_below_the_top_changes_no_bit(monkeypatch):
    """The coder that holds a hundred words does what one with all of them does."""

    def walked():
        stack, gaussian = filled(900), GridGaussian(np.linspace(-9.0, 9.0, 150), 1.3, 0.2)
        levels, probabilities = np.arange(150) % 4, np.full((150, 4), 0.25)
        pushed = [np.rint(gaussian.mean / 0.2).astype(np.int64) + k for k in (-2, 5, 60)]
        seen = [stack.to_bytes()]
        drawn = [stack.draw(gaussian, number) for number in range(4)]
        for multiples in pushed * 8:
            stack.push(multiples, gaussian)
            stack.push_levels(levels, probabilities)
            stack.push_plain(levels, 4)
            seen += [stack.to_bytes(), stack.bits]
        assert len(BitStack.of_bytes(seen[-2]).to_bytes()) == len(seen[-2])
        for multiples in reversed(pushed * 8):
            assert np.array_equal(stack.pop_plain(150, 4), levels)
            assert np.array_equal(stack.pop_levels(probabilities), levels)
            assert np.array_equal(stack.pop(gaussian), multiples)
            seen += [stack.to_bytes(), stack.bits]
        for number in reversed(range(4)):
            stack.undraw(drawn[number], gaussian, number)
        assert stack.to_bytes() == seen[0]
        return seen

    whole = walked()
    monkeypatch.setattr("diffusion_ode.coding.stack._TOP", 100)
    assert walked() == whole


def test_values_that_no_draw_gives_are_refused():
    gaussian = GridGaussian(np.zeros(1), 1.0, 0.25)
    with pytest.raises(UserError, match="altered"):
        filled().undraw(np.asarray([28]), gaussian, 0)


@pytest.mark.parametrize("dimensions", [1, 8])
def test_draws_are_standard_normal_although_the_values_pushed_between_are_not(dimensions):
    """A walk z_t ~ N(z_s, 1), each value pushed under a model that is too narrow.

    Without the pad the deviation of what was pushed last is that of what is drawn next.
    """
    stack, z, innovations = filled(), np.zeros(dimensions, np.int64), []
    for number in range(8000 // dimensions):
        z_next = stack.draw(GridGaussian(0.1 * z, 1.0, 0.1), number)
        stack.push(z, GridGaussian(0.1 * z_next, 0.8, 0.1))
        innovations.append(0.1 * (z_next - z))
        z = z_next
    innovations = np.asarray(innovations)
    count = innovations.size
    assert abs(innovations.mean()) < 4 / np.sqrt(count)
    assert abs(np.square(innovations).mean() - 1.0) < 4 * np.sqrt(2 / count)
    assert abs((innovations**4).mean() - 3.0) < 4 * np.sqrt(96 / count)
    assert np.abs(innovations).max() < 6.0
    for one, other in itertools.product(range(dimensions), repeat=2):
        lagged = np.mean(innovations[1:, one] * innovations[:-1, other])
        assert abs(lagged) < 5 / np.sqrt(len(innovations))
