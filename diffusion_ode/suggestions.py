"""What was probably meant by a name that does not exist, and lists of names in words."""

import difflib
from collections.abc import Iterable

_FEW = 8  # so many names are shown in full where none is near
_LIKENESS = (
    0.55  # difflib's ratio: "digit_vp" for "digits_vp" passes, "train" for "sample" does not
)


def nearest(wrong: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The names most like `wrong`, best first: by spelling, then those that contain it."""
    known = sorted(set(known))
    by_folded = {name.lower(): name for name in known}
    alike = difflib.get_close_matches(wrong.lower(), by_folded, limit, _LIKENESS)
    found = [by_folded[name] for name in alike]
    found += [name for name in known if wrong and wrong.lower() in name.lower()]
    return list(dict.fromkeys(found))[:limit]


def either(names: Iterable[str]) -> str:
    """Joins names by 'or': 'a', 'a or b', 'a, b or c'."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def all_of(names: Iterable[str]) -> str:
    """Joins names by 'and': 'a', 'a and b', 'a, b and c'."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def with_article(name: str) -> str:
    """Puts 'a' or 'an' before a name: 'an Objective'."""
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"


def suggestion(wrong: str, known: Iterable[str], few: int = _FEW) -> str:
    """The end of a sentence about a wrong name: the nearest ones, else the `few` first there are.

    With its full stop or question mark.
    """
    known = sorted(set(known))
    if near := nearest(wrong, known):
        return f"did you mean {either(near)}?"
    if not known:
        return "there are none."
    shown = ", ".join(known[:few])
    return f"choose from {shown}" + (", …" if len(known) > few else ".")
