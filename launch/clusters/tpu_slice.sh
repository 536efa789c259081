#!/usr/bin/env bash
# An experiment on a TPU slice of Google Cloud, from a machine with gcloud, in the repository's root:
#
#   gcloud compute tpus tpu-vm create my-slice --zone=us-west4-a \
#       --accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite
#   ZONE=us-west4-a launch/clusters/tpu_slice.sh my-slice --exp=cifar10_vp \
#       --workdir=/mnt/shared/runs/cifar10_vp --data_dir=/mnt/shared/data
#
# The same command again resumes. /mnt/shared stands for a file system that all hosts of the slice
# have mounted (Filestore by NFS): checkpoints are written by all of them, into one folder.

set -euo pipefail

slice=${1:?name the slice first, then the flags of launch/run.py}
shift
: "${ZONE:?set ZONE to the zone of the slice}"

on_all_hosts() {
    gcloud compute tpus tpu-vm ssh "$slice" --zone="$ZONE" --worker=all --command="$1"
}

# What is committed, to every host of the slice.
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$slice:diffusion_ode.tar.gz" --zone="$ZONE" --worker=all
# Python 3.11, which the hosts' image may lack, comes with uv.
on_all_hosts '
    set -e
    mkdir -p diffusion_ode && tar -xzf diffusion_ode.tar.gz -C diffusion_ode && cd diffusion_ode
    python3 -m pip install --quiet --user uv && uv=~/.local/bin/uv
    $uv venv --quiet --allow-existing --python 3.11
    $uv pip install --quiet -r requirements.txt "jax[tpu]==0.10.2"'

# One process on each host. No addresses are needed: JAX asks the slice for them. A host whose
# maintenance is near gets SIGTERM; then all save at the same step and end with status 75.
flags=$([[ $# -eq 0 ]] || printf ' %q' "$@")
on_all_hosts "cd diffusion_ode && exec .venv/bin/python launch/run.py --wait_for_peers=600$flags"
