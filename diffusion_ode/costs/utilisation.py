"""The utilisation of the devices that there are."""

from typing import Any

from diffusion_ode.costs.devices import peak_flops
from diffusion_ode.costs.flops import train_step_flops
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.utilisation import Utilisation


def utilisation(program: TrainProgram) -> Utilisation | None:
    """Of a training; None where the network's FLOPs or the devices' peak are not known.

    On a CPU the peak is measured the first time, which takes less than half a second.
    """
    network: Any = program.model.network
    flops = train_step_flops(program)
    if flops is None:
        return None
    peak = peak_flops(half=isinstance(network.precision, Bfloat16))
    return None if peak is None else Utilisation(flops.model, peak)
