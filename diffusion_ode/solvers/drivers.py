"""Who turns the crank: the host, one evaluation at a time, or the device, in a while_loop.

Both run the same `Integrator.advance`, so they give the same numbers.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.solvers.integrator import Integrator, LaneState, Outcome


class Driver(Protocol):
    """Advances all lanes until enough of them have ended."""

    def run(self, integrator: Integrator, state: LaneState, args: Any, enough: int) -> LaneState:
        """Until at least `enough` lanes have ended, or none runs. Consumes `state`."""
        ...


@dataclass(frozen=True)
class HostLoop:
    """A Python loop around one compiled evaluation; fetches [lanes] small integers each time.

    For CPUs: XLA runs convolutions inside a while_loop about half as fast there.
    """

    def run(self, integrator: Integrator, state: LaneState, args: Any, enough: int) -> LaneState:
        integrator = jax.tree.map(jnp.asarray, integrator)  # numbers to the device, once
        while not _has_enough(np.asarray(state.outcome), enough):
            state = advance(integrator, state, args)
        return state


@dataclass(frozen=True)
class DeviceLoop:
    """A while_loop on the device: the host is asked only when lanes have ended.

    Also the one that can itself be traced, inside a larger jitted function.
    """

    def run(self, integrator: Integrator, state: LaneState, args: Any, enough: int) -> LaneState:
        return _advance_until(integrator, state, args, jnp.asarray(enough, jnp.int32))


def default_driver() -> Driver:
    """The faster one on this platform."""
    return HostLoop() if jax.default_backend() == "cpu" else DeviceLoop()


@partial(jax.jit, donate_argnums=1)
def advance(integrator: Integrator, state: LaneState, args: Any) -> LaneState:
    """One compiled evaluation. Consumes `state`."""
    return integrator.advance(state, args)


@partial(jax.jit, donate_argnums=1)
def _advance_until(
    integrator: Integrator, state: LaneState, args: Any, enough: jax.Array
) -> LaneState:
    return jax.lax.while_loop(
        lambda state: ~_has_enough(state.outcome, enough),
        lambda state: integrator.advance(state, args),
        state,
    )


def _has_enough(outcome: Any, enough: Any) -> Any:
    ended = (outcome != Outcome.RUNNING) & (outcome != Outcome.IDLE)
    return (ended.sum(dtype=np.int32) >= enough) | ~(outcome == Outcome.RUNNING).any()
