"""The Hugging Face hub, from which a source comes at a pinned commit."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from knowtuning.data.registry import Source
from knowtuning.files import DataError, sha256

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def download(source: Source) -> tuple[list[Path], str]:
    """Fetch the files of a source into the hub's cache at its pinned commit, and check them.

    A file that is in the cache is not asked for again, so a pinned source can be read without a network afterwards.
    The environment may set HF_TOKEN (needed for gated repositories), HF_ENDPOINT (a mirror) and HF_HOME (the cache).

    Returns:
        The files in the order of the registry, and the commit that they belong to.

    Raises:
        DataError: the hub cannot be reached or refuses, the commit or a file is not there, or a file is not the one
            whose SHA-256 the registry gives.
    """
    hub = api(os.environ.get("HF_TOKEN") or False)
    where = f"{source.repo} at {source.revision or 'its newest commit'}"
    try:
        commit, names = source.revision, list(source.files)
        if commit is None or any("*" in name for name in names):
            info = hub.dataset_info(source.repo, revision=commit)
            commit = info.sha
            names = [file.rfilename for file in info.siblings if any(fnmatch(file.rfilename, name) for name in names)]
        files = [Path(hub.hf_hub_download(source.repo, n, repo_type="dataset", revision=commit)) for n in names]
    except errors() as error:
        raise DataError(
            f"{where} cannot be fetched ({first_line(error)}); check the network and HF_TOKEN, accept the conditions "
            f"at {source.homepage} where it has some, or give the path of a local copy."
        ) from None
    if not files:
        raise DataError(f"{where} has no file called {' or '.join(source.files)}; correct the registry.")
    for name, file in zip(names, files, strict=True):
        expected = source.files.get(name)
        if expected and (actual := sha256(file)) != expected:
            raise DataError(f"{where}: {name} has the SHA-256 {actual}, not {expected}; delete it from the cache.")
    return files, commit


def api(token: str | bool) -> HfApi:
    """The hub at HF_ENDPOINT; token False keeps one that some earlier login left on the disk out of it."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)


def errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises where a file, a name or the network fails."""
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.errors import HTTPError as HubHTTPError

    return HubHTTPError, EntryNotFoundError, OfflineModeIsEnabled, HFValidationError


def first_line(error: Exception) -> str:
    """The message of an error, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
