"""A run's data with their card into a dataset repository of the hub."""

from __future__ import annotations

import os
from pathlib import Path

from knowtuning.cards.data_cards import PARTS, tuning_card
from knowtuning.data.hub import api, errors, first_line
from knowtuning.files import DataError


def push(run: str | Path, repo_id: str, private: bool = True) -> str:
    """Put the data of a run into a dataset repository of the hub, in one commit, and return its address.

    The repository, created where it is not there, gets the card, the questions and answers, and `ka.json`, `kc.json`
    and `dataset_info.json`, which LLaMA-Factory reads as they are, with the provenance of their rows. For
    `datasets.load_dataset` they are `default`, `ka`, `ka_provenance`, `kc` and `kc_provenance`.

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
    names += [f"{name}.{ending}" for name in ("ka", "kc") for ending in ("json", "provenance.jsonl")]
    if missing := [name for name in names if not (run / name).is_file()]:
        raise DataError(f"{run} has no {' and no '.join(missing)}; run the notebooks 01, 05 and 06 first.")
    if not (token := os.environ.get("HF_TOKEN")):
        raise DataError("HF_TOKEN is not set; put a token with write access to the hub into the environment.")
    added = [CommitOperationAdd("README.md", tuning_card(run).encode())]
    added += [CommitOperationAdd(name, run / name) for name in names]
    hub = api(token)
    try:
        repo = hub.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        return hub.create_commit(repo.repo_id, added, commit_message="Add data", repo_type="dataset").commit_url
    except errors() as error:
        raise DataError(
            f"{repo_id} cannot be written ({first_line(error)}); check its name, the network and HF_TOKEN's rights."
        ) from None
