"""A workdir as a training and its evaluation leave it, made in no time."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ode.configs.documents import Document
from diffusion_ode.evaluation.per_example import PerExampleTable

DIMENSIONS = 64
_NAME = "7-uniform-k1"


def config(peak: float = 1e-3, seed: int = 0, path: str = "VariancePreserving") -> Document:
    def call(name: str, /, **arguments: Any) -> Document:
        return {"call": f"m:{name}", "arguments": arguments}

    rate = call("WarmedUp", peak=peak, warmup_steps=10)
    optimizer = call("AdamW", learning_rate=rate)
    return call(
        "Experiment",
        model=call("Model", path=call(path)),
        train=call("Train", optimizer=optimizer, seed=seed, log_every=seed + 1),
        evaluate=call("Evaluate", name=None),
    )


def finished_run(
    workdir: Path,
    bits: list[float] | None,
    *,
    document: Document | None = None,
    name: str = _NAME,
    data: dict[str, Any] | None = None,
    ode: dict[str, Any] | None = None,
    revision: str = "abcdef0123456789",
    experiment: str = "digits_vp",
    curve: dict[int, float] | None = None,
) -> Path:
    """The workdir.

    Args:
      workdir: to be made, or to be given one more evaluation.
      bits: per dimension of its images, NaN where one did not converge; None: it was not
        evaluated.
      document, name, experiment, revision: of the run and its evaluation.
      data, ode: what differs from `result.json` of test images.
      curve: train/bpd by step.
    """
    document = config() if document is None else document
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(document))
    code = {"version": "1", "revision": revision, "modified": False}
    launch = {"task": "train", "experiment": experiment, "code": code, "outcome": "done"}
    launch |= {"started": "2026-11-28T10:00:00+00:00", "stopped": "2026-11-28T10:01:30+00:00"}
    (workdir / "run.json").write_text(json.dumps({"launches": [launch]}))
    lines = [json.dumps({"step": s, "train/bpd": b}) + "\n" for s, b in (curve or {}).items()]
    (workdir / "metrics.jsonl").write_text("".join(lines))
    if bits is None:
        return workdir
    folder = workdir / "evaluations" / name
    with PerExampleTable(("log_likelihood", "converged"), folder / "per_example.csv") as table:
        for index, value in enumerate(bits):
            nats = -value * DIMENSIONS * np.log(2.0)
            table.append(index, log_likelihood=nats, converged=not np.isnan(value))
    images = {"name": "digits", "fingerprint": "f1", "split": "test", "shape": [8, 8, 1]}
    result = {
        "experiment": experiment,
        "data": {**images, "num_images": len(bits), "split_images": len(bits), **(data or {})},
        "ode": {"bpd": 99.0, "dequantization": "uniform", "num_importance": 1, "nfe_mean": 19.6}
        | (ode or {}),
        "checkpoint": {"step": 7},
        "code": {"trained": code},
        "config": document,
    }
    (folder / "result.json").write_text(json.dumps(result))
    return workdir
