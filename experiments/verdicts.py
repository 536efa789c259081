"""What came of the hypotheses that were tried here, on two cores: see `benchmarks/verdicts.py`."""

from typing import Literal, NamedTuple


class Verdict(NamedTuple):
    """What came of an experiment's hypothesis.

    Attributes:
      says: whether it holds.
      figure: over which seeds, compared with what, in bits per dimension with the error over seeds.
    """

    says: Literal["holds", "does not hold", "is undecided"]
    figure: str


VERDICTS: dict[str, Verdict] = {}
