"""The Hugging Face hub: a source comes from there at a pinned commit, and a run's data go there with their card."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

from knowtuning.data.registry import Source
from knowtuning.data.tuning_card import PARTS, tuning_card
from knowtuning.files import DataError, sha256


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
    api = _api(os.environ.get("HF_TOKEN") or False)
    where = f"{source.repo} at {source.revision or 'its newest commit'}"
    try:
        commit, names = source.revision, list(source.files)
        if commit is None or any("*" in name for name in names):
            info = api.dataset_info(source.repo, revision=commit)
            commit = info.sha
            names = [file.rfilename for file in info.siblings if any(fnmatch(file.rfilename, name) for name in names)]
        files = [Path(api.hf_hub_download(source.repo, n, repo_type="dataset", revision=commit)) for n in names]
    except _errors() as error:
        raise DataError(
            f"{where} cannot be fetched ({_first_line(error)}); check the network and HF_TOKEN, accept the conditions "
            f"at {source.homepage} where it has some, or give the path of a local copy."
        ) from None
    if not files:
        raise DataError(f"{where} has no file called {' or '.join(source.files)}; correct the registry.")
    for name, file in zip(names, files, strict=True):
        expected = source.files.get(name)
        if expected and (found := sha256(file)) != expected:
            raise DataError(f"{where}: {name} has the SHA-256 {found}, not {expected}; delete it from the cache.")
    return files, commit


def push(run: str | Path, repo_id: str, private: bool = True) -> str:
    """Put the data of a run into a dataset repository of the hub, in one commit, and return its address.

    The repository gets `README.md` (the data card, from `data/card.json`), `data/card.json`, `data/train.jsonl` and
    its two siblings, `ka.json`, `kc.json` and `dataset_info.json`, which LLaMA-Factory reads as they are, and the
    provenance of their rows. For `datasets.load_dataset` the card declares the configurations `default`, `ka`,
    `ka_provenance`, `kc` and `kc_provenance`. A repository that is not there is created.

    Args:
        run: the folder of a run in which the notebooks 01, 05 and 06 are done.
        repo_id: "owner/name". Who writes is told by HF_TOKEN, which is read from the environment only.
        private: whether a new repository is private; one that exists stays as it is.

    Raises:
        DataError: no token, a file that is missing, or the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd

    run = Path(run)
    names = ["data/card.json", *(f"data/{part}.jsonl" for part in PARTS), "dataset_info.json"]
    names += [f"{name}.{kind}" for name in ("ka", "kc") for kind in ("json", "provenance.jsonl")]
    if missing := [name for name in names if not (run / name).is_file()]:
        raise DataError(f"{run} has no {' and no '.join(missing)}; run the notebooks 01, 05 and 06 first.")
    if not (token := os.environ.get("HF_TOKEN")):
        raise DataError("HF_TOKEN is not set; put a token with write access to the hub into the environment.")
    added = [CommitOperationAdd("README.md", tuning_card(run).encode())]
    added += [CommitOperationAdd(name, run / name) for name in names]
    api = _api(token)
    try:
        repo = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        return api.create_commit(repo.repo_id, added, commit_message="Add data", repo_type="dataset").commit_url
    except _errors() as error:
        raise DataError(
            f"{repo_id} cannot be written ({_first_line(error)}); check its name, the network and HF_TOKEN's rights."
        ) from None


def _api(token: str | bool):
    from huggingface_hub import HfApi

    # False keeps a token that some earlier login left on the disk out of it
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)


def _errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.errors import HTTPError as HubHTTPError

    return HubHTTPError, EntryNotFoundError, OfflineModeIsEnabled, HFValidationError


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
