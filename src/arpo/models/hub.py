"""Models of the Hugging Face hub, fetched into its cache: configuration, safetensors, tokenizer, template, licence and card."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from arpo.errors import ModelError
from arpo.files.hub import suspects
from arpo.files.rows import shorten
from arpo.models.directory import ACCOMPANYING_FILES, CONFIG_FILES, TOKENIZER_FILES
from arpo.models.shards import INDEX_FILE, SINGLE_FILE
from arpo.tracking.progress import Phase, Progress

_WEIGHTS = (SINGLE_FILE, INDEX_FILE, "model-*-of-*.safetensors")
_TEXTS = (*CONFIG_FILES, *TOKENIZER_FILES, "additional_chat_templates/*", *ACCOMPANYING_FILES)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MB = 1_000_000


def is_hub_name(name: Path) -> bool:
    """Whether a text may be OWNER/NAME of the hub."""
    return bool(_NAME.fullmatch(str(name)))


def fetch_model(name: str, revision: str | None, label: str, progress: Progress, *, needs_weights: bool = True) -> Path:
    """The snapshot of a model in the hub's cache, fetched where it is not there yet; its folder is named by its commit.

    Only what arpo reads is fetched, no pickles and no code. A commit that is in the cache needs no network; a branch or tag is
    asked for first, and taken from the cache when the hub cannot be reached. The variables of `huggingface_hub` hold: HF_HOME,
    HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.

    Args:
        name: OWNER/NAME.
        revision: Branch, tag or commit; None: `main`.
        label: What messages call the model.
        progress: Shows the bytes.
        needs_weights: False: everything but the weights.

    Raises:
        ModelError: the hub has no such model or revision, does not give it, or cannot be reached and the cache lacks it.
    """
    import httpx2
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub import errors as hub

    patterns = [*_TEXTS, *(_WEIGHTS if needs_weights else ())]
    where = f"{name} at {revision}" if revision else name
    cached: dict[str, Any] = {"revision": revision, "allow_patterns": patterns, "local_files_only": True}
    try:
        if revision is not None and _COMMIT.fullmatch(revision):
            with suppress(hub.LocalEntryNotFoundError, hub.IncompleteSnapshotError):
                return Path(snapshot_download(name, **cached))
        try:
            HfApi().model_info(name, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        except (httpx2.TransportError, hub.OfflineModeIsEnabled) as error:
            try:
                return Path(snapshot_download(name, **cached))
            except (hub.LocalEntryNotFoundError, hub.IncompleteSnapshotError) as absent:
                raise ModelError(_unreachable(label, where, error, absent)) from error
        return _download(name, revision, patterns, progress)
    except hub.GatedRepoError as error:
        raise ModelError(
            f"{label}: the hub gives {where} only to those who accepted its terms; accept them on its page and set HF_TOKEN"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise ModelError(
            f"{label}: the hub's {name} has no revision {revision!r}; name a branch, tag or commit of it, or "
            f"leave the revision out"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise ModelError(
            f"{label}: no such directory or file here, and no model {name!r} on the hub (or it is private: set HF_TOKEN); "
            f"name a model directory, a .gguf file or OWNER/NAME of the hub"
        ) from error
    except ModelError:
        raise
    except Exception as error:  # errors of the hub, its HTTP client and the file system have no common base
        raise ModelError(
            f"{label}: {where} cannot be fetched from the hub ({type(error).__name__}: {shorten(error)}); check "
            f"{', '.join(suspects())}, and run it again: what is fetched stays"
        ) from error


def _unreachable(label: str, where: str, error: Exception, absent: Exception) -> str:
    from huggingface_hub import constants, errors

    part = "only a part of it" if isinstance(absent, errors.IncompleteSnapshotError) else "no copy"
    why = (
        "the hub's offline mode is on (HF_HUB_OFFLINE)"
        if isinstance(error, errors.OfflineModeIsEnabled)
        else f"the hub cannot be reached ({type(error).__name__}: {shorten(error)})"
    )
    return (
        f"{label}: no such directory or file here; as a model of the hub, {where}: {why}, and its cache "
        f"({constants.HF_HUB_CACHE}) has {part}; correct the path, check {', '.join(suspects())}, or fetch it elsewhere "
        f"(`arpo model get {where.split()[0]} --out DIR`) and name that directory"
    )


def _download(name: str, revision: str | None, patterns: list[str], progress: Progress) -> Path:
    """Fetch what the cache lacks, with the bytes as progress."""
    from huggingface_hub import snapshot_download

    request: dict[str, Any] = {"revision": revision, "allow_patterns": patterns}
    files: Any = snapshot_download(name, **request, dry_run=True)
    lacking = sum(file.file_size for file in files if file.will_download)
    if not lacking:
        return Path(snapshot_download(name, **request))
    with progress.phase(f"fetch {name}", total=max(1, lacking // _MB), unit="MB") as phase:
        return Path(snapshot_download(name, **request, tqdm_class=_bars(phase)))


def _bars(phase: Phase) -> Any:
    """A tqdm class for the hub's bars that draws nothing and reports written bytes to the phase."""
    from tqdm.auto import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self.counts = options.get("unit") == "B" and str(options.get("desc")).startswith("Reconstruct")
            self.num_bytes = 0
            options.pop("name", None)
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            before, self.num_bytes = self.num_bytes, self.num_bytes + int(n or 0)
            if self.counts and (megabytes := self.num_bytes // _MB - before // _MB):
                phase.advance(megabytes)
            return None

    return Bar
