"""Which layer costs Resemblyzer its accuracy when all are int8: found with dynq.accuracy and labelled clips.

    python bench/speech/culprits.py --size 40         # 40 clips of each voice; fetches model and recordings first
    python bench/speech/culprits.py --save FOLDER     # writes speaker.onnx and speaker.npz for `dynq analyze` instead

Needs onnx, torch and scipy; apt-get and dpkg for the recordings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import speaker
from rich.console import Console

import dynq
from dynq.accuracy import find_culprits

SAVED = 2  # clips of each voice


def save(folder: Path) -> None:
    """The model, and the mels of a few clips as its input."""
    folder.mkdir(parents=True, exist_ok=True)
    speaker.write_onnx(folder / "speaker.onnx")
    mels = [pieces for voice in speaker.data(SAVED) for pieces in voice]
    np.savez(folder / "speaker.npz", mels=np.concatenate(mels))
    print(f"{folder}/speaker.onnx and {folder}/speaker.npz are written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=speaker.CLIPS, help="clips of each voice")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write the model and samples, and be done")
    arguments = parser.parse_args()
    dynq.set_num_threads(1)
    if arguments.save:
        save(arguments.save)
        return
    voices = speaker.data(arguments.size)
    enrolled = min(speaker.ENROLLED, arguments.size // 2)

    def minus_equal_error_rate(model: dynq.Model) -> float:
        return -speaker.score(model, voices, enrolled)["EER"]

    graph = speaker.graph(speaker.weights_of())
    samples = {"mels": voices[0][0]}
    Console().print(find_culprits(graph, samples, metric=minus_equal_error_rate, default="int8", options="float"))


if __name__ == "__main__":
    main()
