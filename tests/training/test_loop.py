"""The loop around the step, with a step that is arithmetic."""

import contextlib
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.training.loop import Intervals, NotFinite, TrainLoop
from diffusion_ode.training.profiling import Profiler, Steps
from diffusion_ode.training.utilisation import Utilisation, device_memory


class Recorder:
    """Stands for everything the loop talks to, and remembers what it was told."""

    def __init__(self):
        self.saved, self.scalars, self.pictures = [], [], []
        self.requested = False

    def save(self, step, state, data_state, document, metrics, facts):
        self.saved.append((step, int(state.step), data_state["next_index"], metrics))

    def latest_step(self):
        return self.saved[-1][0] if self.saved else None

    def write_scalars(self, step, scalars):
        self.scalars.append((step, scalars))

    def write_image(self, step, name, image):
        self.pictures.append(step)

    def wait(self): ...

    def check(self): ...

    def pause(self):
        return contextlib.nullcontext()

    def agreed(self):
        return self.requested

    def raise_if_requested(self):
        raise SystemExit(75)

    def speed(self):
        return None

    def update(self, done, *details): ...

    def end(self): ...


class Batches:
    def __init__(self, recorder, stop_at=None):
        self.drawn, self.recorder, self.stop_at = 0, recorder, stop_at

    def __next__(self):
        self.drawn += 1
        if self.drawn == self.stop_at:
            self.recorder.requested = True
        return np.asarray(self.drawn)

    def get_state(self):
        return {"next_index": self.drawn}


def loop(recorder, *, spoiled_at=None, stop_at=None, num_steps=10, **more):
    def step(state, batch):
        loss = math.nan if int(batch) == spoiled_at else 1.0 / int(batch)
        advanced = SimpleNamespace(first_step=state.first_step, step=state.step + 1, ema=None)
        return advanced, {"bpd": jnp.float32(loss), "gradient_norm": jnp.float32(1.0)}

    return TrainLoop(
        program=SimpleNamespace(
            num_steps=num_steps, batch_size=2, steps_per_call=1, place=lambda batch: batch
        ),
        step=step,
        batches=Batches(recorder, stop_at),
        checkpoints=recorder,
        writers=recorder,
        progress=recorder,
        interruption=recorder,
        intervals=Intervals(log=4, checkpoint=3, pictures=5),
        document={},
        facts={},
        draw_picture=lambda ema: np.zeros((1, 1, 1), np.uint8),
        **more,
    )


START = SimpleNamespace(first_step=jnp.int32(100), step=jnp.int32(100), ema=None)


def test_everything_is_done_at_its_interval_and_at_the_end():
    recorder = Recorder()
    loop(recorder).run(START)
    assert [step for step, *_ in recorder.saved] == [102, 105, 108, 110]
    assert [step for step, _ in recorder.scalars] == [104, 108, 110]
    assert recorder.pictures == [105, 110]


def test_profilers_find_the_steps(tmp_path):
    recorder = Recorder()
    loop(recorder, profiler=Profiler(Steps(2, 3), tmp_path)).run(START)
    (trace,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    steps = [
        dict(event.stats)["step_num"]
        for plane in jax.profiler.ProfileData.from_file(str(trace)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    ]
    assert steps == [2, 3]


def test_device_memory_is_told_where_the_backend_tells_it(monkeypatch):
    assert device_memory() == {}  # a CPU
    told = [
        {"bytes_in_use": 5, "peak_bytes_in_use": 9},
        {"bytes_in_use": 7, "peak_bytes_in_use": 8},
    ]
    devices = [SimpleNamespace(memory_stats=lambda stats=stats: stats) for stats in told]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert device_memory() == {"train/memory_in_use": 7.0, "train/peak_memory": 9.0}
    recorder = Recorder()
    loop(recorder).run(START)
    assert recorder.scalars[0][1].keys() >= {"train/memory_in_use", "train/peak_memory"}
    assert all(line["wall_time"] > 0 for _, line in recorder.scalars)


def several_per_call(recorder, taken, spoiled_at=None):
    """The loop of ten steps in calls of several."""
    one_by_one = loop(recorder, spoiled_at=spoiled_at)
    single = one_by_one.step

    def step(state, batches):
        told = []
        for batch in batches:
            state, metrics = single(state, batch)
            told.append(metrics)
        return state, jax.tree.map(lambda *each: jnp.stack(each), *told)

    one_by_one.step = step
    one_by_one.program.steps_per_call = taken
    one_by_one.program.place = lambda *batches: batches
    one_by_one.intervals = Intervals(log=4, checkpoint=4)
    return one_by_one


def test_steps_in_one_call_are_logged_and_saved_as_those_taken_alone():
    recorder = Recorder()
    several_per_call(recorder, 2).run(START)
    assert [step for step, *_ in recorder.saved] == [104, 108, 110]
    assert [step for step, _ in recorder.scalars] == [104, 108, 110]
    first = recorder.scalars[0][1]["train/bpd"]
    assert first == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4]), rel=1e-6)
    with pytest.raises(NotFinite, match="the loss at step 107 is nan"):
        several_per_call(Recorder(), 2, spoiled_at=7).run(START)


def test_steps_left_that_no_whole_call_takes_are_refused():
    with pytest.raises(UserError, match=r"= 10 is not a multiple of train.steps_per_call = 4"):
        several_per_call(Recorder(), 4).run(START)


def test_checkpoint_holds_the_state_and_the_iterator_of_one_moment():
    recorder = Recorder()
    loop(recorder).run(START)
    for step, state_step, next_index, _ in recorder.saved:
        assert step == state_step == 100 + next_index


def test_utilisation_is_logged_where_it_is_known():
    recorder = Recorder()
    loop(recorder, utilisation=Utilisation(step_flops=3.0, peak=100.0)).run(START)
    for _, scalars in recorder.scalars:
        steps_per_second = scalars["train/images_per_second"] / 2
        assert scalars["train/mfu"] == pytest.approx(0.03 * steps_per_second)
    recorder = Recorder()
    loop(recorder).run(START)
    assert not any("train/mfu" in scalars for _, scalars in recorder.scalars)


def test_profiled_steps_are_alone_under_way(tmp_path):
    said = []
    with Profiler(Steps(3, 4), tmp_path, said.append) as profiler:
        loop(Recorder(), profiler=profiler).run(START)
    assert len(said) == len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == 1


def test_logged_values_are_means_over_the_steps_since_the_last_ones():
    recorder = Recorder()
    loop(recorder).run(START)
    first, second, last = (scalars["train/bpd"] for _, scalars in recorder.scalars)
    assert first == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4]), rel=1e-6)
    assert second == pytest.approx(np.mean([1 / 5, 1 / 6, 1 / 7, 1 / 8]), rel=1e-6)
    assert last == pytest.approx(np.mean([1 / 9, 1 / 10]), rel=1e-6)


@pytest.mark.parametrize("spoiled_at", [5, 6, 10])
def test_loss_that_is_not_finite_stops_the_run_before_anything_of_it_is_saved(spoiled_at):
    recorder = Recorder()
    with pytest.raises(NotFinite, match=f"the loss at step {100 + spoiled_at} is nan"):
        loop(recorder, spoiled_at=spoiled_at).run(START)
    assert all(step < 100 + spoiled_at for step, *_ in recorder.saved)


def test_request_to_stop_saves_the_step_just_done_and_leaves():
    recorder = Recorder()
    with pytest.raises(SystemExit) as leaving:
        loop(recorder, stop_at=7).run(START)
    assert leaving.value.code == 75
    assert recorder.saved[-1][:3] == (107, 107, 7)


def test_run_that_is_complete_takes_no_further_step():
    recorder = Recorder()
    done = SimpleNamespace(first_step=jnp.int32(100), step=jnp.int32(110), ema=None)
    loop(recorder).run(done)
    assert recorder.saved == []
