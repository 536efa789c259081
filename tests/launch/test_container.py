"""The container's file, as far as it can be tried without a container: what it copies and runs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from launch import flags

ROOT = Path(__file__).resolve().parents[2]
INSTRUCTIONS = [
    line.partition(" ")[::2]
    for line in re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
    if line and not line.startswith("#")
]


def given(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def test_what_is_copied_is_there_and_not_ignored():
    kept = (ROOT / ".dockerignore").read_text().split()
    for copied in given("COPY"):
        source = copied.split()[0]
        assert (ROOT / source).exists()
        assert f"!{source}" in kept or f"!{source}/**" in kept


@pytest.mark.parametrize(("accelerator", "more"), [("", []), ("cuda12", ["jax[cuda12]==VERSION"])])
def test_the_accelerator_is_of_the_pinned_jax(accelerator, more):
    (command,) = (run for run in given("RUN") if run.startswith("pip"))
    words = subprocess.run(
        ["sh", "-euc", f"pip() {{ printf '%s\\n' \"$@\"; }}; {command}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ACCELERATOR": accelerator},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    version = re.search(r"^jax==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M)[1]
    install = ["install", "--no-cache-dir", "--requirement", "requirements.txt"]
    assert words == [*install, *(word.replace("VERSION", version) for word in more)]


def test_kubernetes_gives_the_image_s_command_arguments_that_it_takes():
    (entry,) = given("ENTRYPOINT")
    assert entry == '["python", "launch/run.py"]'
    pod = (ROOT / "launch/clusters/kubernetes.yaml").read_text()
    assert "image: REGISTRY/diffusion-ode" in pod and "command:" not in pod
    typed = re.findall(r"^ +- (--\S+)", pod, re.M)
    asked = flags.read([word.replace("$(JOB_COMPLETION_INDEX)", "1") for word in typed])
    assert (asked.experiment, asked.peers.count, asked.peers.index) == ("cifar10_vp", 2, 1)
