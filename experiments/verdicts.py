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


VERDICTS: dict[str, Verdict] = {
    "digits_sp": Verdict(
        "does not hold",
        "three seeds of 300 steps by AdamW, one block a side: by the ODE it is +0.041 (95 %: +0.011"
        " to +0.071) from digits_vp, by the bound +0.041 (+0.026 to +0.056).",
    ),
    "digits_vp_finetune": Verdict(
        "is undecided",
        "one seed by AdamW, 297 test images, errors over images: −0.050 ± 0.004 from digits_vp, but"
        " −0.003 ± 0.003 from digits_vp_continued, whose steps take 0.6 of the time.",
    ),
}
