"""A Hugging Face model directory: which files it has, and whether it is complete, found out without loading weights."""

import json
from pathlib import Path
from typing import Any, cast

from arpo.errors import ModelError
from arpo.files.lfs import is_lfs_pointer
from arpo.models.shards import INDEX_FILE, SINGLE_FILE, stored_tensors

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja", "chat_template.json", "additional_chat_templates",
)  # fmt: skip
"""Tokenizer files of a model directory; arpo requires `tokenizer.json`."""
ACCOMPANYING_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*", "README*", "METADATA")
"""Patterns of the files that go with every directory made from a model: licence, notices, model card."""
CONFIG_FILES = ("config.json", "generation_config.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_ADAPTER_CONFIG = "adapter_config.json"
_LOCAL_KEYS = ("_name_or_path", "_model_name_or_path", "name_or_path", "is_local", "local_files_only")
"""Keys of JSON files that say where a model lay on the machine that wrote it."""


def check_directory(directory: Path, name: str | None = None, *, needs_weights: bool = True) -> None:
    """Check that a directory holds a complete model: configuration, tokenizer and weights, none of them cut off.

    Args:
        directory: A Hugging Face model directory.
        name: What messages call it, e.g. `model.path = 'x'`; None: the directory.
        needs_weights: False: for its tokenizer alone.

    Raises:
        ModelError: a part is missing, a Git LFS pointer, cut off or pickled; the folder is an adapter; or its configuration
            needs code of its own.
    """
    name = name or str(directory)
    if not directory.is_dir():
        raise ModelError(f"{name}: no such directory; it must be a Hugging Face model directory on this machine")
    if (directory / _ADAPTER_CONFIG).is_file():
        raise ModelError(_adapter_refusal(directory, name))
    for file in sorted(directory.glob("*")):
        if file.suffix in (".json", ".jinja", ".model", ".txt") and is_lfs_pointer(file):
            raise ModelError(
                f"{name}: {file.name} is a Git LFS pointer, not the file it stands for; run `git lfs pull` in {directory}, or "
                f"fetch the model with `arpo model get`"
            )
    if needs_weights:
        _check_model(directory, name)
    if not (directory / "tokenizer.json").is_file():
        raise ModelError(
            f"{name}: no tokenizer (tokenizer.json) in {directory}; {_model_below(directory)}arpo needs a fast tokenizer "
            f"(AutoTokenizer.from_pretrained(...).save_pretrained(directory) writes one)"
        )


def _check_model(directory: Path, name: str) -> None:
    if not (directory / "config.json").is_file():
        raise ModelError(f"{name}: no configuration (config.json) in {directory}; {_model_below(directory)}{_WHAT_IS_NEEDED}")
    config = read_config(directory)
    if "auto_map" in config and not _is_known(str(config.get("model_type"))):
        raise ModelError(
            f"{name}: its architecture {config.get('model_type')!r} needs code of its own (auto_map in config.json), which "
            f"arpo never runs; name a model whose architecture transformers has, or a converted copy of this one"
        )
    if not any((directory / file).is_file() for file in (SINGLE_FILE, INDEX_FILE)):
        pickles = sorted(file.name for pattern in _PICKLES for file in directory.glob(pattern))
        if pickles:
            raise ModelError(
                f"{name}: its weights are pickled ({pickles[0]}), and arpo loads no pickles; convert them where you trust "
                f"them: AutoModelForCausalLM.from_pretrained({str(directory)!r}).save_pretrained(NEW), and copy the tokenizer"
            )
        others = sorted(file.name for file in directory.glob("*.safetensors"))
        found = f"; it holds {others[0]}, a name that transformers does not read" if others else ""
        raise ModelError(f"{name}: no weights (*.safetensors) in {directory}{found}; {_WHAT_IS_NEEDED}")
    try:
        stored_tensors(directory)
    except ModelError as error:
        raise ModelError(f"{name}: {str(error).removeprefix(f'{directory}: ').removeprefix(f'{directory}/')}") from error


_WHAT_IS_NEEDED = f"a model directory holds config.json, {SINGLE_FILE} (or several and their index) and tokenizer.json"


def _model_below(directory: Path) -> str:
    """A hint where the folder is a run or a checkpoint of one, else nothing."""
    below = (directory / name for name in ("best", "final", "model") if (directory / name / "config.json").is_file())
    found = next(below, None)
    return "" if found is None else f"did you mean {found}? "


def _adapter_refusal(directory: Path, name: str) -> str:
    base = read_config(directory, _ADAPTER_CONFIG).get("base_model_name_or_path")
    has_model = any((directory / file).is_file() for file in (SINGLE_FILE, INDEX_FILE))
    if has_model:
        return (
            f"{name}: holds a model and an adapter ({_ADAPTER_CONFIG}), and it is open which of them is meant; move the "
            f"adapter's files to a folder of their own"
        )
    return (
        f"{name}: an adapter alone ({_ADAPTER_CONFIG}), without the weights it adapts; merge it into its base first, "
        f"`arpo export {directory} --base {base or 'BASE'} --out NEW`, and name NEW"
    )


def _is_known(model_type: str) -> bool:
    """Whether transformers has the architecture itself."""
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def read_config(directory: Path, file: str = "config.json") -> dict[str, Any]:
    """The object in a JSON file of a directory; empty when there is no such file.

    Raises:
        ModelError: the file holds no JSON object.
    """
    path = directory / file
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON ({error}); fetch or write the model again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds no JSON object; fetch or write the model again")
    return cast(dict[str, Any], content)


def accompanying_files(directory: Path) -> list[Path]:
    """Licence texts, notices and model card of a directory, by name."""
    found = {file for pattern in ACCOMPANYING_FILES for file in directory.glob(pattern) if file.is_file()}
    return sorted(found)


def forget_origin(directory: Path) -> None:
    """Remove what names folders of this machine from the configuration files of a new directory."""
    for name in (*CONFIG_FILES, "tokenizer_config.json"):
        config = read_config(directory, name)
        kept = {key: value for key, value in config.items() if key not in _LOCAL_KEYS}
        if kept != config:
            (directory / name).write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
