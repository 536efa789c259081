"""Recording steps for TensorBoard's profile."""

import jax.numpy as jnp
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.tasks.train import Train
from diffusion_ode.training.profiling import Profiler, Steps


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        (0, 3, r"^first = 0 is not an int in \[1, "),
        (5, 4, r"^train\.profile"),
        (1.5, 2, r"^first = 1\.5 is not an int in \[1, "),
        (1, True, r"^last = True is not an int in \[1, "),
    ],
)
def test_steps_that_cannot_be_are_refused(first, last, sentence):
    with pytest.raises(UserError, match=sentence):
        Steps(first, last)


def test_steps_beyond_the_end_of_the_training_are_refused():
    Train(num_steps=110, profile=Steps(100, 110))
    with pytest.raises(UserError, match=r"steps\(100, 110\) lasts beyond .* step 109: choose"):
        Train(num_steps=109, profile=Steps(100, 110))


def test_a_record_lies_where_tensorboard_looks_for_it(tmp_path):
    said = []
    with Profiler(Steps(2, 3), tmp_path, said.append) as profiler:
        begun = []
        for number in range(1, 6):
            if profiler.begins_with(number):
                begun.append(number)
                profiler.begin()
            jnp.ones(3).block_until_ready()
            if profiler.ends_with(number):
                profiler.end()
    assert begun == [2]
    assert len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == 1
    assert len(said) == 1
    assert said[0].startswith(
        f"profile recorded: tensorboard --logdir {tmp_path}, tab Profile (pip"
    )


def test_a_launch_that_goes_on_within_the_steps_records_the_rest_of_them(tmp_path):
    profiler = Profiler(Steps(100, 110), tmp_path)
    assert not profiler.begins_with(99)
    assert profiler.begins_with(105)
    assert not profiler.begins_with(111)


def test_what_was_begun_is_written_when_the_run_ends_early(tmp_path):
    with pytest.raises(KeyboardInterrupt), Profiler(Steps(1, 100), tmp_path) as profiler:
        profiler.begin()
        raise KeyboardInterrupt
    assert len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == 1


@pytest.mark.parametrize(
    ("done", "says"),
    [
        (0, None),
        (99, None),
        (100, "only steps from 101 on"),
        (110, "110 steps are done already: none"),
    ],
)
def test_steps_that_are_done_already_are_told(tmp_path, done, says):
    said = []
    Profiler(Steps(100, 110), tmp_path, said.append).announce(done)
    assert [says in sentence for sentence in said] == ([True] if says else [])


def test_without_steps_nothing_is_recorded_or_said(tmp_path):
    said = []
    profiler = Profiler(None, tmp_path, said.append)
    profiler.announce(0)
    assert not any(map(profiler.begins_with, range(100)))
    assert not said
