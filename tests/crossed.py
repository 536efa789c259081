"""Combinations of which some are quick tests and all are `long` ones."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def crossed(*axes: Iterable[Any]) -> list[Any]:
    """Every combination of the axes' values, for `pytest.mark.parametrize`.

    Quick are as many as the longest axis has values, in which each value of each axis stands.
    """
    values = [list(axis) for axis in axes]
    longest = max(map(len, values))
    quick = {tuple(k % len(axis) for axis in values) for k in range(longest)}
    return [
        pytest.param(
            *(axis[place] for axis, place in zip(values, places, strict=True)),
            marks=[] if places in quick else [pytest.mark.long],
        )
        for places in itertools.product(*(range(len(axis)) for axis in values))
    ]
