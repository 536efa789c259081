"""What was probably meant by a name that does not exist, and lists of names in words."""

import difflib
import re
from collections.abc import Iterable

_FEW = 8  # so many names are shown in full where none is near
_LIKENESS = (
    0.55  # difflib's ratio: "digit_vp" for "digits_vp" passes, "train" for "sample" does not
)
_MISSPELT = 0.8  # the same of what is most probably one name
_SPELT_OUT = {"lr": "learning_rate", "wd": "weight_decay"}  # what papers and scripts abbreviate


def spelt_out(path: str) -> str:
    """A dotted path whose last name is the long form of a usual abbreviation."""
    before, dot, last = path.rpartition(".")
    return before + dot + _SPELT_OUT.get(last.lower(), last)


def nearest(wrong: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The names most like `wrong`, best first: misspelt, then those with it in, then others."""
    known = sorted(set(known))
    wrong = spelt_out(wrong).lower()
    by_folded = {name.lower(): name for name in known}
    near, alike = (
        [by_folded[name] for name in difflib.get_close_matches(wrong, by_folded, limit, likeness)]
        for likeness in (_MISSPELT, _LIKENESS)
    )
    within = re.compile(rf"(?<![^\W_]){re.escape(wrong)}")  # where a word begins
    longer = sorted((name for name in known if wrong and within.search(name.lower())), key=len)
    return list(dict.fromkeys([*near, *longer, *alike]))[:limit]


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
