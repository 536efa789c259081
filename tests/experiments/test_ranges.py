"""Every field of every registered experiment, given what makes no sense."""

import types
import typing
from typing import Any

import fiddle as fdl
import pytest

from diffusion_ode.checking import fit
from diffusion_ode.configs import construction
from diffusion_ode.conformance import annotations_of
from diffusion_ode.errors import UserError
from experiments import registry
from experiments.config.building import build, sentence
from experiments.config.conversion import arguments_of
from experiments.config.overrides import override

NONSENSE = (
    "nan",
    "inf",
    "-inf",
    "1e30",
    "9" * 400,
    "-1e400",
    "0.0001j",
    "-1",
    "0",
    "True",
    "None",
    "[]",
    "",
)
# Where a number may be negative or zero for a reason: γ and exponents of two have both signs; no
# images are held out, judged or solved again; no noise, rate, weight or tolerance of that kind.
NEGATIVE = {"gamma_0", "gamma_1", "bias", "log_sigma_mean", "mean"}
ZERO = {
    *NEGATIVE,
    *("seed", "held_out", "validation_images", "error_images", "warmup_steps", "dropout"),
    *("peak", "start", "end", "b1", "b2", "momentum", "weight_decay", "decay", "learning_rate"),
    *("rtol", "atol", "unit_tolerance", "stabilization", "weight", "trace", "frobenius"),
    *("third_order", "momentum"),
}


def fields():
    """A config, a path in it, and the annotation there: each field of each class once."""
    found = {}
    for entry in registry.entries():
        if entry.function.__module__.startswith("experiments."):
            root = registry.configuration_of(entry)
            found |= {key: (root, *rest) for key, rest in _fields(root, "").items()}
    return found


def _fields(config, prefix) -> dict[tuple, tuple[str, Any]]:
    found = {}
    constructor = fdl.get_callable(config)
    for name, value in arguments_of(config).items():
        annotation = annotations_of(constructor).get(name, Any)
        found[constructor, name] = (prefix + name, annotation)
        if isinstance(value, fdl.Config):
            found |= _fields(value, f"{prefix}{name}.")
    return found


def accepted(root, path, text) -> bool:
    try:
        build(override(root, [f"{path}={text}"]))
    except UserError as refusal:
        assert len(sentence(refusal)) < 500
        return False
    return True


def kinds_of(annotation) -> set:
    """The classes that an annotation is made of, whether one of several or annotated."""
    if typing.get_origin(annotation) is typing.Annotated:
        return kinds_of(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set().union(*map(kinds_of, typing.get_args(annotation)))
    return {typing.get_origin(annotation) or annotation}


FIELDS = fields()
every_field = pytest.mark.parametrize(
    ("root", "path", "annotation"), FIELDS.values(), ids=[where[1] for where in FIELDS.values()]
)


def accepted_wrongly(root, path, annotation) -> list[str]:
    """The nonsense that a field takes without a reason; what it refuses, it does in a sentence."""
    name, kinds = path.rpartition(".")[2], kinds_of(annotation)
    reasons = {
        "-1": name in NEGATIVE,
        "0": name in ZERO,
        "True": bool in kinds,
        "None": type(None) in kinds,
        "[]": tuple in kinds,
    }
    never = [text for text in NONSENSE if not reasons.get(text) and str not in kinds]
    return [text for text in never if accepted(root, path, text)]


@every_field
def test_field_refuses_what_makes_no_sense_in_a_sentence(root, path, annotation):
    assert accepted_wrongly(root, path, annotation) == []


def test_numbers_of_experiments_all_declare_a_range():
    bare = [path for _, path, annotation in FIELDS.values() if {int, float} & _bare(annotation)]
    assert bare == []


def _bare(annotation) -> set:
    """The classes in an annotation that stand outside of `Annotated`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return set()
    inner = [_bare(argument) for argument in typing.get_args(annotation)]
    return set().union(*inner) if inner else {annotation if isinstance(annotation, type) else None}


def test_defaults_are_within_their_ranges():
    for constructor in {constructor for constructor, _ in FIELDS}:
        for name, default in construction.defaults_of(constructor).items():
            fit(default, annotations_of(constructor).get(name, Any))
