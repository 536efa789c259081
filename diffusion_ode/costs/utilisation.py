"""The utilisation of the devices that there are."""

from diffusion_ode.costs.devices import peak_flops
from diffusion_ode.costs.flops import train_step_flops
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.utilisation import Utilisation


def utilisation(program: TrainProgram) -> Utilisation | None:
    """Of a training; None where the devices' peak is not known, as on CPUs."""
    if peak_flops() is None:
        return None
    flops = train_step_flops(program)
    peak = peak_flops(half=flops.bfloat16)
    return None if peak is None else Utilisation(flops.model, peak)
