"""`--set PATH=VALUE`: any field of a config, given as a literal or as a call of a piece.

A value is parsed, never evaluated: literals, tuples, lists and dicts, and calls such as
`straight_path()` or `SecondOrderFlowMatching(weight=0.2)` whose names are looked up in the
catalogue. What is not Python at all is text, so that paths of files need no quotes.
"""

import ast
import contextlib
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

import fiddle as fdl

from diffusion_ode.checking import Misfit, fit
from diffusion_ode.configs import construction
from diffusion_ode.configs.documents import render
from diffusion_ode.conformance import annotations_of
from diffusion_ode.errors import UserError, is_utf8
from diffusion_ode.suggestions import either, nearest, spelt_out, suggestion
from experiments.config import catalogue
from experiments.config.annotations import call_of, takes
from experiments.config.conversion import arguments_of, config_of, explicit, to_document

# `module:Class(…)`, as --exp and --task name what is outside.
_OUTSIDE = re.compile(r"^([A-Za-z_][\w.]*):(?=[A-Za-z_]\w*\()")
_NEAREST = 12  # names that are tried, until some fit the field
_NUMBERS = {"inf": float("inf"), "nan": float("nan")}  # literals that Python spells as names


def override(
    config: fdl.Config, settings: Iterable[str], say: Callable[[str], None] = lambda _: None
) -> fdl.Config:
    """A copy of the config with the settings applied in order.

    Args:
      config: made explicit, see `experiments.config.conversion`.
      settings: `PATH=VALUE` each.
      say: takes a sentence about a setting that may not be what was meant.

    Raises:
      UserError: a setting has no `=`, its path leads nowhere, or its value does not fit.
    """
    config = explicit(config)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not is_utf8(setting):
            raise UserError(f"--set {setting!r} is no UTF-8, which a config is: give another name.")
        if not equals or not path:
            raise UserError(f"--set {setting!r} is not PATH=VALUE, e.g. train.num_steps=500.")
        _set(config, path.strip(), text.strip(), say)
    return config


def field_paths(config: Any, prefix: str = "") -> list[str]:
    """The dotted paths of all fields of a config."""
    paths = []
    for name, value in arguments_of(config).items():
        paths.append(prefix + name)
        if isinstance(value, fdl.Config):
            paths += field_paths(value, f"{prefix}{name}.")
    return paths


def _set(config: fdl.Config, path: str, text: str, say: Callable[[str], None]) -> None:
    *owners, name = path.split(".")
    owner: Any = config
    for depth, step in enumerate(owners):
        inner = arguments_of(owner) if isinstance(owner, fdl.Config) else {}
        if step not in inner:
            raise UserError(_no_such_field(config, path, text, ".".join(owners[:depth]), owner))
        owner = inner[step]
    constructor = fdl.get_callable(owner) if isinstance(owner, fdl.Config) else None
    if constructor is None or name not in construction.fields_of(constructor):
        raise UserError(_no_such_field(config, path, text, ".".join(owners), owner))
    before: Any = arguments_of(owner).get(name)
    value = _value(path, text, annotations_of(constructor).get(name, Any))
    setattr(owner, name, value)
    inside = _number_inside(before, text)
    if inside and isinstance(value, int | float):
        was = fdl.get_callable(before).__name__
        say(f"{path} = {value} is in place of {was}; to keep that: --set {path}.{inside}={text}")


def _number_inside(piece: Any, text: str) -> str | None:
    """The first field of a piece that a number fits: what may have been meant by the piece."""
    if isinstance(piece, fdl.Config):
        for name, annotation in annotations_of(fdl.get_callable(piece)).items():
            try:
                if isinstance(fit(_parse(text, Any), annotation), int | float):
                    return name
            except (_NotAValue, Misfit, UserError):
                continue
    return None


def _no_such_field(config: fdl.Config, path: str, text: str, owner_path: str, owner: Any) -> str:
    if not isinstance(owner, fdl.Config):
        return f"There is no field {path!r}: {owner_path} is {render(to_document(owner))}."
    paths, last = field_paths(config), spelt_out(path).rpartition(".")[2]
    same_name = [_meant(config, known, text) for known in paths if known.split(".")[-1] == last]
    near = list(dict.fromkeys([*same_name, *nearest(path, paths)]))[:3]
    if near:
        return f"There is no field {path!r}; did you mean {either(near)}?"
    inside = owner_path or "the config"
    return f"There is no field {path!r}; {inside} has {', '.join(arguments_of(owner))}."


def _meant(config: fdl.Config, path: str, text: str) -> str:
    """A field, or that inside it which alone takes such a value."""
    piece: Any = config
    for step in path.split("."):
        piece = getattr(piece, step)
    inside = _number_inside(piece, text)
    return f"{path}.{inside}" if inside else path


def _value(path: str, text: str, annotation: Any) -> Any:
    try:
        return fit(explicit(_parse(text, annotation)), annotation)
    except catalogue.UnknownPiece as unknown:
        if annotation is Any:
            raise
        if near := _near_pieces(unknown.name, annotation):
            raise UserError(
                f"There is no piece {unknown.name!r}; did you mean {either(near)}?"
            ) from unknown
        raise UserError(
            f"{path} cannot be {text!r:.200}: there is no piece {unknown.name!r}; it takes"
            f" {takes(annotation)}."
        ) from unknown
    except (_NotAValue, Misfit) as error:
        try:
            return fit(text, annotation)  # bare text, where the field takes text
        except Misfit:
            reason = f" ({error})" if str(error) else ""
    if (one := _as_tuple(text, annotation)) is not None:
        raise UserError(f"{path} cannot be {text!r:.200}: a tuple of one has a comma, {one}.")
    called = re.match(r"\w+(?=\(|$)", text)  # a piece that is there, but of another kind
    near = _near_pieces(called[0], annotation) if called else []
    end = f"; did you mean {either(near)}?" if near else "."
    raise UserError(f"{path} cannot be {text!r:.200}{reason}; it takes {takes(annotation)}{end}")


def _as_tuple(text: str, annotation: Any) -> str | None:
    """The tuple of this one value, where the field takes that."""
    word = text.removesuffix("()")
    for candidate in (text, f"{text}()", *([repr(word)] if word.isidentifier() else [])):
        try:
            fit((explicit(_parse(candidate, Any)),), annotation)
        except (_NotAValue, Misfit, UserError):
            continue
        return f"({ast.unparse(ast.parse(candidate, mode='eval').body)},)"
    return None


def _near_pieces(name: str, annotation: Any) -> list[str]:
    """The pieces most like `name` that a field takes."""
    names = nearest(name, catalogue.piece_names(), _NEAREST)
    return [name for name in names if _is_taken(name, annotation)][:3]


def _who_has(field: str, annotation: Any) -> str:
    """The end of a sentence: which pieces that may stand there do have a field of this name."""
    every = [] if annotation is Any else dict.fromkeys(catalogue.piece_names())
    pieces = {n: catalogue.find_constructor(n) for n in every if _is_taken(n, annotation)}
    names = [
        name
        for name, piece in pieces.items()
        if field in construction.fields_of(piece) and not inspect.isabstract(piece)
    ]
    return f"that is for {either(names)}." if names else ""


def _is_taken(name: str, annotation: Any) -> bool:
    """Whether a field takes the piece of this name, or several like it."""
    try:
        piece = fdl.Config(catalogue.find_constructor(name))
    except (UserError, ImportError):
        return False
    for value in (piece, (piece,)):
        with contextlib.suppress(Misfit):
            fit(value, annotation)
            return True
    return False


class _NotAValue(Exception):
    """The text is neither a literal nor a call of a piece."""


def _parse(text: str, annotation: Any) -> Any:
    try:
        tree = ast.parse(_OUTSIDE.sub(r"\1.", text), mode="eval")
        if isinstance(tree.body, ast.Call):
            return _piece(tree.body, annotation)
        return _literal_or_piece(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        raise _NotAValue from error


def _literal_or_piece(node: ast.expr) -> Any:
    match node:
        case ast.Call():
            return _piece(node, Any)
        case ast.Tuple():
            return tuple(map(_literal_or_piece, node.elts))
        case ast.List():
            return list(map(_literal_or_piece, node.elts))
        case ast.Dict() if None not in node.keys:
            keys = [_literal(key) for key in node.keys if key is not None]
            return dict(zip(keys, map(_literal_or_piece, node.values), strict=True))
        case ast.Name(id=name) if name in _NUMBERS:
            return _NUMBERS[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id="inf")):
            return -_NUMBERS["inf"]
        case ast.Name() | ast.Attribute():
            found = catalogue.find_name(ast.unparse(node))
            if found is None:
                raise _NotAValue(_as_call(ast.unparse(node)))
            return found
    return _literal(node)


def _literal(node: ast.expr) -> bool | int | float | str | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError) as error:  # what has no hash is no key
        raise _NotAValue from error
    if not isinstance(value, None | bool | int | float | str):
        raise _NotAValue
    return value


def _as_call(name: str) -> str:
    """How the piece of this name is given, if there is one."""
    try:
        return f"a piece is called: {call_of(catalogue.find_constructor(name), name)}"
    except (UserError, ImportError):
        return ""


def _piece(call: ast.Call, annotation: Any) -> fdl.Config:
    if not isinstance(call.func, ast.Name | ast.Attribute):
        raise _NotAValue("a call has the name of a piece before its brackets")
    name = ast.unparse(call.func)
    constructor = catalogue.find_constructor(name)
    try:  # before its fields: another may have been meant
        fit(fdl.Config(constructor), annotation)
    except Misfit as misfit:
        remark = catalogue.hidden_namesake(name)
        raise Misfit(f"{misfit}{remark}" if str(misfit) else remark.strip(" ()")) from None
    fields = construction.fields_of(constructor)
    star = next((field for field in fields if field[0] == "*"), None)
    if any(isinstance(a, ast.Starred) for a in call.args) or any(
        keyword.arg is None for keyword in call.keywords
    ):
        raise _NotAValue("a call has no * or **")
    if len(call.args) > len(fields) and star is None:
        raise UserError(
            f"{name} takes {len(fields)} arguments, not {len(call.args)}: {', '.join(fields)}"
            f"{catalogue.hidden_namesake(name)}."
        )
    if star is not None and not call.args:
        raise UserError(f"{name} needs something to be made of: give it as {name}(…, …).")
    given: dict[str, ast.expr] = dict(zip(fields, call.args, strict=False))
    if star:
        given = {star: ast.Tuple(call.args)}
    for keyword in call.keywords:
        assert keyword.arg is not None  # checked above
        if keyword.arg not in fields:
            raise UserError(
                f"{name}{catalogue.hidden_namesake(name)} has no field {keyword.arg!r};"
                f" {_who_has(keyword.arg, annotation) or suggestion(keyword.arg, fields)}"
            )
        if keyword.arg in given:
            raise UserError(f"{name} is given {keyword.arg!r} twice: give it once.")
        given[keyword.arg] = keyword.value
    missing = [
        field
        for field, parameter in fields.items()
        if parameter.default is inspect.Parameter.empty and field not in given
    ]
    if missing:
        complete = [*(f"{k}={ast.unparse(v)}" for k, v in given.items()), f"{missing[0]}=…"]
        raise UserError(
            f"{name} needs {' and '.join(missing)}: give it as {name}({', '.join(complete)})."
        )
    hints = annotations_of(constructor)
    if star is not None:
        hints = {star: tuple[hints[star[1:]], ...]}
    values = {
        field: _value(f"{name}.{field}", ast.unparse(node), hints.get(field, Any))
        for field, node in given.items()
    }
    return config_of(constructor, values)
