"""FLOPs and bytes by formula, against XLA's analysis of the compiled step."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from diffusion_ode.backend import compiling_for
from diffusion_ode.costs.devices import find_device
from diffusion_ode.costs.estimate import estimate, sent_bytes
from diffusion_ode.costs.flops import train_step_flops
from diffusion_ode.costs.memory import activations, train_step_bytes
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.networks.block_loop import Scanned, Unrolled
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.networks.rematerialization import KeepInputs, KeepProducts
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import SingleProbe
from diffusion_ode.training.optimizer import AdamW
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Mesh
from diffusion_ode.training.step import ExponentialAverage

SECOND_ORDER = SecondOrderFlowMatching(residual=SingleProbe())
DEVICES = {"data": 2, "fsdp": 4}


def program(placement, network, *, objective=None, shape=(8, 8, 1), batch=16, accumulation=1):
    return TrainProgram(
        model=Model(
            VariancePreserving(),
            LinearSchedule(),
            VelocityPrediction(),
            network,
            Pixels(shape, 256),
        ),
        objective=objective or FlowMatching(),
        optimizer=AdamW(),
        average=ExponentialAverage(),
        placement=placement,
        num_steps=100,
        batch_size=batch,
        accumulation=accumulation,
        seed=0,
    )


def small(**settings):
    return UNet(**{"features": 32, "blocks": 1, "fourier_exponents": (2, 3), **settings})


# The last ones take long, and a variation of each is among the first.
CASES = {
    "attention, recomputed": {"network": small(attention=True, remat=KeepInputs())},
    "second order": {"network": small(), "objective": SECOND_ORDER},
}
LONG = {
    "attention": {"network": small(attention=True)},
    "recomputed": {"network": small(remat=KeepInputs())},
    "wider": {"network": small(features=64, blocks=2), "shape": (16, 16, 3), "batch": 8},
    "no dropout": {"network": small(blocks=2, dropout=0.0), "objective": SECOND_ORDER},
    "products kept": {"network": small(attention=True, remat=KeepProducts())},
    "accumulated": {"network": small(), "accumulation": 2},
    "second order, recomputed": {"network": small(remat=KeepInputs()), "objective": SECOND_ORDER},
}
PARAMETERS = [*CASES, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]


@pytest.fixture(scope="module")
def compiled():
    """Name of a case → its program and executable; compiled once."""
    made = {}

    def of(name):
        if name not in made:
            one = Mesh(data=1).build(jax.devices()[:1])
            step = program(one, **{**CASES, **LONG}[name])
            made[name] = step, step.compile_step().executable
        return made[name]

    return of


@pytest.mark.parametrize("name", PARAMETERS)
def test_flops_are_within_5_percent_of_xla_s_count(compiled, name):
    step, executable = compiled(name)
    flops = train_step_flops(step)
    assert flops.total == pytest.approx(executable.cost_analysis()["flops"], rel=0.05)
    assert (flops.recomputed > 0) == ("KeepAll" not in str(step.model.network.remat))


@pytest.mark.parametrize("name", PARAMETERS)
def test_bytes_are_within_10_percent_of_the_compiled_step_s_analysis(compiled, name):
    step, executable = compiled(name)
    size, analysis = train_step_bytes(step), executable.memory_analysis()
    assert size.temporary == pytest.approx(analysis.temp_size_in_bytes, rel=0.1)
    assert size.state + size.batch == pytest.approx(analysis.argument_size_in_bytes, rel=0.01)


@pytest.mark.long
def test_bytes_of_a_scanned_network_are_within_10_percent_of_its_analysis():
    step = program(Mesh(data=1).build(jax.devices()[:1]), small(blocks=3, loop=Scanned()))
    temporary = step.compile_step().executable.memory_analysis().temp_size_in_bytes
    assert train_step_bytes(step).temporary == pytest.approx(temporary, rel=0.1)


def test_a_first_order_step_is_three_forward_passes_and_a_second_order_one_six():
    placement, network = Mesh().imagine(), small()
    forward = 16 * network.forward_flops((8, 8, 1)).products
    assert train_step_flops(program(placement, network)).model == 3 * forward
    second = program(placement, network, objective=SECOND_ORDER)
    assert train_step_flops(second).model == 6 * forward


def test_flops_of_the_forward_pass_by_hand():
    network = UNet(features=32, blocks=1, fourier_exponents=())
    convolution = 2 * 22 * 22  # of 8 × 8 by 3 × 3, where the filter lies on the image
    blocks = 3 * (convolution * 2 * 32 * 32) + 2 * (convolution * 3 * 32 * 32 + 2 * 64 * 64 * 32)
    condition = 2 * 33 * 128 + 2 * 128 * 128 + 5 * 2 * 128 * 32
    attention = 4 * 2 * 64 * 32 * 32 + 2 * 2 * 64 * 64 * 32
    ends = convolution * 32 * 2
    assert network.forward_flops((8, 8, 1)).products == blocks + condition + attention + ends


def test_state_is_divided_along_fsdp_and_images_along_both_axes():
    network = small(features=64)
    whole = train_step_bytes(program(Mesh().imagine(), network))
    shared = train_step_bytes(program(Mesh(**DEVICES).imagine(), network))
    assert shared.batch == whole.batch / 8
    # Biases and other small arrays are on every device.
    assert whole.parameters / 4 < shared.parameters < whole.parameters / 2
    assert (whole.gathered, shared.gathered) == (0, whole.parameters)


def test_each_field_saves_the_memory_that_it_is_for():
    def activations(**settings):
        with compiling_for("tpu"):
            return train_step_bytes(program(Mesh().imagine(), small(**settings))).activations

    everything, products = activations(), activations(remat=KeepProducts())
    assert activations(remat=KeepInputs()) < products < everything
    assert activations(precision=Bfloat16()) < everything


def test_a_tpu_pads_arrays_whose_lanes_are_not_full():
    def activations(batch, platform):
        with compiling_for(platform):
            step = program(Mesh().imagine(), small(loop=Scanned()), batch=batch)
            return train_step_bytes(step).activations / batch

    assert activations(16, "tpu") > 1.3 * activations(16, "gpu")
    assert activations(128, "tpu") == pytest.approx(activations(128, "gpu"))


def test_what_a_step_needs_adds_up():
    step = program(Mesh(**DEVICES).imagine(), small(features=64), accumulation=2)
    size = train_step_bytes(step)
    listed = size.parameters + size.average + size.moments + size.batch
    assert listed + size.gathered + size.gradients + size.activations == size.total
    assert size.gradients >= size.gathered > 0


def test_devices_send_twice_their_gradients_less_their_own_share():
    network = small()
    parameters = train_step_bytes(program(Mesh().imagine(), network)).parameters
    assert sent_bytes(program(Mesh().imagine(1), network)) == 0
    assert sent_bytes(program(Mesh().imagine(8), network)) == pytest.approx(parameters * 7 / 4)
    shared = program(Mesh(**DEVICES).imagine(), network)
    assert sent_bytes(shared) == pytest.approx(parameters * (2 * 3 / 4 + 2 * 1 / 2 / 4))


def test_more_devices_take_less_time_until_the_network_is_the_bound():
    network, h100 = small(features=128), find_device("h100")

    def step(devices):
        return estimate(program(Mesh().imagine(devices), network, batch=512), h100)

    assert step(8).seconds < step(1).seconds
    assert step(512).bound == "network"
    assert step(8).device_seconds(1000) > step(1).device_seconds(1000)


def test_an_estimate_is_what_docs_scaling_says_by_hand():
    """Its table of formulas, written down again."""
    n, batch, parts, a100 = 2, 16, 2, find_device("a100")
    network = small(remat=KeepInputs())

    def on(devices, images, accumulation, network=network):
        placement = Mesh().imagine(devices)
        return program(placement, network, batch=images, accumulation=accumulation)

    step = on(n, batch, parts)
    with compiling_for("gpu"):
        of_one = activations(on(1, 1, 1)).total
        unrolled = activations(on(1, 1, 1, small(loop=Unrolled()))).total
        flops = train_step_flops(step)
    count = sum(leaf.size for leaf in jax.tree.leaves(step.abstract_state.parameters))
    forward, again = network.forward_flops((8, 8, 1)).products, flops.recomputed / batch
    said, b = estimate(step, a100), batch / n
    assert said.compute == pytest.approx(batch * (3 * forward + again) / (n * 156e12 * 0.4))
    moved = 10 * 4 / 3 * b * unrolled + 36 * count
    assert said.memory == pytest.approx(moved / (2039e9 * 0.8), rel=1e-3)
    assert said.network == pytest.approx(2 * (n - 1) / n * 4 * count / (300e9 * 0.8))
    needed = 16 * count + b * of_one / parts + 4 * count
    # So small a network's gradients are not small beside its activations.
    assert needed <= said.size.total <= 1.01 * (needed + 4 * count)


def test_accumulation_moves_as_many_bytes_in_smaller_parts():
    network, h100 = small(), find_device("h100")

    def step(accumulation):
        placement = Mesh().imagine(2)
        return estimate(program(placement, network, accumulation=accumulation), h100)

    whole, parts = step(1), step(4)
    assert parts.memory == pytest.approx(whole.memory)
    assert parts.size.activations == pytest.approx(whole.size.activations / 4, rel=0.1)


def test_beyond_one_host_gradients_take_the_network_between_hosts():
    network, h100, v5e = small(), find_device("h100"), find_device("v5e")

    def rate(devices, device):
        step = program(Mesh().imagine(devices), network, batch=devices)
        return sent_bytes(step) / estimate(step, device).network

    assert rate(8, h100) == pytest.approx(9 * rate(16, h100))
    assert rate(8, v5e) == pytest.approx(rate(16, v5e))


class Plain(nn.Module):
    """Two dense layers that state nothing; in bfloat16 on request."""

    dtype: Any = None

    @nn.compact
    def __call__(self, z, time, flag, sigma, *, deterministic=True):
        h = nn.tanh(nn.Dense(16, dtype=self.dtype)(z.reshape(len(z), -1)))
        return nn.Dense(z[0].size, dtype=self.dtype)(h).reshape(z.shape)


def test_a_network_that_states_nothing_is_counted_by_xla():
    flops = train_step_flops(program(Mesh().imagine(8), Plain(), batch=512, accumulation=2))
    # Forward and by weights, and by inputs of the second layer alone; the rest is elementwise.
    products = 512 * 2 * 64 * 16 * (2 + 2 + 1)
    assert products < flops.model < 2 * products
    assert (flops.forward, flops.recomputed, flops.bfloat16) == (None, 0, False)
    assert train_step_flops(program(Mesh().imagine(), Plain(jnp.bfloat16))).bfloat16


def test_of_a_network_that_states_nothing_what_its_derivative_keeps_is_counted():
    kept = activations(program(Mesh().imagine(), Plain())).total
    assert kept == 4 * (
        64 + 2 * 16
    )  # the first layer's input, tanh's output and what it derives to
    second = activations(program(Mesh().imagine(), Plain(), objective=SECOND_ORDER)).total
    assert kept < second < 4 * kept


def test_an_objective_that_states_nothing_is_counted_by_xla():
    class Unknown(FlowMatching):
        directions = None

    placement = Mesh().imagine()
    unknown = train_step_flops(program(placement, small(), objective=Unknown()))
    stated = train_step_flops(program(placement, small()))
    assert unknown.forward is None
    assert unknown.total == pytest.approx(stated.total, rel=0.1)


def test_estimates_need_no_statement():
    step = estimate(program(Mesh(**DEVICES).imagine(), Plain()), find_device("h100"))
    assert step.fits
    assert step.seconds > 0
