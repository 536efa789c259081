"""Does this program reproduce a recording of the authors' own, draw for draw?

    python -m tests.reference_parity RECORDING.npz [--checkpoint CKPT.flax]

prints one line for each group of the recording with the worst error found in it, its bound, the
number of cases, and the cases that are missing beside them. It exits with 0 if all hold, with 1 if
any is over, and with 2 if the recording or the checkpoint is not what it should be. Everything is
computed by the pieces of the program itself, with every published quirk switched on;
`published_arithmetic` says where the last bit had to be imitated.
"""

import argparse
import sys
from pathlib import Path

from tests.parity.recording import MalformedRecording, read_checkpoint, read_recording
from tests.parity.replay import replay


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reference_parity", description=__doc__)
    parser.add_argument("recording", type=Path, metavar="RECORDING.npz")
    parser.add_argument("--checkpoint", type=Path, metavar="CKPT.flax")
    chosen = parser.parse_args(arguments)
    try:
        recording = read_recording(chosen.recording)
        ema = read_checkpoint(chosen.checkpoint) if chosen.checkpoint else None
        findings = list(replay(recording, ema))
    except MalformedRecording as problem:
        print(problem, file=sys.stderr)
        return 2
    for finding in findings:
        print(finding)
    return 0 if all(finding.holds for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
