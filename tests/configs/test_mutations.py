"""A config document with one node replaced is refused in a sentence, or builds."""

import copy
import json

import pytest

from diffusion_ode.configs import construction, documents
from diffusion_ode.configs.upgrade import upgraded
from diffusion_ode.errors import UserError
from experiments import registry
from experiments.config.conversion import to_document

DOCUMENT = to_document(registry.configuration_of(registry.find("digits_vp")))
MUTANTS = (
    *(None, True, -1, 0.5, float("nan"), 10**400, "", "x", [], [1], {}, {"tuple": 3}, {"dict": []}),
    *({"call": "x:y"}, {"call": 3, "arguments": {}}, {"call": "os:system", "arguments": []}),
    {"call": "diffusion_ode.diffusion.straight_path:StraightPath", "arguments": {}},
)

EACH = 8  # a mutant takes the place of every eighth node, each one of others


def places(node, path=()):
    """The way to every node of a document, by keys and indices."""
    yield path
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(child, (*path, key))


def mutated(path, mutant):
    if not path:
        return mutant
    document = copy.deepcopy(DOCUMENT)
    owner = document
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = mutant
    return document


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: json.dumps(mutant)[:30])
def test_a_document_with_one_node_replaced_is_refused_or_builds(mutant):
    refused = 0
    for path in list(places(DOCUMENT))[MUTANTS.index(mutant) % EACH :: EACH]:
        document = mutated(path, mutant)
        documents.difference(DOCUMENT, document)
        try:
            construction.build(upgraded(document))
        except UserError as refusal:
            assert "\n" not in str(refusal)
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_steps", "many"), ("num_steps", -1), ("batch_size", None), ("objective", 3)],
)
def test_a_field_is_checked_as_set_checks_it(field, value):
    document = mutated(("arguments", "train", "arguments", field), value)
    with pytest.raises(UserError, match=rf"config.train.{field} = {value!r} is not a"):
        construction.build(document)
