"""The models a training run reads, found before anything else: the policy and the reference of the KL."""

from arpo.models.source import find_model, find_run_model
from arpo.tracking.progress import Progress
from arpo.training.config import RlRun


def find_models(config: RlRun, progress: Progress) -> tuple[RlRun, RlRun]:
    """The run as its records name its models, and with directories of this machine in their place.

    Raises:
        ConfigError, ModelError: as `find_model`.
    """
    recorded, local = find_run_model(config.model, progress)
    named, found = config.loss.kl, config.loss.kl
    if found.reference is not None:
        directory = find_model(
            found.reference, found.reference_revision, label=f"loss.kl.reference = {str(found.reference)!r}",
            revision_key="loss.kl.reference_revision", progress=progress,
        )  # fmt: skip
        if not found.reference.exists():
            named = named.model_copy(update={"reference_revision": directory.name})
        found = found.model_copy(update={"reference": directory, "reference_revision": None})
    losses = (config.loss.model_copy(update={"kl": kl}) for kl in (named, found))
    first, second = (
        config.model_copy(update={"model": model, "loss": loss}) for model, loss in zip((recorded, local), losses, strict=True)
    )
    return first, second
