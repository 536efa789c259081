"""What one chooses about a code."""

from dataclasses import dataclass
from typing import Annotated

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Within

MOST_STEPS = 10_000
"""More than anybody needs: so a forged file cannot ask for endless work."""
FINENESS_UNIT = 64
"""A file says the fineness in parts of this."""


@dataclass(frozen=True)
class CodecSettings:
    """How finely the diffusion is cut into steps, and its latents into a grid.

    Args:
      steps: T. The file's size is that of the T-step bound, time to code grows with T.
      ancestral: the same step in γ everywhere and the variances of ancestral sampling, of which the
        file's size is the bound by `DiscreteTimes(T)`; else places and variances of the steps are
        those by which the code is shortest.
      fineness: the grid's distance, in standard deviations of the narrower of a level's two
        distributions, a multiple of 1/64. A finer grid needs more bits to begin with; a coarse one
        adds its rounding to the noise and widens both, so that the bound of ancestral steps, which
        are too narrow, is met at 1/4 and undercut at 1.
    """

    steps: Annotated[int, Within(1, MOST_STEPS)] = 200
    ancestral: bool = False
    fineness: Annotated[float, Within(0, 1, "(]")] = 0.5

    def __post_init__(self):
        check_fields(self)
        parts = self.fineness * FINENESS_UNIT
        if parts != round(parts):
            raise UserError(
                f"fineness = {self.fineness} is not a multiple of 1/{FINENESS_UNIT} from"
                f" 1/{FINENESS_UNIT} to 1: give one, such as 0.5."
            )
