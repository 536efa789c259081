"""Pieces of which one method fails, each of a kind that no training step asks."""

from data.sources.digits import Digits
from diffusion_ode.diffusion.dequantization import TruncatedNormalDequantization
from diffusion_ode.diffusion.end_terms import GaussianEnds
from diffusion_ode.diffusion.integration_variable import LogSnrVariable
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.time_sampling import UniformTimes
from diffusion_ode.errors import UserError
from diffusion_ode.inference.decoding import NearestLevel
from diffusion_ode.solvers.adams import Adams
from diffusion_ode.solvers.arrays import traced_fields
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.pi_controller import PIController


def _broken(base: type, method: str) -> type:
    def fails(self, *_, **__):
        raise TypeError("an argument too few")

    return type(f"Broken{base.__name__}", (base,), {method: fails, "__module__": __name__})


BrokenAdams = _broken(Adams, "integrator")
BrokenPIController = traced_fields(_broken(PIController, "next_time"))
BrokenHutchinsonTrace = _broken(HutchinsonTrace, "__call__")
BrokenLogSnrVariable = _broken(LogSnrVariable, "gamma_derivative")
BrokenTruncatedNormalDequantization = _broken(TruncatedNormalDequantization, "start")
BrokenVelocityPrediction = _broken(VelocityPrediction, "drift_skip")
BrokenUniformTimes = _broken(UniformTimes, "sample")
BrokenGaussianEnds = _broken(GaussianEnds, "prior")
BrokenNearestLevel = _broken(NearestLevel, "__call__")


class FlatDecoder(NearestLevel):
    """Its images have lost an axis."""

    def __call__(self, model, z, key):
        return super().__call__(model, z, key)[..., 0]


class NoDigits(Digits):
    """It looks like them, and has none."""

    def load(self, data_dir=None):
        raise UserError("The digits are lost.")
