"""Compiling is no part of a speed."""

import time

import jax
import jax.numpy as jnp
import pytest

from diffusion_ode.reporting.compilation_time import CompilationTime


def test_compiling_is_counted_and_running_is_not():
    with CompilationTime() as compiling:
        begin = time.perf_counter()
        program = jax.jit(lambda x: jnp.sort(jax.jit(jnp.sin)(x)))
        program(jnp.ones(7))
        total, first = time.perf_counter() - begin, compiling.seconds
        assert 0.0 < first <= total
        program(jnp.ones(7))
        time.sleep(0.01)
        assert compiling.seconds == first
    jax.jit(lambda x: x + 2)(jnp.ones(7))
    assert compiling.seconds == first


def test_steps_within_another_are_counted_once(monkeypatch):
    now = iter((101.0, 103.0, 103.5, 110.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    with CompilationTime() as compiling:
        for seconds in (1.0, 1.0, 5.0, 2.0):
            jax.monitoring.record_event_duration_secs("/jax/core/compile/step", seconds)
        jax.monitoring.record_event_duration_secs("/jax/something/else", 9.0)
    assert compiling.seconds == pytest.approx(5.0 + 2.0)
