"""What screens of few letters show."""

import io

import pytest

from diffusion_ode.streams import LastingStream


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "744 us, 1 +/- 2 x 3, 4-5 -6, >= 7 ... ?^"),
        ("latin-1", "744 µs, 1 ± 2 × 3, 4-5 -6, >= 7 ... ?^"),
        ("utf-8", "744 µs, 1 ± 2 × 3, 4–5 −6, ≥ 7 … γ^"),
    ],
)
def test_letters_that_an_encoding_lacks_are_spelt_where_they_can_be(encoding, shown):
    written = io.BytesIO()
    stream = LastingStream(io.TextIOWrapper(written, encoding=encoding))
    stream.write("744 µs, 1 ± 2 × 3, 4–5 −6, ≥ 7 … γ^")
    stream.flush()
    assert written.getvalue().decode(encoding) == shown
