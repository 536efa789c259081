"""What constructors take, and what they refuse, in Python as on the command line."""

import dataclasses
import functools
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jax.numpy as jnp
import numpy as np
import pytest

from data.pipeline import Data
from data.sources.image_folder import ImageFolder
from diffusion_ode import checking
from diffusion_ode.checking import check_fields
from diffusion_ode.conformance import annotations_of
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.experiment import Experiment
from tests.experiments import test_ranges as ranges

if TYPE_CHECKING:
    from nowhere import Unknown  # pyright: ignore[reportMissingImports]

# Of each class that a registered experiment has, but what need not be all of a protocol in Python.
FIELDS = sorted(
    (
        (kind, name)
        for kind, name in ranges.FIELDS
        if (kind, name) not in ((Model, "network"), (Experiment, "data"))
        and dataclasses.is_dataclass(kind)
        and checking._is_understood(annotations_of(kind)[name])
    ),
    key=str,
)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_piece_takes_nothing_that_is_none_of_its_fields(kind, name):
    given = {
        field.name: object()
        for field in dataclasses.fields(kind)
        if field.name == name or field.default is field.default_factory is dataclasses.MISSING
    }
    with pytest.raises(UserError, match=r"= <object object at .*> is not .*: give such a"):
        kind(**given)


@dataclasses.dataclass(frozen=True)
class Mine:
    """Of somebody's own, with a field of each kind."""

    number: float = 1.0
    count: int = 1
    sure: bool = True
    text: str = ""
    choice: Literal["a", 16] = "a"
    several: tuple[int, ...] = ()
    named: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unknown: "Unknown | None" = None
    array: jnp.ndarray | None = None
    later: float = dataclasses.field(init=False)

    def __post_init__(self):
        check_fields(self)
        object.__setattr__(self, "later", 2 * self.number)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"number": np.float32(2)}, 2.0),
        ({"number": 2}, 2.0),
        ({"number": jnp.float32(2)}, 2.0),
        ({"number": np.asarray(2.0)}, 2.0),
        ({"count": np.int64(2)}, 2),
        ({"sure": np.False_}, False),
        ({"text": np.str_("x")}, "x"),
        ({"text": Path("x")}, "x"),
        ({"choice": np.str_("a")}, "a"),
        ({"choice": np.int32(16)}, 16),
        ({"several": range(3)}, (0, 1, 2)),
        ({"several": [np.int64(1)]}, (1,)),
        ({"named": types.MappingProxyType({"a": 1.0})}, types.MappingProxyType({"a": 1.0})),
        ({"unknown": 3}, 3),
        ({"array": [1.0]}, [1.0]),
    ],
    ids=str,
)
def test_what_a_user_may_mean_is_taken(given, kept):
    found = getattr(Mine(**given), next(iter(given)))
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize(
    "given",
    [
        *({"number": "1"}, {"number": True}, {"number": np.ones(2)}, {"count": 1.5}),
        *({"sure": 1}, {"sure": np.ones(2)}, {"text": 3}, {"choice": 17}, {"choice": True}),
        *({"several": "ab"}, {"several": (1.5,)}, {"named": [("a", 1.0)]}),
    ],
    ids=str,
)
def test_what_no_field_takes_is_a_sentence(given):
    with pytest.raises(UserError, match=rf"^{next(iter(given))} = .* is not .*: give such a value"):
        Mine(**given)


class Source:
    """Whose attributes are its own and not its class's."""

    def __init__(self):
        self.name, self.shape, self.levels = "mine", (8, 8, 1), 17
        self.load = functools.partial(dict)


@dataclasses.dataclass(frozen=True)
class Subclass(LinearSchedule):
    """With a name that only a type checker sees, and a field that is set at the end."""

    extra: "Unknown | None" = None
    cache: dict = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "cache", {})


def test_objects_and_subclasses_of_ones_own_are_taken():
    assert Data(source=Source()).source.name == "mine"
    assert Subclass(gamma_0=np.float64(-12)).gamma_0 == -12.0
    assert ImageFolder(Path("/tmp"), resize=8, crop=8).path == "/tmp"
