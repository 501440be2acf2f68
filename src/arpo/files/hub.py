"""Data sets of the Hugging Face hub, fetched into its cache."""

import os
from pathlib import Path

from arpo.errors import DataError
from arpo.files.rows import FORMATS, shorten


def fetch_dataset(name: Path) -> Path:
    """Fetch the data files that `hf://datasets/OWNER/NAME[@REVISION][/PATH]` names; return their folder.

    Files in the cache of `huggingface_hub` are not fetched again. Its environment variables hold: HF_HOME, HF_ENDPOINT,
    HF_TOKEN, HF_HUB_OFFLINE.

    Raises:
        DataError: the name is incomplete, or the data set is neither reachable nor in the cache.
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
    except Exception as error:  # errors of the hub, its HTTP client and the file system have no common base
        raise DataError(
            f"{_spell(name)}: cannot be fetched ({type(error).__name__}: {shorten(error)}); check {', '.join(suspects())}, "
            f"or fetch it elsewhere (`hf download {owner}/{repository} --repo-type dataset --local-dir FOLDER`) and name "
            f"the folder"
        ) from error
    return Path(folder) / path


def suspects() -> list[str]:
    """What may be wrong when nothing can be fetched, the variables of proxies and certificates that are set among it."""
    variables = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
    return ["the name", "the network", *(name for name in os.environ if name.upper() in variables)]


def _spell(name: Path) -> str:
    """The name as written; a Path has lost one of its two slashes."""
    return "hf://" + "/".join(name.parts[1:])
