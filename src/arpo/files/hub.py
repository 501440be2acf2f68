"""Data sets of the Hugging Face hub, fetched into its cache."""

from pathlib import Path

from arpo.errors import DataError
from arpo.files.rows import FORMATS, shorten


def fetch_dataset(name: Path) -> Path:
    """Fetch the data files that `hf://datasets/OWNER/NAME[@REVISION][/PATH]` names, and return where they lie.

    What the cache of `huggingface_hub` holds is not fetched again. Its environment variables count: HF_HOME, HF_ENDPOINT,
    HF_TOKEN, HF_HUB_OFFLINE.

    Raises:
        DataError: the name is incomplete, or the data set can neither be reached nor is it in the cache.
    """
    from huggingface_hub import snapshot_download

    _, _, *parts = name.parts
    if len(parts) < 2:
        raise DataError(f"{_spell(name)}: names no data set; write hf://datasets/OWNER/NAME[@REVISION][/PATH]")
    owner, (repository, _, revision), path = parts[0], parts[1].partition("@"), "/".join(parts[2:])
    patterns = [f"{path}*"] if path else [f"*{suffix}" for suffix in FORMATS]
    try:
        folder = snapshot_download(
            f"{owner}/{repository}", repo_type="dataset", revision=revision or None, allow_patterns=patterns
        )
    except Exception as error:  # the hub's, its HTTP client's and the file system's errors, which have no common base
        raise DataError(
            f"{_spell(name)}: cannot be fetched ({type(error).__name__}: {shorten(error)}); check the name and the network, or "
            f"fetch it where there is one (`hf download {owner}/{repository} --repo-type dataset --local-dir FOLDER`) and give "
            f"the folder"
        ) from error
    return Path(folder) / path


def _spell(name: Path) -> str:
    """The name as it was written: a path holds no two slashes in a row."""
    return "hf://" + "/".join(name.parts[1:])
