"""Codec files from the model hub: the cache first, then the network, and a clear word when neither has them."""

from __future__ import annotations

from pathlib import Path

from vivavoce.base.errors import CodecError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def fetch(hub_id: str) -> Path:
    """The local folder of a codec on the hub, downloaded if it is not in the cache yet.

    Raises:
        CodecError: A file does not exist or cannot be had; says which, from where, and how to go on offline.
    """
    found = cached_folder(hub_id)
    if found is not None:
        return found
    config = _fetch_file(hub_id, "config.json", None)
    if config is None:
        raise CodecError(f"{hub_id} has no config.json on the hub, so it is no codec this package can load.")
    commit = config.parent.name
    if not any(_fetch_file(hub_id, name, commit) for name in WEIGHT_FILES):
        raise CodecError(f"{hub_id} has neither {' nor '.join(WEIGHT_FILES)} on the hub.")
    return config.parent


def cached_folder(hub_id: str) -> Path | None:
    """The folder in the hub's cache if it has config and weights; asks no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = [try_to_load_from_cache(hub_id, name) for name in ("config.json", *WEIGHT_FILES)]
    except HFValidationError as error:
        raise CodecError(f"{hub_id!r} is no hub id: {error}") from error
    here = [Path(path) if isinstance(path, str) else None for path in cached]
    return here[0].parent if here[0] and any(here[1:]) else None


def _fetch_file(hub_id: str, name: str, commit: str | None) -> Path | None:
    """Download one file; None if the repository has no such file."""
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

    try:
        # a download retries for half a minute where there is no network; this question does not
        get_hf_file_metadata(hf_hub_url(hub_id, name, revision=commit), timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return Path(hf_hub_download(hub_id, name, revision=commit))
    except errors.RepositoryNotFoundError as error:
        raise CodecError(
            f"{constants.ENDPOINT} shows no model {hub_id!r}: it does not exist, or it is private or gated and "
            f"needs `hf auth login`."
        ) from error
    except errors.LocalEntryNotFoundError as error:  # the network went away between question and download
        raise _unreachable(hub_id, name, constants.ENDPOINT, "the hub cannot be reached") from error
    except errors.EntryNotFoundError:
        return None
    except errors.OfflineModeIsEnabled as error:
        raise _unreachable(hub_id, name, constants.ENDPOINT, "HF_HUB_OFFLINE is set") from error
    except (errors.HTTPError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _unreachable(
            hub_id, name, constants.ENDPOINT, f"the hub cannot be reached ({reason})"
        ) from error


def _unreachable(hub_id: str, name: str, endpoint: str, why: str) -> CodecError:
    return CodecError(
        f"wanted {name} of {hub_id} from {endpoint}, but {why}. To work offline, get the files on a machine that "
        f"is online (hf download {hub_id} --local-dir {hub_id.split('/')[-1]}), copy that folder here, and give "
        f"its path instead of the name."
    )
