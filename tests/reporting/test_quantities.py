"""Numbers with units, as they are read."""

import pytest

from diffusion_ode.reporting.quantities import data_size, hours, operations, short_time


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (136, "136 B"),
        (49_152, "49.2 kB"),
        (999_600, "1 MB"),
        (122e6, "122 MB"),
        (10.69e9, "10.7 GB"),
        (99.97e9, "100 GB"),
        (296e9, "296 GB"),
        (1234e9, "1,234 GB"),
    ],
)
def test_bytes_have_three_digits_and_never_an_exponent(size, said):
    assert data_size(size) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(2.5e-7, "0.25 µs"), (299e-6, "299 µs"), (0.0445, "44.5 ms"), (0.9999, "1 s"), (75, "1 min")],
)
def test_a_step_s_time_has_the_unit_that_fits(seconds, said):
    assert short_time(seconds) == said


def test_device_hours_of_a_short_run_are_not_zero():
    assert hours(0.9) == "900 ms"
    assert hours(47_808 * 3600) == "47,808 h"


def test_operations_are_counted_in_thousands_of_thousands():
    assert operations(39.7e12) == "39.7 TFLOP"
    assert operations(2.5e18) == "2,500 PFLOP"
