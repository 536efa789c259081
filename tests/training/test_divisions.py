"""One training, however many devices share it and however they are divided."""

import numpy as np
import pytest

from diffusion_ode.training.collectives import Collective, total_bytes
from tests import eight_devices
from tests.training.divided_training import BATCH, DIVISIONS, OTHERS, SOME_DIVISIONS

NAMES = [f"{data}x{fsdp}" for data, fsdp in DIVISIONS]
MORE = [f"{data}x{fsdp}" for data, fsdp in OTHERS]
SOME = [f"{data}x{fsdp}" for data, fsdp in SOME_DIVISIONS]
SMALL = 1024  # bytes: sums over a batch for the metrics; the smallest network's gradient is 3 kB


@pytest.fixture(scope="module")
def results():
    return eight_devices.last_line("-m", "tests.training.divided_training", timeout=900)


@pytest.fixture(scope="module")
def results_of_more():
    return eight_devices.last_line("-m", "tests.training.divided_training", "others", timeout=900)


def assert_same_training(one, other):
    """To 1e-5: losses; parameters, average and moments each by the largest of an array."""
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=1e-5)
    assert one["state"].keys() == other["state"].keys()
    for name, array in one["state"].items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(
            array, other["state"][name], rtol=1e-5, atol=1e-5 * scale, err_msg=name
        )


def test_every_division_begins_alike(results):
    assert results["start"]["1x1"] == results["start"]["2x4"]


@pytest.mark.parametrize("division", NAMES[1:])
def test_every_division_trains_like_one_device(results, division):
    """Dropout included; among the state are the last times and each image's own loss."""
    assert_same_training(results["trained"]["1x1"], results["trained"][division])


@pytest.mark.long
@pytest.mark.parametrize("division", MORE)
def test_more_divisions_train_like_one_device(results_of_more, division):
    trained = results_of_more["trained"]
    assert_same_training(trained["1x1"], trained[division])


@pytest.mark.parametrize("division", SOME)
def test_training_in_parts_is_the_same_with_dropout_too(results, division):
    assert_same_training(results["trained"]["1x1"], results["in two parts"][division])


@pytest.mark.parametrize("division", SOME)
@pytest.mark.parametrize("what", ["times", "noise", "probes", "dropout"])
def test_nothing_random_depends_on_the_division(results, what, division):
    one, other = (np.asarray(results["drawn"][name][what]) for name in ("1x1", division))
    assert len(np.unique(one)) > 1
    if what in ("times", "noise"):  # logarithms may be rounded otherwise in another program
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(one, other)


def test_no_two_images_share_their_dropout(results):
    masks = np.asarray(results["drawn"]["8x1"]["dropout"]).reshape(BATCH, -1)
    assert len(np.unique(masks, axis=0)) == BATCH
    assert 0.4 < (masks > 0.0).mean() < 0.6


def test_state_is_shared_along_fsdp(results):
    held = {name: results["trained"][name]["bytes_held"] for name in NAMES}
    assert held["8x1"] == held["1x1"]
    # Parameters, average and two moments, each an eighth where shared.
    saved = 4 * results["trained"]["1x8"]["shared_bytes"] * 7 / 8
    assert held["1x8"] == held["1x1"] - saved


def rows_of(result) -> list[Collective]:
    return [Collective(**row) for row in result["collectives"]]


def about(expected: int):
    """Metrics ride along; XLA sends gradients that are equal only once (of two biases)."""
    return pytest.approx(expected, abs=SMALL)


def test_data_parallel_step_sends_one_reduction_of_the_gradient(results):
    result = results["unet"]["8x1"]
    large = [row for row in rows_of(result) if row.total_bytes > SMALL]
    assert {row.kind for row in large} == {"all-reduce"}
    assert total_bytes(large, "all-reduce") == about(result["parameter_bytes"])
    assert result["shared_bytes"] == 0


def test_fsdp_step_gathers_parameters_and_scatters_gradients_and_no_more(results):
    result = results["unet"]["2x4"]
    rows, shared = rows_of(result), result["shared_bytes"]
    sent = lambda kind, devices: total_bytes([r for r in rows if r.devices == devices], kind)  # noqa: E731
    assert shared > 0.9 * result["parameter_bytes"]
    assert sent("all-gather", 4) == shared
    assert sent("reduce-scatter", 4) == shared
    # Then each share is reduced along data, and what is not shared over all devices.
    assert sent("all-reduce", 2) == about(shared // 4)
    assert sent("all-reduce", 8) == about(result["parameter_bytes"] - shared)
    assert sum(row.total_bytes for row in rows) == about(
        2 * shared + shared // 4 + result["parameter_bytes"] - shared
    )


@pytest.mark.parametrize("division", SOME)
def test_accumulation_sends_no_more_than_a_whole_step(results, division):
    whole, parts = (rows_of(results[how][division]) for how in ("trained", "in two parts"))
    for kind in ("all-gather", "reduce-scatter", "all-reduce"):
        assert total_bytes(parts, kind) == pytest.approx(total_bytes(whole, kind), abs=SMALL)
