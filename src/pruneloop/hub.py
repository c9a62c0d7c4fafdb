"""The hub: uploading a checkpoint, and what can be told wrong before hours are spent."""

import os
from pathlib import Path

from huggingface_hub import HfApi, ModelCard
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from pruneloop.errors import ConfigError, EnvironmentFault, reason


def check_upload(repository: str) -> None:
    """Make sure that a repository's name and a token are there.

    Raises:
        ConfigError: the name is not one that the hub takes, or has no owner.
        EnvironmentFault: there is no token in the environment, or it says to stay offline.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(
            f"push_to_hub={repository}: must be OWNER/NAME as the hub takes it ({reason(error)})"
        ) from error
    if repository.count("/") != 1:
        raise ConfigError(f"push_to_hub={repository}: must be OWNER/NAME")
    if not os.environ.get("HF_TOKEN"):
        raise EnvironmentFault(
            f"push_to_hub={repository}: no token; set HF_TOKEN to one that may write"
        )
    if HF_HUB_OFFLINE:
        raise EnvironmentFault(f"push_to_hub={repository}: HF_HUB_OFFLINE is set; unset it")


def licence_of(model: str) -> str | None:
    """Return the one licence that a model's card states, in its folder or on the hub, or None."""
    try:
        folder = Path(model).expanduser()
        card = ModelCard.load(folder / "README.md" if folder.is_dir() else model)
    except Exception:  # no card, no network, or one that is no YAML: the run does not depend on it
        return None
    found = card.data.get("license")
    return found if isinstance(found, str) else None


def push(checkpoint: Path, repository: str, message: str) -> str:
    """Upload a checkpoint's folder, to a new private repository or an old one; return where.

    Raises:
        EnvironmentFault: the hub cannot be reached, or refuses it.
    """
    api = HfApi(token=os.environ["HF_TOKEN"])
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=checkpoint, commit_message=message)
    # Whatever it is, the checkpoint is safe, and that must be said.
    except Exception as error:
        raise EnvironmentFault(
            f"push_to_hub={repository}: {reason(error)}; the checkpoint is in {checkpoint}, "
            "and the same command again tries only the upload"
        ) from error
    return str(address)
