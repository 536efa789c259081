"""Several processes that run one program together: who leads, and what all of them agree on.

The first process leads: it alone writes, unless a library takes care of that, and speaks to the
user. What is marked *together* communicates: every process must call it, in the same order. With a
single process, which is the case unless the launcher has joined several, all of it costs nothing.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

import numpy as np

from diffusion_ode.distributed.peer_watch import PeerWatch
from diffusion_ode.errors import UserError

T = TypeVar("T")

# Others may notice that the leader is gone before they have ended themselves; so it leaves last.
_LEADERS_PATIENCE = 3.0  # seconds
# Of a collective that fails because a process has gone: whoever watches that one says so.
_TO_BE_TOLD = 1.0  # seconds
_SHOWN = 60  # characters of a value in a sentence


_watch: PeerWatch | None = None  # of the others, once they are there


class AgreedError(UserError):
    """A mistake of which all processes have learnt together: the leader says it for all."""


class Failed(RuntimeError):
    """Another process has failed, so that this one cannot go on."""


def count() -> int:
    """How many processes there are."""
    return sys.modules["jax"].process_count() if _joined() else 1


def index() -> int:
    """The number of this one, from 0."""
    return sys.modules["jax"].process_index() if _joined() else 0


def is_leader() -> bool:
    """Whether this is the one that writes and speaks."""
    return index() == 0


def mine(items: Iterable[T]) -> list[T]:
    """This process's share of what all of them have: every `count()`-th."""
    return list(items)[index() :: count()]


def together(act: Callable[[], T]) -> T:
    """Together: what `act` gives each process, if it succeeds in all of them.

    Raises:
      UserError: it was refused in some; then it is in all, for the first one's reason.
      Failed: it failed in another process; where it did, the exception itself.
    """
    if count() == 1:
        return act()
    given = failure = None
    try:
        given = act()
    except Exception as error:
        failure = error
    # A refusal is a ValueError, ours or that of the data, whose class is its own.
    kind = "refused " if isinstance(failure, ValueError) else "failed "
    reports = _texts("" if failure is None else f"{kind}{failure or type(failure).__name__}")
    first = next((number for number, report in enumerate(reports) if report), None)
    if first is None:
        return given  # pyright: ignore[reportReturnType] — it was given where nothing failed
    kind, _, reason = reports[first].partition(" ")
    if kind == "refused":
        who = f"Process {first} of {count()}: " if first else ""
        raise AgreedError(who + reason) from failure
    raise failure or Failed(f"process {first} of {count()} failed: {reason}")


def by_leader(act: Callable[[], T]) -> T:
    """Together: what `act` gives the leader, who alone calls it; JSON.

    Raises:
      UserError: the leader's was refused.
    """
    if count() == 1:
        return act()
    answer = together(lambda: json.dumps(act()) if is_leader() else "")
    return json.loads(_leaders_text(answer))


def check_same(what: str, value: str) -> None:
    """Together: refuses to go on if a process has another value than the leader.

    Args:
      what: is compared, for the sentence; e.g. "the data's fingerprint".
      value: this process's.

    Raises:
      UserError: in all processes; says who has what.
    """
    if count() == 1:
        return
    values = _texts(value)
    for number, other in enumerate(values):
        if other != values[0]:
            long = max(len(values[0]), len(other)) > _SHOWN
            both = "" if long else f" ({values[0]} and {other})"
            raise AgreedError(
                f"{what} is not the same in process 0 and process {number}{both}: start all"
                " processes of a run with the same command, on the same data and versions."
            )


def gathered(records: Iterable[tuple], dtype: np.dtype, every: int = 64) -> Iterator[Any]:
    """Together: the records (`np.void`) of all processes, in each of them, as they come.

    A process may have more or fewer than others; between two exchanges it works on its own.

    Args:
      records: this process's, as tuples.
      dtype: of a record, with named fields.
      every: records of a process between two exchanges.
    """
    if count() == 1:
        yield from (np.array(record, dtype)[()] for record in records)
        return
    source, remaining = iter(records), True
    while remaining:
        block, filled = np.zeros(every, dtype), 0
        for filled, record in enumerate(_first(source, every), start=1):
            block[filled - 1] = record
        blocks, sizes = _gather(block), _gather(np.asarray(filled))
        for others, size in zip(blocks, sizes, strict=True):
            yield from others[:size]
        # A full block may have been the last one: then another exchange of empty ones ends it.
        remaining = bool((sizes == every).any())


def on_this_process(arrays: T) -> T:
    """Together: a tree of global arrays as whole ones on this process's first device.

    With one process they stay where they are.
    """
    if count() == 1:
        return arrays
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    def local(array):
        everywhere = NamedSharding(array.sharding.mesh, PartitionSpec())
        return jax.device_put(array, everywhere).addressable_data(0)

    return jax.tree.map(local, arrays)


class Vote:
    """Whether any process wants something: the same answer, at the same call, in every process.

    With several processes an answer is that to the call before, so that nobody waits for it: it is
    asked at every step, and each has one step for its way. *Together*.
    """

    def __init__(self):
        self._cast: Any = None

    def __call__(self, wanted: bool) -> bool:
        if count() == 1:
            return wanted
        before, self._cast = self._cast, _any_wants(wanted)
        return before is not None and bool(before)


def watched_by(watch: PeerWatch) -> None:
    """From now on the end of this process is told to the others."""
    global _watch
    _watch = watch


def ended_elsewhere() -> tuple[int, int] | None:
    """Another process that has ended other than well, and with what status; None if none has.

    Asked before a failure is reported, which may only be what is seen here of another process's
    end. If that one has gone without a word, this process ends meanwhile, and says so.
    """
    if _watch is None:
        return None
    time.sleep(_TO_BE_TOLD)
    return _watch.ended_badly


def leave(status: int, last: bool | None = None) -> NoReturn:
    """Ends this process at once, without a farewell that would wait for others which cannot come.

    Called where something has gone wrong here, and perhaps in the other processes, too.

    Args:
      status: of the process.
      last: whether the others are let go first; None: if it leads several.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    leads = last if last is not None else (count() > 1 and is_leader())
    patience = _LEADERS_PATIENCE if leads else 0.0
    if _watch is not None:
        _watch.farewell(status, patience)
    else:
        time.sleep(patience)
    os._exit(status)


def part() -> None:
    """Together: the farewell of processes that have all done what they came for."""
    if count() == 1:
        return
    sys.modules["jax"].distributed.shutdown()  # waits for all
    if _watch is not None:
        _watch.farewell(0)


def _joined() -> bool:
    """Whether there may be others; neither imports JAX nor starts its backend."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _first(source: Iterator[T], most: int) -> Iterator[T]:
    for _ in range(most):
        try:
            yield next(source)
        except StopIteration:
            return


def _texts(text: str) -> list[str]:
    """Every process's text."""
    content = text.encode()
    sizes = _gather(np.asarray(len(content)))
    padded = np.frombuffer(content.ljust(_room(int(sizes.max())), b"\0"), np.uint8)
    return [row.tobytes()[:size].decode() for row, size in zip(_gather(padded), sizes, strict=True)]


def _leaders_text(text: str) -> str:
    """The leader's; unlike with `_texts` nobody needs room for what the others say."""
    from jax.experimental import multihost_utils

    size = int(_gather(np.asarray(len(text.encode())))[0])
    padded = text.encode().ljust(_room(size), b"\0")[: _room(size)]
    content = np.asarray(multihost_utils.broadcast_one_to_all(np.frombuffer(padded, np.uint8)))
    return content.tobytes()[:size].decode()


def _room(size: int) -> int:
    """At least one more, in powers of two: so that few programs are compiled."""
    return 1 << size.bit_length()


def _gather(array: np.ndarray) -> np.ndarray:
    """Every process's array, bit for bit: as bytes, because JAX would make 64 bits 32."""
    from jax.experimental import multihost_utils

    content = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    everyones = np.asarray(multihost_utils.process_allgather(content))
    return np.frombuffer(everyones.tobytes(), array.dtype).reshape(count(), *array.shape)


def _any_wants(wanted: bool) -> Any:
    """Whether a process wants it, on the device: asked for now, looked at later."""
    import jax

    sharding, reduce = _ballot()
    votes = np.full(jax.local_device_count(), wanted)
    return reduce(jax.make_array_from_process_local_data(sharding, votes))


@functools.cache
def _ballot() -> tuple[Any, Callable]:
    """Where the votes lie, one on each device, and the program that counts them."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()), ("voters",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    voters = NamedSharding(mesh, PartitionSpec("voters"))
    return voters, jax.jit(jnp.any, out_shardings=everywhere)
