"""Which Python files are the user's own. What came with a model or a data set is never run."""

import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from arpo.errors import ConfigError

_WEIGHTS = ("*.safetensors", "*.gguf", "*model*.bin", "*.pt", "*.pth", "*.ckpt", "*.onnx", "*model*.h5", "*model*.msgpack")
_MODEL_MARKS = ("adapter_config.json", "model_index.json", "*.safetensors.index.json", "tokenizer_config.json")
_DATA_MARKS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json")
_CACHE_VARIABLES = (
    "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_ASSETS_CACHE", "TRANSFORMERS_CACHE",
)  # fmt: skip
_CACHED = re.compile(r"(models|datasets|spaces)--.+")
_HUB_REMOTE = re.compile(r"url\s*=\s*\S*\b(huggingface\.co|hf\.co|hf-mirror\.com|modelscope\.cn)\b")
_HUB_ATTRIBUTES = re.compile(r"^\*\.(ftz|mlmodel|arrow) filter=lfs", re.MULTILINE)
"""Lines of the .gitattributes that the hub gives every repository."""
_CARD = re.compile(
    r"\A---\n(?:(?!---).*\n)*?(?:base_model|dataset_info|library_name|pipeline_tag|size_categories|task_categories|configs):"
)


def require_own(file: Path, label: str) -> None:
    """Raise where a file came with a model or a data set, by its path as written or with its links followed.

    Raises:
        ConfigError: it lies in a cache of the hub, in a snapshot or clone of a hub's repository, in a model directory, beside
            weights, or in a data set.
    """
    for path in dict.fromkeys((Path(os.path.abspath(file)), file.resolve())):
        reason = foreign_reason(path)
        if reason is not None:
            raise ConfigError(
                f"{label}: {path} {reason}; code that comes with a model or a data set is never run: read it, and copy what "
                f"you need to a file in a folder of your own"
            )


def foreign_reason(path: Path) -> str | None:
    """Why a file is not the user's own; None: it is.

    Args:
        path: Absolute.
    """
    for cache in _caches():
        if cache in path.parents:
            return f"lies in a cache of downloads ({cache})"
    if any(_CACHED.fullmatch(part) for part in path.parts[:-1]) and {"snapshots", "blobs"} & {*path.parts}:
        return "lies in a copy of the hub's cache"
    for folder in _beside(path):
        if found := _find(folder, _WEIGHTS):
            return f"lies beside weights ({folder / found})"
        if found := _find(folder, ("*.arrow",)):
            return f"lies in a data set ({folder / found})"
    for folder in path.parents:
        reason = _mark_of_download(folder, path)
        if reason is not None:
            return reason
    return None


def _beside(path: Path) -> Iterator[Path]:
    """A file's folder, and of a package's file the folders up to the one that holds the package."""
    folder = path.parent
    yield folder
    while os.path.isfile(folder / "__init__.py") and folder != folder.parent:
        folder = folder.parent
        yield folder


def _mark_of_download(folder: Path, path: Path) -> str | None:
    """What makes a folder above a file a download."""
    if os.path.isfile(folder / ".cache" / "huggingface" / "download" / f"{path.relative_to(folder)}.metadata"):
        return f"was downloaded from the hub ({folder})"
    if _HUB_REMOTE.search(_text(folder / ".git" / "config")):
        return f"lies in a clone of a hub's repository ({folder})"
    if _HUB_ATTRIBUTES.search(_text(folder / ".gitattributes")):
        return f"lies in a snapshot of a hub's repository ({folder})"
    if _CARD.match(_text(folder / "README.md").replace("\r\n", "\n")):
        return f"lies in a folder with a model's or data set's card ({folder / 'README.md'})"
    if re.search(r'"(model_type|architectures)"\s*:', _text(folder / "config.json")):
        return f"lies in a model directory ({folder})"
    if _find(folder, _MODEL_MARKS):
        return f"lies in a model directory ({folder})"
    if _find(folder, _DATA_MARKS):
        return f"lies in a data set ({folder})"
    return None


def _find(folder: Path, patterns: Iterable[str]) -> str | None:
    """A name in a folder that fits one of the patterns; None: there is none, or the folder cannot be read."""
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    return next((name for name in names for pattern in patterns if fnmatch(name, pattern)), None)


def _caches() -> Iterator[Path]:
    """The folders into which programs download models, data sets and their code."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    homes = {"HF_HOME": cache / "huggingface", "TORCH_HOME": cache / "torch", "MODELSCOPE_CACHE": cache / "modelscope"}
    folders = [Path(os.environ[name]) for name in _CACHE_VARIABLES if os.environ.get(name)]
    for name, default in homes.items():
        home = Path(os.environ.get(name) or default)
        folders += [home / part for part in ("hub", "datasets", "modules", "assets", "xet", "models")]
    for folder in folders:
        absolute = Path(os.path.abspath(folder.expanduser()))
        yield absolute
        yield absolute.resolve()


def _text(path: Path) -> str:
    """The beginning of a text file; empty where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(100_000)
    except OSError:
        return ""
