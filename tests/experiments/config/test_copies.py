"""Making a config costs calls in proportion to its fields, not to its ancestors and settings."""

import sys
from pathlib import Path

from experiments import registry
from experiments.config.overrides import override

ROOT = f"{Path(__file__).resolve().parents[3]}/"
MOST_CALLS = 1000  # of our own; about seven for every piece of the config


def test_an_experiment_and_a_setting_take_a_thousand_calls_at_most():
    entry = registry.find("digits_vp")
    registry.configuration_of(entry)  # imports
    calls = 0

    def count(frame, event, _):
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(ROOT)

    sys.setprofile(count)
    try:
        override(registry.configuration_of(entry), ["train.num_steps=3"])
    finally:
        sys.setprofile(None)
    assert calls < MOST_CALLS
