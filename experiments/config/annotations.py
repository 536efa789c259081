"""What a field takes, with the pieces of the program that one may give it."""

from collections.abc import Callable
from typing import Any

import fiddle as fdl

from diffusion_ode import checking, conformance
from diffusion_ode.configs import allowed, construction
from diffusion_ode.suggestions import either, with_article
from experiments.config import catalogue

conformance.constructor_of.register(fdl.Config)(fdl.get_callable)

_SHOWN_PIECES = 6


def takes(annotation: Any) -> str:
    """What a field of this annotation takes, to end the sentence 'it takes …'."""
    return checking.takes(annotation, _named)


def pieces_for(kind: type) -> list[type]:
    """The pieces of this class or protocol that live beside it, else those imported so far."""
    if kind.__module__.partition(".")[0] not in allowed.PACKAGES:
        return []
    for pieces in (catalogue.pieces_beside(kind.__module__), catalogue.loaded_pieces()):
        fitting = [p for p in pieces if conformance.makes(p, kind) and not _needs_arrays(p)]
        if fitting:
            return fitting
    return []


def _needs_arrays(piece: type) -> bool:
    """Whether it is made by the program only: of parameters, which no config holds."""
    fields = construction.fields_of(piece)
    return "parameters" in fields and fields["parameters"].default is fields["parameters"].empty


def _named(kind: type) -> str:
    pieces = pieces_for(kind)
    if pieces == [kind]:
        return call_of(kind)
    examples = either(map(call_of, pieces[:_SHOWN_PIECES])) if pieces else ""
    return with_article(kind.__name__.rpartition(".")[2]) + (
        f", e.g. {examples}" if examples else ""
    )


def call_of(piece: Callable, name: str | None = None) -> str:
    """As one begins to type it, perhaps by another name: with the fields that have no default."""
    needed = [n for n, p in construction.fields_of(piece).items() if p.default is p.empty]
    return f"{name or piece.__name__}({', '.join(f'{field}=…' for field in needed)})"
