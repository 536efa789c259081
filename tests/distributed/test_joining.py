"""Who joins whom, and what a user reads when nobody comes."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_ode.distributed import processes
from diffusion_ode.distributed.joining import Peers, _check_alike, join, peers_of_cluster
from diffusion_ode.errors import UserError
from launch import flags

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "launch/clusters").glob("*.sh"))
SLURM = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_NODELIST": "node[003-006]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}


@pytest.fixture
def environment(monkeypatch):
    """Sets what a cluster would set, as JAX reads it."""

    def set_all(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return variables

    return set_all


def test_a_cluster_says_who_the_peers_are(environment):
    peers = peers_of_cluster(environment(SLURM), patience=1)
    assert peers == Peers(4, 2, f"node003:{4242 % 4096 + 61440}")
    peers = peers_of_cluster(environment({"JAX_COORDINATOR_PORT": "77", **SLURM}), patience=1)
    assert peers is not None
    assert peers.coordinator == "node003:77"


def test_open_mpi_says_who_the_peers_are(environment):
    peers = peers_of_cluster(environment(OPEN_MPI), patience=1)
    assert peers is not None
    assert (peers.count, peers.index) == (2, 1)
    assert str(peers.coordinator).startswith("10.96.0.1:")


def test_open_mpi_that_jax_does_not_know_is_told_the_flags():
    newer = {name: OPEN_MPI[name] for name in OPEN_MPI if "orte" not in name}
    with pytest.raises(UserError, match=r'--process_id="\$OMPI_COMM_WORLD_RANK"'):
        peers_of_cluster(newer, patience=1)
    assert peers_of_cluster({"OMPI_COMM_WORLD_SIZE": "1"}, patience=1) is None


def test_processes_that_were_not_started_alike_are_refused():
    _check_alike(Peers(2, 0, "a:1"), 2, [0, 0, 1, 1])
    with pytest.raises(UserError, match="Process 1 was told of 3 processes, but 2 are there"):
        _check_alike(Peers(3, 1, "a:1"), 2, [0, 1])
    with pytest.raises(UserError, match="Process 0 has 2 devices and process 1 has 1: give all"):
        _check_alike(Peers(2, 0, "a:1"), 2, [0, 0, 1])


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1"},  # a shell in an allocation for four
        {**SLURM, "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"},
        {name: value for name, value in SLURM.items() if "STEP" not in name},  # without srun
        {**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},  # a notebook in a pod
    ],
)
def test_whoever_was_started_alone_joins_nobody(environment, variables):
    assert peers_of_cluster(environment(variables), patience=1) is None


def test_a_garbled_cluster_is_one_sentence_that_names_the_way_out(environment):
    with pytest.raises(UserError, match=r"looks like a cluster.*--num_processes=1"):
        peers_of_cluster(environment({**SLURM, "SLURM_STEP_NUM_TASKS": "many"}), patience=1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--num_processes=2",), "give the three together"),
        (("--coordinator=a:1", "--num_processes=2"), "give the three together"),
        (("--coordinator=a:1", "--num_processes=2", "--process_id=2"), "number them from 0"),
        (("--coordinator=a", "--num_processes=2", "--process_id=1"), "is not HOST:PORT"),
        (("--coordinator=a:0", "--num_processes=2", "--process_id=1"), "is not HOST:PORT"),
        (("--coordinator=a:65536", "--num_processes=2", "--process_id=1"), "is not HOST:PORT"),
        ((f"--coordinator={'a' * 70}:1", "--num_processes=2", "--process_id=1"), "not HOST:PORT"),
    ],
)
def test_wrong_flags_are_refused(given, says):
    with pytest.raises(UserError, match=says):
        flags.read(["--exp=digits_vp", *given])


@pytest.mark.parametrize("value", ["-1", str(10**7), str(10**30), "9" * 5000, "1.5", "nan", ""])
@pytest.mark.parametrize("flag", ["num_processes", "process_id", "wait_for_peers"])
def test_a_whole_number_has_a_range(flag, value):
    with pytest.raises(UserError, match=rf"(?i)argument --{flag}: '.*' is no whole number in \["):
        flags.read(["--exp=digits_vp", f"--{flag}={value}"])


def test_flags_say_who_the_peers_are():
    three = ("--coordinator=node1:1234", "--num_processes=2", "--process_id=1")
    assert flags.read(["--exp=digits_vp", *three]).peers == Peers(2, 1, "node1:1234")
    assert flags.read(["--exp=digits_vp"]).peers is None
    alone = flags.read(["--exp=digits_vp", "--num_processes=1"]).peers
    assert alone == Peers(1, 0)
    join(alone, patience=1)
    assert processes.count() == 1


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on port {port}.*free port"):
            join(Peers(2, 0, f"localhost:{port}"), patience=1)


@pytest.mark.parametrize("index", [0, 1])
def test_a_peer_that_never_comes_costs_the_patience_and_one_sentence(index, tmp_path):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    done = subprocess.run(
        [
            *(sys.executable, "launch/run.py", "--exp=digits_vp", f"--workdir={tmp_path}/run"),
            *(f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={index}"),
            "--wait_for_peers=2",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (sentence,) = done.stderr.splitlines()
    assert f"process {index} of 2 waited for 2 s at localhost:{port}" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_for_clusters_can_be_read_by_bash(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & 0o111


def test_of_one_process_all_is_its_own():
    assert processes.is_leader()
    assert processes.mine(range(3)) == [0, 1, 2]
    assert processes.by_leader(lambda: {"a": 1}) == {"a": 1}
    vote = processes.Vote()
    assert [vote(False), vote(True)] == [False, True]
    with pytest.raises(UserError, match="mine"):
        processes.together(lambda: (_ for _ in ()).throw(UserError("mine")))
