"""Documents of earlier versions, rewritten as today's program would have written them.

Whatever reads a stored document applies `upgraded`, so that nothing else knows of earlier versions.
A class or field that moves gets an entry in a table here. A new field needs one only if its default
is not how the program behaved before: fields that a document lacks get their defaults.

`tests/configs/test_upgrade.py` holds the tables to a run of version 0.1.
"""

from collections.abc import Mapping
from typing import Any

from diffusion_ode.configs import allowed, construction
from diffusion_ode.configs.construction import Document
from diffusion_ode.errors import UserError

MOVED: Mapping[str, str] = {
    "diffusion_ode.process.": "diffusion_ode.diffusion.",
    "diffusion_ode.inference.variational_bound:G": "diffusion_ode.diffusion.end_terms:G",
    "diffusion_ode.inference.reference_quirks:": "diffusion_ode.evaluation.reference_quirks:",
    "diffusion_ode.solvers.control:F": "diffusion_ode.solvers.fixed_steps:F",
    "diffusion_ode.solvers.control:P": "diffusion_ode.solvers.pi_controller:P",
}
"""How the name of a class, `module:Class`, began before → how it begins now."""

RENAMED_FIELDS: Mapping[str, Mapping[str, str]] = {}
"""Class (today's name) → field before → field now."""

REMOVED_FIELDS: Mapping[str, frozenset[str]] = {}
"""Class (today's name) → fields that say nothing any more."""

BEHAVED_AS: Mapping[str, Mapping[str, Document]] = {}
"""Class (today's name) → field that it did not have → the value by which it behaves as before."""


def upgraded(document: Document) -> Document:
    """The document with today's names, and with every field that its classes have today.

    What it cannot make sense of it leaves alone, for `construction.build` to refuse.

    Raises:
      UserError: the document is too deep or too large.
    """
    construction.check_size(document)
    return _upgraded(document)


def _upgraded(node: Document) -> Document:
    match node:
        case {"call": str(reference), "arguments": dict(arguments), **others} if not others:
            return _call(_moved(reference), arguments)
        case dict():
            return {key: _upgraded(value) for key, value in node.items()}
        case list():
            return list(map(_upgraded, node))
    return node


def _moved(reference: str) -> str:
    for before, now in MOVED.items():
        if reference.startswith(before):
            return now + reference.removeprefix(before)
    return reference


def _call(reference: str, arguments: dict[str, Any]) -> Document:
    renamed = RENAMED_FIELDS.get(reference, {})
    removed = REMOVED_FIELDS.get(reference, frozenset())
    given = {
        renamed.get(name, name): _upgraded(value)
        for name, value in arguments.items()
        if name not in removed
    }
    given = {**BEHAVED_AS.get(reference, {}), **given}
    defaults = _defaults(reference)
    in_order = {name: given.get(name, value) for name, value in defaults.items()}
    return {
        "call": reference,
        "arguments": {
            name: value for name, value in {**in_order, **given}.items() if value is not _REQUIRED
        },
    }


_REQUIRED: Any = object()


def _defaults(reference: str) -> dict[str, Document]:
    """The fields of a class in its order, with their defaults; none of what cannot be called."""
    try:
        constructor = allowed.locate_constructor(reference)
        defaults = construction.defaults_of(constructor)
        return {
            name: construction.document_of(defaults[name]) if name in defaults else _REQUIRED
            for name in construction.fields_of(constructor)
        }
    except (UserError, ImportError):
        return {}
