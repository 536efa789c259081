"""Who turns the crank: the host, one evaluation at a time, or the device, in a while_loop.

Both run the same `Integrator.advance`, so they give the same numbers.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.solvers.integrator import Integrator
from diffusion_ode.solvers.lane_state import LaneState, Outcome

# Of many lanes some end with almost every evaluation, and leaving the loop for each would cost more
# than letting a few per cent of the lanes idle for a moment.
_HARVESTED_FRACTION = 1 / 16


@runtime_checkable
class Driver(Protocol):
    """Advances all lanes until enough of them have ended."""

    def run(self, integrator: Integrator, state: LaneState, args: Any, enough: int) -> LaneState:
        """Until at least `enough` lanes have ended, or none runs. Consumes `state`."""
        ...

    def harvest(self, lanes: int) -> int:
        """How many of the lanes should have ended before they are refilled.

        More saves visits to the host, but leaves lanes idle.
        """
        ...


@dataclass(frozen=True)
class HostLoop:
    """A Python loop around one compiled evaluation; fetches [lanes] small integers each time.

    For CPUs, where XLA may run convolutions inside a while_loop more slowly.
    """

    def run(self, integrator: Integrator, state: LaneState, args: Any, enough: int) -> LaneState:
        integrator = jax.tree.map(jnp.asarray, integrator)  # numbers to the device, once
        while not _has_enough(np.asarray(state.outcome), enough):
            state = advance(integrator, state, args)
        return state

    def harvest(self, lanes: int) -> int:
        del lanes
        return 1  # the host is there after every evaluation anyway


@dataclass(frozen=True)
class DeviceLoop:
    """A while_loop on the device: the host is asked only when lanes have ended.

    Also the one that can itself be traced, inside a larger jitted function.
    """

    def run(self, integrator: Integrator, state: LaneState, args: Any, enough: int) -> LaneState:
        return _advance_until(integrator, state, args, jnp.asarray(enough, jnp.int32))

    def harvest(self, lanes: int) -> int:
        return max(1, round(_HARVESTED_FRACTION * lanes))


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
