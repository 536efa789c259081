"""The pieces that `--set` may call by name: every config class of the project, found by itself.

Names come from reading the sources, not from importing them: a piece whose library is missing on
this machine stays out of nobody's way, and adding a piece needs no line here.
"""

import ast
import functools
import importlib
import importlib.util
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from diffusion_ode.configs import allowed
from diffusion_ode.errors import UserError
from diffusion_ode.outside import outside_module
from diffusion_ode.suggestions import either, suggestion


class UnknownPiece(UserError):
    """No piece has this name."""

    def __init__(self, name: str):
        super().__init__(f"There is no piece {name!r}; {suggestion(_snake(name), piece_names())}")
        self.name = name


def find_constructor(name: str) -> Callable:
    """The class or library constructor of a name: `StraightPath`, `straight_path`, `adamw`.

    Dots tell namesakes apart, `diffusion_ode.diffusion.straight_path.StraightPath`, and lead to
    what is outside the program: `my_module.MyPath`.

    Raises:
      UnknownPiece: there is none.
      UserError: there are several.
    """
    module, _, last = name.rpartition(".")
    references = [
        reference
        for reference in _references().get(_folded(last), ())
        if not module or f".{reference.partition(':')[0]}".endswith(f".{module}")
    ]
    if not references:
        if _is_outside(module):
            return _outside(module, last)
        raise UnknownPiece(last)
    ours = [reference for reference in references if not _of_a_library(reference)]
    references = ours or references  # a library's namesake is called with the library's name
    if len(references) > 1:
        full = (reference.replace(":", ".") for reference in references)
        raise UserError(f"There are several pieces {name!r}: say {either(full)}.")
    return allowed.locate_constructor(references[0])


def hidden_namesake(name: str) -> str:
    """A remark to a sentence about a piece of ours, if a library's bears the same name."""
    references = _references().get(_folded(name), ())  # none if it is called with its module
    hidden = [reference.replace(":", ".") for reference in references if _of_a_library(reference)]
    return f" ({either(hidden)} is another)" if 0 < len(hidden) < len(references) else ""


def find_name(name: str) -> object | None:
    """The function or dtype of a name such as `gelu` or `my_module.my_function`, or None."""
    before, _, last = name.rpartition(".")
    for module, names in allowed.LIBRARY_NAMES.items():
        if last in names and name in (last, f"{module}.{last}"):
            return allowed.locate_name(f"{module}:{last}")
    if _is_outside(before) and importlib.util.find_spec(before.partition(".")[0]):
        return _outside(before, last)
    return None  # it may be a text, such as the name of a file


def _is_outside(module: str) -> bool:
    """Whether a module, if there is one of this name, is somebody's own.

    Nobody keeps pieces in Python's own library, which can do things that no piece should.
    """
    first = module.partition(".")[0]
    known = (*allowed.PACKAGES, *allowed.LIBRARY_CONSTRUCTORS, *sys.stdlib_module_names)
    return bool(first) and first not in known


def _outside(module: str, name: str) -> Callable:
    """A class or function of somebody's own module: named on the command line, so trusted."""
    found = vars(outside_module(f"{module}:{name}", "piece"))
    pieces = {k: v for k, v in found.items() if inspect.isclass(v) or inspect.isfunction(v)}
    if name not in pieces:
        raise UserError(
            f"The module {module!r} has no class or function {name!r}; {suggestion(name, pieces)}"
        )
    return pieces[name]


def piece_names() -> list[str]:
    """All names that `find_constructor` knows, as one types them."""
    return [_snake(reference.partition(":")[2]) for reference in _all_references()]


def pieces_beside(module: str) -> list[type]:
    """The config classes where a protocol's pieces live.

    They are in a folder named after its module (`data/sources/` of `data/source.py`), else in the
    same folder.
    """
    modules = {reference.partition(":")[0] for reference in _all_references()}
    homes = (f"{module}s", module.rpartition(".")[0])
    home = next(home for home in homes if any(m.rpartition(".")[0] == home for m in modules))
    return _classes(m for m in modules if m.rpartition(".")[0] == home)


def loaded_pieces() -> list[type]:
    """The config classes of the modules that are imported already."""
    modules = {reference.partition(":")[0] for reference in _all_references()}
    return _classes(m for m in modules if m in sys.modules)


def _classes(modules: Iterable[str]) -> list[type]:
    wanted, found = set(modules), []
    for reference in _all_references():
        if reference.partition(":")[0] in wanted:
            try:
                found.append(allowed.locate_constructor(reference))
            except (ImportError, UserError):
                continue  # only a suggestion: what cannot be imported here is not suggested
    return [piece for piece in found if isinstance(piece, type)]


def _all_references() -> Iterator[str]:
    return itertools.chain.from_iterable(_references().values())


@functools.cache
def _references() -> dict[str, tuple[str, ...]]:
    """Folded name → `module:Name` of everything that bears it."""
    found: dict[str, tuple[str, ...]] = {}
    for reference in (*_project_classes(), *_library_constructors()):
        folded = _folded(reference.partition(":")[2])
        found[folded] = (*found.get(folded, ()), reference)
    return found


def _of_a_library(reference: str) -> bool:
    return reference.partition(":")[0] in allowed.LIBRARY_CONSTRUCTORS


def _library_constructors() -> Iterator[str]:
    for module, names in allowed.LIBRARY_CONSTRUCTORS.items():
        yield from (f"{module}:{name}" for name in sorted(names))


def _project_classes() -> Iterator[str]:
    for package in allowed.PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                parts = (package, *file.relative_to(folder).with_suffix("").parts)
                module = ".".join(part for part in parts if part != "__init__")
                yield from (f"{module}:{name}" for name in _config_classes(file))


def _config_classes(file: Path) -> Iterator[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            bases = " ".join(map(ast.unparse, node.bases))
            if "dataclass" in decorators or bases.endswith("Module"):
                yield node.name


def _folded(name: str) -> str:
    """`StraightPath` and `straight_path` are one name."""
    return name.replace("_", "").lower()


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
