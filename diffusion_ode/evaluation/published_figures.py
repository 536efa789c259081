"""Published bits per dimension, by data set: where a result stands among its relatives."""

import textwrap
from typing import NamedTuple


class PublishedFigure(NamedTuple):
    """What a paper states of a system on a data set's test images."""

    data: str  # the data set's registered name; figures on two of them are never compared
    system: str
    bpd: float
    source: str


_NO_BREAK = "\N{NO-BREAK SPACE}"
_I_DODE = "Zheng et al. 2023, arXiv:2305.03935"
_VDM = "Kingma et al. 2021, arXiv:2107.00630"
_SCORE_FLOW = "Song et al. 2021, arXiv:2101.09258"
_SCORE_ODE = "Lu et al. 2022, arXiv:2206.08265"
_FLOW_MATCHING = "Lipman et al. 2023, arXiv:2210.02747"
_DIFF_ENC = "Nielsen et al. 2024, arXiv:2310.19789"
_MULAN = "Sahoo et al. 2024, arXiv:2312.13236"

FIGURES = (
    PublishedFigure("cifar10", "i-DODE, augmented", 2.42, _I_DODE),
    PublishedFigure("cifar10", "VDM, augmented", 2.49, _VDM),
    PublishedFigure("cifar10", "MuLAN", 2.55, _MULAN),
    PublishedFigure("cifar10", "i-DODE", 2.56, _I_DODE),
    PublishedFigure("cifar10", "DiffEnc", 2.62, _DIFF_ENC),
    PublishedFigure("cifar10", "VDM", 2.65, _VDM),
    PublishedFigure("cifar10", "ScoreFlow", 2.83, _SCORE_FLOW),
    PublishedFigure("cifar10", "Flow Matching", 2.99, _FLOW_MATCHING),
    PublishedFigure("cifar10", "ScoreODE, deeper", 3.38, _SCORE_ODE),
    PublishedFigure("cifar10", "ScoreODE", 3.44, _SCORE_ODE),
    PublishedFigure("imagenet32_old", "i-DODE", 3.69, _I_DODE),
    PublishedFigure("imagenet32_old", "VDM", 3.72, _VDM),
    PublishedFigure("imagenet32_new", "i-DODE", 3.43, _I_DODE),
    PublishedFigure("imagenet32_new", "Flow Matching", 3.53, _FLOW_MATCHING),
    PublishedFigure("imagenet64", "Flow Matching", 3.31, _FLOW_MATCHING),
    PublishedFigure("imagenet64", "VDM", 3.40, _VDM),
    # Which of the two releases it is was not at hand, so that it stands beside no result.
    PublishedFigure("imagenet32, release not stated", "DiffEnc", 3.46, _DIFF_ENC),
)


def figures_on(data: str) -> list[PublishedFigure]:
    """Those on the data set of exactly this name, the best first."""
    return [figure for figure in FIGURES if figure.data == data]


def in_lines(data: str, width: int) -> list[str]:
    """Systems and figures in lines of at most so many characters; none if there are no figures."""
    said = (f"{figure.system} {figure.bpd:.2f}" for figure in figures_on(data))
    whole = "; ".join(each.replace(" ", _NO_BREAK) for each in said)
    return [line.replace(_NO_BREAK, " ") for line in textwrap.wrap(whole, width)]
