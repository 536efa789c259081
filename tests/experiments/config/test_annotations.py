import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import fiddle as fdl
import flax.linen as nn
import pytest

from data.augmentation import Augmentation
from data.pipeline import Data
from data.source import Source
from diffusion_ode.checking import Misfit, fit
from diffusion_ode.conformance import annotations_of
from diffusion_ode.diffusion.dequantization import UniformDequantization
from diffusion_ode.diffusion.model import Network
from diffusion_ode.diffusion.path import Path as DiffusionPath
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.uniforms import Uniforms
from diffusion_ode.inference.decoding import Decoder
from diffusion_ode.inference.draw_combination import AveragedDraws, DrawCombination
from diffusion_ode.networks.precision import Precision
from diffusion_ode.networks.residual_block import ResidualBlock
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.objective import Objective
from diffusion_ode.training.optimizer import AdamW, LearningRate
from experiments.config.annotations import pieces_for, takes


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Sized(Protocol):
    size: int

    def grow(self) -> None: ...


class Called(Protocol):
    def __call__(self, step: int) -> float: ...


@dataclass(frozen=True)
class Box:
    size: int = 1

    def grow(self):
        pass


@dataclass(frozen=True)
class Pebble:
    size: int = 1


@dataclass(frozen=True)
class Rate:
    def __call__(self, step):
        return step


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (True, bool, True),
        ("a", str, "a"),
        ("a/b", Path, Path("a/b")),
        (None, int | None, None),
        (3, int | None, 3),
        (3, float | int, 3),
        (0.5, int | float, 0.5),
        ("adam", Literal["adam", "sgd"], "adam"),
        ([1, 2], tuple[int, ...], (1, 2)),
        ((1, 2), tuple[float, float], (1.0, 2.0)),
        ((), tuple[int, ...], ()),
        ((1,), list[int], [1]),
        ((1, 2), Sequence[int], (1, 2)),
        ({"a": 1}, Mapping[str, int], {"a": 1}),
        ("RED", Colour, Colour.RED),
        (3, Annotated[int, "positive"], 3),
        (object, Any, object),
        (nn.gelu, Callable[[float], float], nn.gelu),
        (fdl.Config(Box), Sized, fdl.Config(Box)),
        (fdl.Config(Rate), Called, fdl.Config(Rate)),
        (fdl.Config(Box), Box, fdl.Config(Box)),
        (fdl.Config(UNet), Network, fdl.Config(UNet)),
        (fdl.Config(StraightPath), DiffusionPath, fdl.Config(StraightPath)),
    ],
)
def test_what_fits_comes_back_as_the_field_wants_it(value, annotation, expected):
    fitted = fit(value, annotation)
    assert fitted == expected
    assert type(fitted) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (3.0, int),
        (True, int),
        (True, float),
        (1, bool),
        ("3", int),
        (None, int),
        (3, str),
        (1, Literal["adam", "sgd"]),
        (1, Literal[True]),
        ((1, 2), tuple[int, int, int]),
        ((1, "a"), tuple[int, ...]),
        (1, tuple[int, ...]),
        ("GREEN", Colour),
        (3, Sized),
        (fdl.Config(Pebble), Sized),
        (fdl.Config(Box), Called),
        (fdl.Config(Pebble), Box),
        (fdl.Config(Box), int),
        (fdl.Config(StraightPath), Network),
        (fdl.Config(ResidualBlock), Network),
        (fdl.Config(ResidualBlock), Precision),
        (fdl.Config(UniformDequantization), Uniforms),
        (fdl.Config(AveragedDraws), Decoder),
    ],
)
def test_what_does_not_fit_is_told_apart(value, annotation):
    with pytest.raises(Misfit):
        fit(value, annotation)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int | None, "an int or None"),
        (tuple[int, int, int], "(int, int, int)"),
        (tuple[int, ...], "a tuple of int"),
        (Literal["a", "b"], "'a' or 'b'"),
        (Colour, "RED or BLUE"),
        (Path, "a path"),
        (Any, "anything"),
        (Sized, "a Sized"),
        (Objective, "an Objective, e.g. FlowMatching() or SecondOrderFlowMatching()"),
        (AdamW, "AdamW()"),
        (Data, "Data(source=…)"),
        (Augmentation | None, "an Augmentation, e.g. Flip() or FlipRotate(), or None"),
    ],
)
def test_takes_says_what_a_field_takes(annotation, expected):
    assert takes(annotation) == expected


def test_takes_names_the_pieces_of_a_protocol_wherever_they_live():
    assert takes(DiffusionPath) == (
        "a Path, e.g. StraightPath(), SubVariancePreserving(), VarianceExploding() or"
        " VariancePreserving()"
    )
    assert takes(Network) == "a Network, e.g. DiT(), MultiScaleUNet() or UNet()"
    assert takes(Source).startswith("a Source, e.g. ArrayFile(path=…), Cifar10(), Digits()")


@pytest.mark.parametrize("kind", [Uniforms, Decoder, Precision, LearningRate, DrawCombination])
def test_pieces_that_do_not_fit_are_not_suggested(kind):
    home = kind.__module__
    assert {piece.__module__ for piece in pieces_for(kind)} <= {
        home,
        "diffusion_ode.evaluation.reference_quirks",
    }


def test_annotations_of_flax_modules_and_dataclasses_are_resolved():
    assert annotations_of(UNet)["attention"] is bool
    assert annotations_of(Box)["size"] is int
