"""Solves any number of initial value problems on a fixed number of lanes.

A batch that is solved together ends with its slowest member. Here the lane of a problem that has
ended takes the next one, so that throughput follows the mean number of evaluations.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode import ranges
from diffusion_ode.checking import check
from diffusion_ode.errors import UserError
from diffusion_ode.solvers.drivers import Driver, advance, default_driver
from diffusion_ode.solvers.integrator import Integrator, integrator_of
from diffusion_ode.solvers.lane_state import LaneState, Outcome
from diffusion_ode.solvers.solution import Solution
from diffusion_ode.solvers.solve import check_span, start_lanes, started
from diffusion_ode.solvers.solver import Solver
from diffusion_ode.solvers.step_controller import StepController
from diffusion_ode.solvers.vector_field import Context, VectorField


@dataclass(frozen=True)
class Item:
    """One problem, in host memory.

    Attributes:
      index: a number that comes back with the solution.
      z: state at the start of the span. [*shape]
      ell: log-density there, nats.
      context: what belongs to this problem, such as its divergence probe; a pytree of arrays
        without a lane axis, of the same shapes for every item.
    """

    index: int
    z: np.ndarray
    ell: float = 0.0
    context: Context = None


def solve_lanes(
    vector_field: VectorField,
    args: Any,
    items: Iterable[Item],
    *,
    lanes: int,
    solver: Solver,
    controller: StepController,
    span: tuple[float, float],
    sharding: jax.sharding.Sharding | None = None,
    driver: Driver | None = None,
    refill: bool = True,
    expected: int = 0,
) -> Iterator[Solution]:
    """Yields every item's Solution (host arrays) as it ends, in no fixed order.

    An item's solution depends on the item only, not on its lane or neighbours. Everything is
    compiled once for `lanes` lanes, whatever the number of items; idle lanes are masked.

    Args:
      vector_field: see VectorField; may return None for dell/ds.
      args: shared by all items, such as parameters.
      items: the problems; drawn from only as lanes become free.
      lanes: problems under way at a time; halved as often as fits if there are fewer items.
      solver: the method.
      controller: PIController or FixedSteps.
      span: start and end, in either direction.
      sharding: of the lane axis, over this process's own devices; with several processes each
        solves its own items. Lanes must divide evenly.
      driver: HostLoop or DeviceLoop; None takes the platform's own.
      refill: False fills all lanes again only when all have ended: the lock-step baseline.
      expected: lanes are kept for at least so many items, however few there are.
    """
    check_span(span)
    check("lanes", lanes, ranges.Count)
    _check_divisible(lanes, sharding)
    integrator = integrator_of(solver, vector_field, controller, sharding)
    pool = _Pool(integrator, args, driver or default_driver(), lanes, span)
    harvest = pool.driver.harvest(lanes)
    source = iter(items)
    exhausted = False
    while True:
        if not exhausted and (refill or pool.running == 0):
            free = len(pool.owners) - pool.running
            taken = list(itertools.islice(source, free))
            exhausted = len(taken) < free
            pool.fill(taken, expected)
        if pool.running == 0:
            return
        pool.run(min(harvest, pool.running) if refill else pool.running)
        yield from pool.harvest()


def trace_lanes(
    vector_field: VectorField,
    args: Any,
    z: jax.ShapeDtypeStruct,
    context: Context = None,
    *,
    lanes: int,
    solver: Solver,
    controller: StepController,
) -> None:
    """Traces a start and one evaluation of `solve_lanes`: what they raise is raised now.

    Args:
      vector_field, lanes, solver, controller: as there.
      args: shapes and types of it.
      z, context: the same of one item.

    Raises:
      UserError: an evaluation leaves the lanes with other shapes or types.
    """

    def each(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((lanes, *leaf.shape), leaf.dtype)

    integrator = integrator_of(solver, vector_field, controller)
    z, context = jax.tree.map(each, (z, context))
    ell, span = (jax.ShapeDtypeStruct((size,), z.dtype) for size in (lanes, 2))
    filled = jax.ShapeDtypeStruct((lanes,), bool)
    before = jax.eval_shape(started, integrator, z, ell, context, span, filled)
    after = jax.eval_shape(advance, jax.tree.map(jnp.asarray, integrator), before, args)
    for name, was in vars(before).items():
        now = getattr(after, name)
        if jax.tree.map(_kind, was) != jax.tree.map(_kind, now):
            raise UserError(
                f"{type(solver).__name__} leaves the lanes' {name} as"
                f" {jax.tree.map(_kind, now)}, which was {jax.tree.map(_kind, was)}: an evaluation"
                " must keep shapes and types."
            )


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _check_divisible(lanes: int, sharding: jax.sharding.Sharding | None) -> None:
    if sharding is None:
        return
    if not sharding.is_fully_addressable:
        raise UserError(
            "The lanes' sharding spans several processes, but each process solves its own items: "
            "give a sharding over this process's devices."
        )
    devices = len(sharding.device_set)
    if lanes % devices:
        raise UserError(
            f"{lanes} lanes cannot be divided among {devices} devices: give a multiple of "
            f"{devices}."
        )


class _Pool:
    """The lanes' state on the device and, on the host, who is in which lane."""

    def __init__(
        self,
        integrator: Integrator,
        args: Any,
        driver: Driver,
        lanes: int,
        span: tuple[float, float],
    ) -> None:
        self.integrator, self.args, self.driver, self.span = integrator, args, driver, span
        self.owners: list[Item | None] = [None] * lanes
        self.state: LaneState | None = None

    @property
    def running(self) -> int:
        return sum(owner is not None for owner in self.owners)

    def fill(self, items: list[Item], expected: int) -> None:
        """Puts the items into free lanes."""
        if not items:
            return
        if self.state is None:
            self.owners = [None] * self._fitting(max(len(items), expected))
        free = np.array([owner is None for owner in self.owners])
        rows = np.flatnonzero(free)[: len(items)]
        filled = np.zeros(len(self.owners), bool)
        filled[rows] = True
        for row, item in zip(rows, items, strict=True):
            self.owners[row] = item
        # New buffers each time: the device may still be reading from the ones before.
        z, ell, context = (
            jax.tree.map(lambda *leaves: self._spread(rows, leaves), *values)
            for values in (
                [item.z for item in items],
                [np.asarray(item.ell, np.asarray(item.z).dtype) for item in items],
                [item.context for item in items],
            )
        )
        z, ell, context, filled, free = self._put((z, ell, context, filled, free))
        span = jnp.asarray(self.span, z.dtype)
        if self.state is None:
            self.state = start_lanes(self.integrator, z, ell, context, span, filled)
        else:
            self.state = _refill(self.integrator, self.state, z, ell, context, span, filled, free)

    def run(self, enough: int) -> None:
        assert self.state is not None  # something was filled in
        self.state = self.driver.run(self.integrator, self.state, self.args, enough)

    def harvest(self) -> list[Solution]:
        """Takes the ended lanes' solutions out and leaves the lanes idle."""
        state = self.state
        assert state is not None
        outcome = np.array(state.outcome)
        ended = (outcome != Outcome.RUNNING) & (outcome != Outcome.IDLE)
        # Copies: a live view of a device buffer on the CPU keeps it from being donated.
        z, ell, nfe, accepted, rejected = (
            np.asarray(values)[ended].copy()
            for values in (state.z, state.ell, state.nfe, state.accepted, state.rejected)
        )
        solutions = []
        for place, row in enumerate(np.flatnonzero(ended)):
            owner = self.owners[row]
            assert owner is not None
            solutions.append(
                Solution(
                    index=owner.index,
                    z=z[place],
                    ell=float(ell[place]),
                    nfe=int(nfe[place]),
                    accepted=int(accepted[place]),
                    rejected=int(rejected[place]),
                    outcome=Outcome(int(outcome[row])),
                )
            )
            self.owners[row] = None
        self.state = _release(self.integrator, state)
        return solutions

    def _fitting(self, items: int) -> int:
        """The lanes halved as often as leaves enough of them, and as many on every device."""
        sharding = self.integrator.sharding
        devices = 1 if sharding is None else len(sharding.device_set)
        lanes = len(self.owners)
        while True:
            half = devices * -(-lanes // (2 * devices))
            if half == lanes or half < items:
                return lanes
            lanes = half

    def _spread(self, rows: np.ndarray, leaves: tuple[Any, ...]) -> np.ndarray:
        """The items' arrays in the lanes `rows`, zeros in the others."""
        values = np.stack([np.asarray(leaf) for leaf in leaves])
        spread = np.zeros((len(self.owners), *values.shape[1:]), values.dtype)
        spread[rows] = values
        return spread

    def _put(self, tree: Any) -> Any:
        return jax.device_put(tree, self.integrator.sharding)


@partial(jax.jit, donate_argnums=1)
def _refill(
    integrator: Integrator,
    state: LaneState,
    z: jax.Array,
    ell: jax.Array,
    context: Context,
    span: jax.Array,
    filled: jax.Array,
    free: jax.Array,
) -> LaneState:
    start, end = (jnp.full(z.shape[:1], span[i]) for i in (0, 1))
    fresh = integrator.start(z, ell, context, start, end, filled)
    return integrator.refill(state, fresh, free)


@partial(jax.jit, donate_argnums=1)
def _release(integrator: Integrator, state: LaneState) -> LaneState:
    return integrator.release(state)
