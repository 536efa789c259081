#!/usr/bin/env bash
# An experiment on several nodes with GPUs, under SLURM. From the repository's root:
#
#   sbatch --nodes=4 launch/clusters/slurm.sh --exp=cifar10_vp --workdir=/shared/runs/cifar10_vp
#
# The same command again resumes. The workdir and the data must lie where all nodes see them.

#SBATCH --job-name=diffusion_ode
#SBATCH --nodes=2
# One process for each GPU: JAX gives a process the GPU whose number is its own on the node, so the
# node's GPUs are asked for as a whole (--gpus-per-task would hide the others and renumber them).
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=6
#SBATCH --time=24:00:00
# Ten minutes before the time is up every process gets SIGTERM: all save at the same step and end
# with status 75. A job that is preempted gets it too.
#SBATCH --signal=TERM@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.txt

set -uo pipefail
INTERRUPTED=75

cd "${SLURM_SUBMIT_DIR:?submit this with sbatch}"
source "${DIFFUSION_ODE_ENVIRONMENT:-.venv}/bin/activate"

# No addresses are needed: JAX reads SLURM's variables. Not --kill-on-bad-exit=1: it would kill the
# first process, which leaves seconds after the others, and with it the status 75 that all ended
# with. Instead those that outlive the first one to end by more than a minute are killed; srun's
# status is the highest of all, so that only a run of which every process saved is queued again.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=60 \
    python launch/run.py --wait_for_peers=600 "$@"
status=$?

if [[ $status -eq $INTERRUPTED ]]; then
    scontrol requeue "$SLURM_JOB_ID" # go on where it was saved
fi
exit $status
