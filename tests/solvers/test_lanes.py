"""A fixed number of lanes, refilled as their problems end."""

import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.solvers import drivers
from diffusion_ode.solvers.adams import Adams
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.drivers import DeviceLoop, HostLoop
from diffusion_ode.solvers.lane_state import Outcome
from diffusion_ode.solvers.lanes import Item, solve_lanes
from diffusion_ode.solvers.pi_controller import PIController

FAST = DeviceLoop()
COUNT = 20
RNG = np.random.default_rng(0)
RATES = RNG.uniform(0.2, 8, COUNT).astype(np.float32)
STARTS = RNG.normal(size=(COUNT, 2)).astype(np.float32)


def rotation(args, s, z, context):
    """Rotates at the rate given by the context; ell = args · sin(rate · s) in closed form."""
    rate = context["rate"]
    turned = jnp.stack([z[:, 1], -z[:, 0]], axis=1)
    return rate[:, None] * turned, args * rate * jnp.cos(rate * s)


def items(order=None, rates=RATES):
    for i in range(COUNT) if order is None else order:
        yield Item(index=int(i), z=STARTS[i], ell=1.0, context={"rate": rates[i]})


def run(source, *, lanes, driver=FAST, controller=None, solver=None, **kwargs):
    solutions = solve_lanes(
        rotation,
        np.float32(2),
        source,
        lanes=lanes,
        solver=solver or DormandPrince5(),
        controller=controller or PIController(),
        span=(0.0, 3.0),
        driver=driver,
        **kwargs,
    )
    return sorted(solutions, key=lambda solution: solution.index)


@pytest.fixture(scope="module")
def alone():
    return run(items(), lanes=1)


def assert_same(left, right):
    assert [a.index for a in left] == [b.index for b in right]
    assert [a.nfe for a in left] == [b.nfe for b in right]
    assert np.allclose([a.z for a in left], [b.z for b in right], atol=1e-6)
    assert np.allclose([a.ell for a in left], [b.ell for b in right], atol=1e-5)


def test_every_item_is_solved_once_and_rightly(alone):
    assert [solution.index for solution in alone] == list(range(COUNT))
    assert all(solution.converged for solution in alone)
    assert np.allclose([s.ell for s in alone], 1 + 2 * np.sin(RATES * 3.0), atol=1e-3)
    lengths = np.linalg.norm([solution.z for solution in alone], axis=1)
    assert np.allclose(lengths, np.linalg.norm(STARTS, axis=1), atol=1e-3)


@pytest.mark.parametrize("lanes", [3, 8])
def test_a_solution_does_not_depend_on_its_lane_or_neighbours(alone, lanes):
    assert_same(run(items(), lanes=lanes), alone)
    assert_same(run(items(RNG.permutation(COUNT)), lanes=lanes), alone)


class LateHarvest(DeviceLoop):
    def harvest(self, lanes):
        return 3


@pytest.mark.parametrize("options", [{"refill": False}, {"driver": LateHarvest()}])
def test_lock_step_and_late_harvest_change_no_number(alone, options):
    assert_same(run(items(), lanes=8, **options), alone)


def test_a_refilled_lane_forgets_the_slopes_of_the_solve_before():
    controller = PIController(initial_step=0.01, factor_max=2.0)
    alone, refilled = (
        run(items(), lanes=n, solver=Adams(), controller=controller) for n in (COUNT, 3)
    )
    assert_same(refilled, alone)
    assert np.allclose([s.ell for s in alone], 1 + 2 * np.sin(RATES * 3.0), atol=1e-3)


def test_host_and_device_give_the_same_numbers(alone):
    assert_same(run(items(), lanes=4, driver=HostLoop()), alone)


def test_refilled_lanes_need_fewer_evaluations_than_lock_step(monkeypatch):
    counts = []
    original = drivers.advance
    monkeypatch.setattr(drivers, "advance", lambda *a: counts.append(1) or original(*a))
    solutions = run(items(), lanes=4, driver=HostLoop())
    refilled = len(counts)
    run(items(), lanes=4, driver=HostLoop(), refill=False)
    lock_step = len(counts) - refilled
    assert lock_step > 1.3 * refilled
    # At best all four lanes work all the time; at the end they wait for the slowest item.
    work = [solution.nfe for solution in solutions]
    assert refilled <= sum(work) / 4 + max(work)


def test_one_compilation_whatever_the_number_of_items():
    run(items(range(4)), lanes=4, driver=HostLoop())
    before = drivers.advance._cache_size()
    for count in (3, 4, 5, COUNT):
        run(items(range(count)), lanes=4, driver=HostLoop())
    assert drivers.advance._cache_size() == before


def test_few_items_do_not_pay_for_many_lanes(alone, monkeypatch):
    sizes = []
    original = drivers.advance
    monkeypatch.setattr(
        drivers, "advance", lambda i, s, a: sizes.append(s.z.shape[0]) or original(i, s, a)
    )
    assert_same(run(items(range(3)), lanes=64, driver=HostLoop()), alone[:3])
    assert set(sizes) == {4}


def test_items_are_drawn_only_as_lanes_become_free():
    drawn = []

    def source():
        for item in items():
            drawn.append(item.index)
            yield item

    solutions = solve_lanes(
        rotation,
        np.float32(2),
        source(),
        lanes=3,
        solver=DormandPrince5(),
        controller=PIController(),
        span=(0.0, 3.0),
        driver=FAST,
    )
    next(solutions)
    assert len(drawn) == 3


def test_an_item_that_is_not_finite_fails_alone_and_its_lane_goes_on(alone):
    rates = RATES.copy()
    rates[4] = np.nan
    solutions = run(items(rates=rates), lanes=3)
    assert solutions[4].outcome == Outcome.NOT_FINITE
    assert not solutions[4].converged
    assert_same(solutions[:4] + solutions[5:], alone[:4] + alone[5:])


def test_items_that_run_out_of_steps_are_reported(alone):
    limit = int(np.median([solution.accepted for solution in alone]))
    solutions = run(items(), lanes=3, controller=PIController(max_steps=limit))
    needed = [solution.accepted + solution.rejected for solution in alone]
    assert [s.converged for s in solutions] == [steps <= limit for steps in needed]
    assert {s.outcome for s in solutions if not s.converged} == {Outcome.OUT_OF_STEPS}


def test_no_items_give_no_solutions():
    assert run(iter([]), lanes=3) == []


def test_impossible_numbers_are_refused():
    with pytest.raises(UserError, match="lanes = 0"):
        run(items(), lanes=0)


def test_lanes_sharded_over_devices_give_the_same_numbers(alone, tmp_path):
    program = f"""
        import sys
        import jax
        jax.config.update("jax_num_cpu_devices", 2)
        import numpy as np
        sys.path.insert(0, {str(__file__.rsplit("/", 1)[0])!r})
        import test_lanes
        from jax.sharding import AxisType, NamedSharding, PartitionSpec
        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        solutions = test_lanes.run(test_lanes.items(), lanes=4, sharding=sharding)
        np.savez(sys.argv[1], z=[s.z for s in solutions], ell=[s.ell for s in solutions])
    """
    target = tmp_path / "sharded.npz"
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(target)], check=True)
    sharded = np.load(target)
    assert np.allclose(sharded["z"], [solution.z for solution in alone], atol=1e-6)
    assert np.allclose(sharded["ell"], [solution.ell for solution in alone], atol=1e-5)
