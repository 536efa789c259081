"""Joining the other processes of a run, named by flags or by the cluster's environment.

A laptop, or a single task of a cluster, pays nothing and waits for nobody.
"""

import os
import socket
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from diffusion_ode.distributed import peer_watch, processes
from diffusion_ode.distributed.relay import Relay
from diffusion_ode.errors import UserError
from diffusion_ode.exit_statuses import FAILED, REFUSED
from diffusion_ode.leaving import leave_at_once, leave_with
from diffusion_ode.streams import LastingStream

WAIT_FOR_PEERS = 300  # seconds; JAX's own patience
# JAX ends a process that waited in vain from within, with a trace of C++: we must be there first.
_AHEAD_OF_JAX = 60  # seconds


@dataclass(frozen=True)
class Peers:
    """The processes of a run, as this one knows them.

    Args:
      count: how many they are.
      index: the number of this one, from 0.
      coordinator: HOST:PORT of the first one; alone it needs none.
    """

    count: int
    index: int
    coordinator: str | None = None

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Of the coordinator; there is one."""
        host, _, port = str(self.coordinator).rpartition(":")
        return host.strip("[]"), int(port)

    def __str__(self) -> str:
        return f"process {self.index} of {self.count}"


def join(given: Peers | None, patience: int) -> None:
    """Joins the other processes; returns when all are there. Must come before all use of JAX.

    Args:
      given: by flags; None asks the cluster's environment.
      patience: seconds; if the others are not there by then, the process ends with one sentence.
        So it does if there is no device for it: nothing can be asked of JAX any more then.

    Raises:
      UserError: the environment cannot be understood, or the coordinator's port is taken.
    """
    peers = given or peers_of_cluster(os.environ, patience)
    if peers is None or peers.count == 1:
        return
    relay = None
    if peers.index == 0:
        _check_free(peers)
    else:
        relay = Relay(*peers.host_and_port)
        _let_past_proxies(os.environ)
    _silence_chatter()
    import jax

    from diffusion_ode.distributed.interruption import Interruption

    # Its handler of SIGTERM would take the place of ours; see `interruption`.
    jax.config.update("jax_enable_preemption_service", False)
    overdue = peer_watch.later(patience, _give_up, peers, patience)
    # Until all are there the process ends alone, and nobody is asked whether there are others.
    interruption = Interruption(end=os._exit)
    try:
        with interruption, interruption.immediately(lambda: None):
            jax.distributed.initialize(
                relay.address if relay else peers.coordinator,
                peers.count,
                peers.index,
                cluster_detection_method="deactivate" if given else None,
                initialization_timeout=patience + _AHEAD_OF_JAX,
                coordinator_bind_address=_bound(peers),
            )
            overdue.cancel()
            _watch_each_other(peers, relay)
        overdue = peer_watch.later(patience, _give_up_devices, peers, patience)
        jax.local_devices()  # made known to each other now, all waiting for all
    except Exception as error:  # JAX asserts, too, that there is a device
        _refuse(peers, error)
    finally:
        overdue.cancel()
    _check_alike(peers, jax.process_count(), [d.process_index for d in jax.devices()])


def _check_alike(peers: Peers, count: int, owners: Sequence[int]) -> None:
    """Refuses processes that were not started alike.

    Args:
      peers: as this process was told.
      count: of the processes that there are.
      owners: the process of every device.
    """
    if peers.count != count:
        raise UserError(
            f"Process {peers.index} was told of {peers.count} processes, but {count} are there:"
            " give all of them the same --num_processes."
        )
    devices = [owners.count(number) for number in range(count)]
    other = next((number for number in range(count) if devices[number] != devices[0]), None)
    if other is not None:
        raise processes.AgreedError(
            f"Process 0 has {devices[0]} devices and process {other} has {devices[other]}:"
            " give all processes the same number of devices."
        )


def peers_of_cluster(environment: Mapping[str, str], patience: int) -> Peers | None:
    """The processes that a cluster has started along with this one; None if it is alone.

    SLURM, Open MPI, Cloud TPU and Kubernetes are recognised by JAX; here it is only asked when it
    would neither wait nor warn in vain, and never joins a process that was started alone.

    Raises:
      UserError: JAX recognises a cluster, but not this process's place in it.
    """
    try:
        steps_tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "0"))
        if steps_tasks == 1:
            return None  # a shell, or one program, within an allocation for several
        cluster = _recognised(environment)
        if cluster is None and int(environment.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
            raise UserError(
                "An Open MPI that JAX does not know (it knows version 4) started this process and"
                " others: give --coordinator=HOST:PORT,"
                ' --num_processes="$OMPI_COMM_WORLD_SIZE" and'
                ' --process_id="$OMPI_COMM_WORLD_RANK", or --num_processes=1 to run alone.'
            )
        if cluster is None:
            return None
        tasks = steps_tasks if cluster.name == "slurm" and steps_tasks else 0
        count = tasks or cluster.get_process_count()
        if count == 1:
            return None
        port = environment.get("JAX_COORDINATOR_PORT")
        coordinator = cluster.get_coordinator_address(patience, port)
        return Peers(count, cluster.get_process_id(), coordinator)
    except UserError:
        raise
    except Exception as error:  # whatever a cluster's services and variables are up to
        raise UserError(
            f"This looks like a cluster, but its processes cannot be found ({_first_line(error)}):"
            " give --coordinator, --num_processes and --process_id, or --num_processes=1 to run"
            " alone."
        ) from error


def speaks(error: Exception) -> bool:
    """Whether it is for this process to tell the user: the leader does it for all."""
    return processes.is_leader() or not isinstance(error, processes.AgreedError)


def end(status: Any) -> NoReturn:
    """Leaves the program: with the others if all is well, else without waiting for them."""
    if status and processes.count() > 1:
        processes.leave(status)
    if processes.count() > 1:
        leave_at_once()  # while the others are waited for
        processes.part()
    leave_with(status)


def _silence_chatter() -> None:
    """Libraries in C++ print whom they have connected, on standard output, which is the user's.

    Python's goes on to where it went; errors go to standard error, as ever.
    """
    ours = os.dup(1)
    buffering = 1 if sys.stdout.isatty() else -1
    sys.stdout.flush()
    sys.stdout = LastingStream(os.fdopen(ours, "w", buffering, sys.stdout.encoding))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _watch_each_other(peers: Peers, relay: Relay | None) -> None:
    """Together: from now on a process that is killed ends the others, with one sentence."""
    from jax._src.distributed import global_state  # there is no public way to the store

    assert global_state.client is not None  # it is joined
    host, _ = peers.host_and_port
    others = peer_watch.meet(peers.count, peers.index, host, global_state.client)
    missing = sorted(set(range(1, peers.count)) - others.keys()) if peers.index == 0 else []
    if missing:
        print(
            f"Process 0 and {', '.join(map(str, missing))} of {peers.count} cannot watch each other"
            " (a firewall between them?): if one is killed, the others notice only when JAX does,"
            " after minutes.",
            file=sys.stderr,
        )
    if not others:
        return
    watch = peer_watch.PeerWatch(peers.count, peers.index, others)
    watch.start()
    processes.watched_by(watch)
    if relay is not None:
        relay.hold()


def _let_past_proxies(environment: MutableMapping[str, str]) -> None:
    """A proxy for the world outside is none for this process's own relay."""
    if not any("proxy" in name.lower() for name in environment):
        return
    names = ("no_grpc_proxy", "no_proxy", "NO_PROXY")
    others = next((environment[name] for name in names if environment.get(name)), None)
    environment["no_grpc_proxy"] = ",".join(filter(None, [others, "127.0.0.1"]))


def _recognised(environment: Mapping[str, str]):
    """The cluster that JAX recognises this process to be part of, or None."""
    hints = ("SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri", "JOB_COMPLETION_INDEX")
    may_be_tpu = any(name.startswith("TPU_") for name in environment) or _has_libtpu()
    if not may_be_tpu and not any(name in environment for name in hints):
        return None
    from jax._src.clusters import ClusterEnv  # there is no public way to ask without joining

    for cluster in ClusterEnv._cluster_types:
        if cluster.opt_in_only_method:
            continue
        # Within Kubernetes JAX wants a package and the rights of a Job: only Jobs have both.
        if cluster.__name__ == "K8sCluster" and "JOB_COMPLETION_INDEX" not in environment:
            continue
        if cluster.is_env_present():
            return cluster
    return None


def _has_libtpu() -> bool:
    import importlib.util

    return importlib.util.find_spec("libtpu") is not None


def _bound(peers: Peers) -> str | None:
    """Where the first process's coordinator listens; None leaves it to JAX: on all interfaces."""
    if peers.index != 0:
        return None
    host, port = peers.host_and_port
    address = peer_watch.own_address(host)
    if address is None:
        return None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _check_free(peers: Peers) -> None:
    """A port that is taken makes JAX crash."""
    _, port = peers.host_and_port
    try:
        if socket.has_dualstack_ipv6():
            family = socket.AF_INET6
            socket.create_server(("", port), family=family, dualstack_ipv6=True).close()
        else:
            socket.create_server(("", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # its own words are long
        raise UserError(
            f"Process 0 cannot listen on port {port} of this machine ({reason}): choose a"
            " free port in --coordinator=HOST:PORT, and another for every run at a time."
        ) from error


def _give_up_devices(peers: Peers, patience: int) -> None:
    print(
        f"{str(peers).capitalize()} waited {patience} s for the others' devices: see what the"
        " others say, then start all of them again.",
        file=sys.stderr,
        flush=True,
    )
    processes.leave(FAILED, last=peers.index == 0)


def _give_up(peers: Peers, patience: int) -> None:
    print(
        f"The other processes did not come: {peers} waited for {patience} s at {peers.coordinator}:"
        f" start all {peers.count} together, check that they reach that address, or raise"
        " --wait_for_peers=SECONDS.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(FAILED)


def _refuse(peers: Peers, error: Exception) -> NoReturn:
    reason = _first_line(error) if str(error) else "JAX has no device for it"
    print(
        f"{str(peers).capitalize()} cannot start ({reason}): start no more processes"
        " than there are devices, each with its own --process_id and all with one"
        " --coordinator=HOST:PORT.",
        file=sys.stderr,
        flush=True,
    )
    processes.leave(REFUSED, last=peers.index == 0)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
