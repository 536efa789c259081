"""`--list` on a screen of 80 columns."""

from experiments import registry
from launch.listing import listing
from launch.screen import SCREEN_WIDTH

SCREEN_LINES = 24


def test_everything_there_is_fits_two_screens():
    lines = listing().splitlines()
    assert len(lines) <= 2 * SCREEN_LINES
    assert max(map(len, lines)) <= SCREEN_WIDTH


def test_an_experiment_stands_on_its_familys_lines():
    text = listing()
    assert all(entry.name in text for entry in registry.entries())
    assert "\ndigits_vp\n      digits_sp, digits_vp_finetune" in text
    assert "cifar10_vp_finetune (2.56)" in text


def test_a_pattern_says_what_each_is_to_show():
    lines = listing("digits_sp").splitlines()
    assert "digits_vp" in lines[1]  # its parent
    assert "traight paths" in lines[2]
