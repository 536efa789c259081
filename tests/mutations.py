"""Files changed at random, by Hypothesis: a few hundred each, and thousands with `-m long`."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffusion_ode.errors import MOST_SHOWN, UserError

counts = pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.long)])
"""Of mutations that a test makes."""

NO_OBJECTS = (b"", b"{", b"\xff", b"5", b"null", b"[]", b'["x"]', b"{}", b"[" * 100_000)
"""Of a file of JSON: none of them is an object with a key that is asked for."""

WRONG_VALUES = (
    *("x", "\ud800", 5, -0.5, pytest.param(10**400, id="10**400"), True, None),
    *([], ["x"], [[]], {}, {"x": []}),
)
"""Of a field: most are none of its kind."""


def with_wrong_values(content: dict[str, Any], wrong: Any) -> Iterator[dict[str, Any]]:
    """The content with one value replaced, for each."""
    for key, value in content.items():
        yield content | {key: wrong}
        if isinstance(value, dict):
            yield from (content | {key: inner} for inner in with_wrong_values(value, wrong))


_WIDTHS = (1, 2, 4, 8)
_EXTREMES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
_MOST_EDITS = 6
_SENTENCE = 900  # characters of a refusal, in which a few values may be shown


def _overwritten(width: int, number: int, order: str) -> bytes:
    return (number % 256**width).to_bytes(width, order)  # type: ignore[arg-type]


_PIECES = st.one_of(
    st.binary(max_size=8),
    st.builds(
        _overwritten,
        st.sampled_from(_WIDTHS),
        st.sampled_from(_EXTREMES),
        st.sampled_from(("little", "big")),
    ),
    st.sampled_from([b"-" * 2000, b"[" * 2000, b"9" * 400, b'"x"', b"null", b"{}", b"nan"]),
)


@st.composite
def mutated(draw: Any, content: bytes) -> bytes:
    """The content after some edits: pieces overwritten, put in, taken out, doubled, cut off."""
    for _ in range(draw(st.integers(1, _MOST_EDITS))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        piece = draw(_PIECES)
        match draw(st.integers(0, 9)):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + content[at + 1 + len(piece) :]
            case 2 | 3:
                content = content[:at] + piece + content[at:]
            case 4:
                content = content[:at] + content[at : at + 64] * 2 + content[at + 64 :]
            case 5 | 6 if content[at : at + 1]:
                flipped = content[at] ^ 1 << draw(st.integers(0, 7))
                content = content[:at] + bytes([flipped]) + content[at + 1 :]
            case _:
                content = content[:at] + piece + content[at + len(piece) :]
    return content


def attack(
    content: bytes,
    read: Callable[[bytes], Any],
    count: int,
    refusal: type[Exception] = UserError,
    least: float = 0.05,
) -> None:
    """Reads mutations of a content: each is read or refused in a sentence; some are refused.

    Args:
      content: that `read` reads as it is.
      read: makes a file of what it is given, and reads it.
      count: of mutations.
      refusal: by which they are refused.
      least: share of them that is.
    """
    read(content)
    refused = 0

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=count < 1000,  # the same ones each time, where a failure would be a surprise
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(content))
    def attempt(changed: bytes) -> None:
        nonlocal refused
        try:
            read(changed)
        except refusal as found:
            refused += 1
            assert "\n" not in str(found)
            assert len(str(found)) < _SENTENCE + 2 * MOST_SHOWN

    attempt()
    assert refused >= least * count
