"""The utilisation of the devices that there are."""

from diffusion_ode.costs.devices import peak_flops
from diffusion_ode.costs.flops import train_step_flops
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.utilisation import Utilisation


def utilisation(program: TrainProgram) -> Utilisation | None:
    """Of a training; None where the network's FLOPs or the devices' peak are not known.

    On a CPU the peak is measured the first time, which takes less than half a second.
    """
    flops = train_step_flops(program)
    half = isinstance(getattr(program.model.network, "precision", None), Bfloat16)
    peak = peak_flops(half) if flops is not None else None
    return None if flops is None or peak is None else Utilisation(flops.model, peak)
