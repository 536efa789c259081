"""The facts and the data's state that a checkpoint or an export carries, each of its kind.

A seal is no signature: whoever can write the files can seal them anew, so what is made of facts,
names of files and lines of a script among it, must not depend on who did.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from diffusion_ode.configs.allowed import MODULE
from diffusion_ode.errors import MOST_SHOWN

_DIGEST = re.compile(r"(sha256:)?\w{1,128}")
_REVISION = re.compile(r"[0-9a-f]{4,64}")
_MOST_BATCHES = 10**15  # that any training has drawn
_VERSION = re.compile(r"[\w.+!-]{1,100}")


def checked_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same facts, if all that the program reads of them are of their kinds.

    Raises:
      ValueError: one is not, which it names.
    """
    if "digest" not in facts:
        raise ValueError("the digest is missing")
    for name, value in facts.items():
        if not _KINDS.get(name, _anything)(value):
            raise ValueError(f"the {name} is not one")
    metrics = {name: float(value) for name, value in (facts.get("metrics") or {}).items()}
    return {**facts, "metrics": metrics}


def checked_data_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same state of the data, if it is one that batches can go on from.

    Raises:
      ValueError: it is not.
    """
    at = state.get("next_index")
    if not (isinstance(at, int) and not isinstance(at, bool) and 0 <= at <= _MOST_BATCHES):
        raise ValueError("the state of its data names no batch")
    return dict(state)


def _anything(_: Any) -> bool:
    return True


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _name(value: Any) -> bool:
    """What is said in sentences."""
    return value is None or (
        isinstance(value, str) and len(value) <= MOST_SHOWN and value.isprintable()
    )


def _like(pattern: re.Pattern) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _metrics(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_number, value.values())))


def _validations(value: Any) -> bool:
    """Points of a curve: a step, its bits per dimension and their error."""
    return isinstance(value, list) and all(
        isinstance(point, list) and len(point) == 3 and all(map(_number, point)) for point in value
    )


def _code(value: Any) -> bool:
    """Of `workdir.code.code_facts`."""
    match value:
        case None:
            return True
        case dict():
            return all(_KINDS_OF_CODE.get(name, _anything)(part) for name, part in value.items())
    return False


def _outside(value: Any) -> bool:
    """Files of modules from outside the program, in the workdir's folder `code`."""
    return isinstance(value, dict) and all(
        MODULE.fullmatch(module)
        and isinstance(file, str)
        and re.fullmatch(rf"code/{re.escape(module)}-[0-9a-f]+\.py", file)
        for module, file in value.items()
    )


def _revision(value: Any) -> bool:
    return value is None or _like(_REVISION)(value)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "digest": _like(_DIGEST),
    "metrics": _metrics,
    "saved_at": _number,
    "data": _name,
    "data_fingerprint": _name,
    "code": _code,
    "imported_from": _text,
    "validations": _validations,
}
_KINDS_OF_CODE: dict[str, Callable[[Any], bool]] = {
    "version": _like(_VERSION),
    "revision": _revision,
    "diff": _text,
    "unknown": _text,
    "outside": _outside,
}
