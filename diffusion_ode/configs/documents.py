"""Config documents: a config written down as plain JSON.

A document is a tree of constructor calls:

    {"call": "module:Class", "arguments": {"field": …}}   an object; {"*args": {"tuple": […]}} of a
                                                          constructor that takes any number
    {"name": "module:function"}                           a library's function or dtype, by name
    {"tuple": […]}   {"dict": {…}}   […]                  containers
    null, true, 1, 0.5, "text"                            themselves

Here they are read, written, shown and compared, as data; `construction.build` makes objects of
them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffusion_ode.configs.construction import Document
from diffusion_ode.configs.upgrade import upgraded
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import open_regular, refused
from diffusion_ode.workdir.files import replace_atomically

MAX_BYTES = 1 << 20  # a whole experiment takes a few kilobytes


def read(path: Path) -> Document:
    """The document in a JSON file, which an earlier version may have written.

    Raises:
      UserError: the file is missing, too large, or no JSON object.
    """
    with (
        refused(lambda why: f"Cannot read the config {path} ({why}): give the folder of a run."),
        open_regular(path) as file,
    ):
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserError(
            f"The config {path} is larger than {MAX_BYTES} bytes, more than any run's config: give"
            " the folder of a run."
        )
    with refused(
        lambda why: (
            f"The config {path} is no JSON object ({why}): restore it from a checkpoint of its run."
        )
    ):
        document = json.loads(content)
        if not isinstance(document, dict):
            raise ValueError(f"{type(document).__name__} where an object is expected")
        return upgraded(document)


def text(document: Document) -> str:
    """The document as it is saved: indented, arguments in the order of the constructor."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(document: Document, path: Path) -> None:
    """Saves the document, all or nothing: a kill while writing leaves the old file."""
    with replace_atomically(Path(path)) as file:
        file.write(text(document))


def is_call(document: Document) -> bool:
    """Whether the node is a constructor call, something with fields."""
    match document:
        case {"call": str(), "arguments": dict()}:
            return True
    return False


def has_fields(document: Document) -> bool:
    """Whether the node has fields that a path can name; the arguments of a chain have no names."""
    return is_call(document) and not any(name[0] == "*" for name in document["arguments"])


def render(document: Document) -> str:
    """The node on one line, as one types it after `--set PATH=`."""
    match document:
        case {"call": str(target), "arguments": dict(arguments)}:
            inner = (_argument(name, value) for name, value in arguments.items())
            # A library's function with its module: ours may bear the same name.
            called = _short(target) if _short(target)[:1].isupper() else target.replace(":", ".")
            return f"{called}({', '.join(inner)})"
        case {"name": str(target)}:
            return _short(target)
        case {"tuple": [only]}:
            return f"({render(only)},)"
        case {"tuple": list(items)}:
            return f"({', '.join(map(render, items))})"
        case {"dict": dict(items)}:
            return "{" + ", ".join(f"{key!r}: {render(item)}" for key, item in items.items()) + "}"
        case list():
            return f"[{', '.join(map(render, document))}]"
        case _:
            return repr(document)


def settings(document: Document) -> dict[str, str | bool | int | float]:
    """All fields by path: numbers and texts as they are, pieces by name, all else rendered."""
    return dict(_settings(document, ""))


def _settings(document: Document, path: str) -> Iterator[tuple[str, str | bool | int | float]]:
    if has_fields(document):
        if path:
            yield path, _short(document["call"])
        for name, value in document["arguments"].items():
            yield from _settings(value, f"{path}.{name}" if path else name)
    else:
        plain = isinstance(document, str | bool | int | float)
        yield path, document if plain else render(document)


def rendered_at(document: Document, path: str) -> str | None:
    """The node at the end of a path of fields, rendered; None if there is none."""
    for name in path.split("."):
        if not has_fields(document) or name not in document["arguments"]:
            return None
        document = document["arguments"][name]
    return render(document)


def _argument(name: str, value: Document) -> str:
    match value:
        case {"tuple": list(several)} if name.startswith("*"):
            return ", ".join(map(render, several))
    return f"{name}={render(value)}"


def _short(target: str) -> str:
    return target.rpartition(":")[2]


@dataclass(frozen=True)
class Change:
    """One field that differs; a side that lacks the field is None."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.path}: {self.before or '(absent)'} → {self.after or '(absent)'}"


def difference(before: Document, after: Document) -> list[Change]:
    """What changed from one document to another, field by field."""
    return list(_changes(before, after, ""))


def _changes(before: Document, after: Document, path: str) -> Iterator[Change]:
    if is_call(before) and is_call(after) and before["call"] == after["call"]:
        old, new = before["arguments"], after["arguments"]
        for name in dict.fromkeys([*old, *new]):
            inner = f"{path}.{name}" if path else name
            if name not in old:
                yield Change(inner, None, render(new[name]))
            elif name not in new:
                yield Change(inner, render(old[name]), None)
            else:
                yield from _changes(old[name], new[name], inner)
    elif render(before) != render(after) or before != after:
        yield Change(path or "(everything)", render(before), render(after))
