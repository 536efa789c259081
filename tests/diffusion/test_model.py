"""What a model says of itself."""

from diffusion_ode.diffusion.model import Model, parameter_count
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from tests.small_network import SmallNetwork


def test_parameters_are_counted():
    pieces = VariancePreserving(), LinearSchedule(-4.0, 4.0), VelocityPrediction()
    dense, first, last = 2 * 8 + 8, 9 * 8 + 8, 9 * 8 + 1
    assert parameter_count(Model(*pieces, SmallNetwork(), Pixels((4, 4, 1), 5))) == (
        dense + first + last
    )
