"""GGUF files, the format of llama.cpp: what one holds, and its model as an ordinary directory; needs the extra `gguf`."""

import hashlib
import re
import shutil
from collections import Counter
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, cast

import torch

from arpo.errors import ConfigError, ModelError
from arpo.files.lfs import is_lfs_pointer
from arpo.models.directory import accompanying_files, forget_origin
from arpo.models.shards import MAX_SHARD_BYTES

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_PACKAGES = ("gguf", "accelerate")
"""Of the extra `gguf`: transformers reads GGUF files through accelerate."""
_CARD = "README.md"
SOURCE_CARD = "README.source.md"
"""Name under which a file's own model card goes along, as `README.md` is ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """What the header of a GGUF file says."""

    path: Path
    name: str
    """The file's name without its quantisation: `SmolLM2-135M-Instruct` of `SmolLM2-135M-Instruct.Q4_1.gguf`."""
    quantisation: str
    """The type of most of its values, as llama.cpp names it: `Q4_1`, `F16`."""
    tensor_types: dict[str, int]
    """Type -> number of tensors."""
    licence: str
    """`general.license`; empty where it names none."""
    sha256: str
    """Of the whole file."""

    @property
    def title(self) -> str:
        """The name of a model made from it: `SmolLM2-135M-Instruct, dequantised from Q4_1`."""
        return f"{self.name}, dequantised from {self.quantisation}"


def is_gguf(path: Path) -> bool:
    """Whether a path is a file in the format, or named like one."""
    if not path.is_file():
        return False
    if path.suffix == SUFFIX:
        return True
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def read_gguf(path: Path, label: str) -> GgufFile:
    """The header of a file, and its digest.

    Args:
        path: The file.
        label: What messages call it.

    Raises:
        ConfigError: the package is not installed.
        ModelError: the file is a Git LFS pointer, no GGUF file, cut off, or one part of several.
    """
    if is_lfs_pointer(path):
        raise ModelError(f"{label}: a Git LFS pointer, not the file it stands for; run `git lfs pull` in {path.parent}")
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{label}: to read a GGUF file, the package {missing[0]!r} is missing: pip install 'arpo[gguf]', or name a Hugging "
            f"Face model directory"
        )
    from gguf import GGUFReader

    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise ModelError(f"{label}: {path.name} is no GGUF file (it does not begin with {_MAGIC.decode()}); fetch it again")
    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items() if name.startswith(("general.", "split."))}
        types = [(tensor.tensor_type.name, int(tensor.n_elements)) for tensor in reader.tensors]
    except Exception as error:  # the reader maps the file and trusts it
        raise ModelError(f"{label}: {path.name} is cut off or damaged ({type(error).__name__}); fetch it again") from error
    if int(cast(Any, fields.get("split.count", 1))) > 1:
        raise ModelError(
            f"{label}: {path.name} is one of {fields['split.count']} parts; join them with `llama-gguf-split --merge` and name "
            f"the result"
        )
    values: Counter[str] = Counter()
    for kind, count in types:
        values[kind] += count
    quantisation = values.most_common(1)[0][0] if values else "no tensors"
    return GgufFile(
        path=path, name=_name(path, quantisation), quantisation=quantisation, licence=str(fields.get("general.license", "")),
        tensor_types=dict(Counter(kind for kind, _ in types).most_common()), sha256=_digest(path),
    )  # fmt: skip


def _name(path: Path, quantisation: str) -> str:
    """The stem without the quantisation at its end, in either spelling: `Model.Q4_K_M`, `Model-q8_0`."""
    family = re.escape(quantisation.split("_")[0])
    return re.sub(rf"[.\-_](i1-)?{family}(_[A-Za-z0-9]+)*$", "", path.stem, flags=re.IGNORECASE) or path.stem


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def convert_gguf(file: GgufFile, directory: Path, label: str, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write the model of a file as a Hugging Face directory: weights, configuration, tokenizer and chat template.

    transformers reads the file and dequantises in float32, so that every value is exactly the file's. Licence and model card
    found with the file go along; `README.md` says what the directory was made from.

    Args:
        file: Read by `read_gguf`.
        directory: To make.
        label: What messages call the file.
        max_shard_bytes: Size above which the weights are written in several files.

    Raises:
        ModelError: transformers cannot read this architecture or its tokenizer, or the file lacks a weight.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = file.path.parent, file.path.name
    options: dict[str, Any] = {"gguf_file": name, "local_files_only": True, "trust_remote_code": False}
    try:
        with redirect_stderr(StringIO()):  # transformers draws bars here that no setting of its own disables
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            loader = cast(Any, AutoModelForCausalLM)
            model, report = loader.from_pretrained(folder, **options, dtype=torch.float32, output_loading_info=True)
    except Exception as error:  # transformers reads a file without checks
        reason = str(error).strip().split("\n", 1)[0]
        raise ModelError(
            f"{label}: transformers cannot read {name} ({type(error).__name__}: {reason}); name the model's Hugging Face "
            f"directory instead"
        ) from error
    if report["missing_keys"]:
        raise ModelError(
            f"{label}: {name} lacks {len(report['missing_keys'])} tensors of {type(model).__name__}, "
            f"{min(report['missing_keys'])!r} first; they would be random, so use a complete file"
        )
    model.hf_quantizer = None  # the weights are ordinary numbers by now, which transformers refuses to save as they were read
    del model.config.quantization_config
    directory.mkdir(parents=True)
    model.save_pretrained(directory, max_shard_size=max_shard_bytes)
    tokenizer.save_pretrained(directory)
    forget_origin(directory)
    for text in texts_beside(file.path):
        shutil.copyfile(text, directory / (SOURCE_CARD if text.name == _CARD else text.name))
    (directory / _CARD).write_text(_card(file), encoding="utf-8")


def texts_beside(path: Path) -> list[Path]:
    """Licence texts and model card of a file: those in its folder, else those of the Python package it was installed with."""
    if texts := accompanying_files(path.parent):
        return texts
    for record in path.parent.parent.glob("*.dist-info/RECORD"):
        if f"{path.parent.name}/{path.name}," in record.read_text(encoding="utf-8", errors="replace"):
            folder = record.parent
            return [*accompanying_files(folder), *accompanying_files(folder / "licenses")]
    return []


def _card(file: GgufFile) -> str:
    tensors = ", ".join(f"{count} {kind}" for kind, count in file.tensor_types.items())
    licence = f"\n- Licence that the file names: {file.licence}" if file.licence else ""
    return f"""# {file.title}

Made by `arpo model get` or by naming the file as `model.path`. Figures measured with this directory are those of
{file.title}, not of the original weights.

- File: `{file.path.name}`
- sha256: `{file.sha256}`
- Tensors: {tensors}; each was dequantised in float32{licence}

Licence texts and the card of the file, where it came with any, lie beside this page.
"""
