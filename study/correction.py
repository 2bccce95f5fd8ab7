"""Win rates freed of a judge's errors, which were measured on other pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from knowtuning.evaluation.judge import VERDICTS

FEWEST = 5  # calibration pairs of each truth
SINGULAR = 0.1  # smallest singular value of a confusion matrix that is still inverted

_BLOCK = 2_000_000  # weights drawn at a time


def confusion(verdicts: Sequence[dict], truth: Sequence[str], aspect: str) -> np.ndarray:
    """How often pairs of each truth got each verdict, by question: counts, (questions, 3 truths, 3 verdicts).

    Truths and verdicts are in the order of `VERDICTS`. Unreadable verdicts and pairs of one text are left out.
    """
    tables: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((3, 3)))
    for row, true in zip(verdicts, truth, strict=True):
        if row["aspect"] == aspect and row["verdict"] is not None and not row["identical"]:
            tables[row["id"]][VERDICTS.index(true), VERDICTS.index(row["verdict"])] += 1
    return np.array(list(tables.values())).reshape(-1, 3, 3)


def corrected_win_rate(
    observed: Mapping[str, int],
    calibration: np.ndarray,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> dict:
    """Win rates freed of the judge's errors, which were measured on other pairs.

    With M[t, v] the share of verdict v among calibration pairs of truth t, verdicts come in shares q = p M, so the true
    shares are p = q M^-1; for two classes, p = (q + specificity - 1) / (sensitivity + specificity - 1). Source: Rogan
    and Gladen, American Journal of Epidemiology 107 (1978). It rests on the judge erring on the corrected pairs as it
    does on the calibration pairs of the same truth: take these from like answers, never the corrected pairs themselves.

    Args:
        observed: counts "win", "tie", "lose", as in a row of `summarise_verdicts`, one pair per question. Its
            "identical" are ties known without the judge and stay as they are; unreadable pairs are left out.
        calibration: counts of `confusion`, (questions, 3, 3).

    Returns:
        `{"raw", "corrected", "clipped", "clipped_resamples", "pairs", "calibration_pairs"}`. "raw" and "corrected" hold
        {"value", "low", "high"} for win, tie, lose (shares of the readable pairs) and win_rate = win + tie / 2. The
        intervals are percentiles over resamples of the calibration's and of the corrected questions. `clipped` says
        whether p had a negative share: it is then set to 0 and the others are scaled to add up to 1.

    Raises `ValueError` where a truth has too few calibration pairs, or the matrix is singular or nearly so: then a
    verdict says nothing about the truth, and no arithmetic helps.
    """
    known = observed.get("identical", 0)
    judged = np.array([observed["win"], observed["tie"] - known, observed["lose"]])
    if judged.sum() == 0:
        raise ValueError("no pair was judged, so there is no win rate to correct.")
    classes = _classes(judged, calibration.sum(axis=0))
    table, judged = calibration[:, classes][:, :, classes], judged[classes]
    rng = np.random.default_rng(seed)
    tables = _resampled(table, resamples, rng)
    tables = tables[(tables.sum(axis=2) > 0).all(axis=1)]
    _refuse_singular(_rows_to_one(table.sum(axis=0)), _rows_to_one(tables), level)
    counts = np.append(judged, known)
    drawn = rng.multinomial(counts.sum(), counts / counts.sum(), len(tables))

    value, clipped = _shares(counts[None], table.sum(axis=0)[None], classes)
    spread, clips = _shares(drawn, tables, classes)
    return {
        **{name: _ends(value[name][0], spread[name], level) for name in ("raw", "corrected")},
        "clipped": bool(clipped[0]),
        "clipped_resamples": float(clips.mean()),
        "pairs": int(counts.sum()),
        "calibration_pairs": int(table.sum()),
    }


def _classes(judged: np.ndarray, table: np.ndarray) -> list[int]:
    """The truths that occur, two or three; raises `ValueError` where one of them has too few calibration pairs."""
    classes = [place for place in range(3) if judged[place] or table[place].any() or table[:, place].any()]
    for place in classes:
        if table[place].sum() < FEWEST:
            raise ValueError(
                f"{int(table[place].sum())} calibration pairs are truly {VERDICTS[place]!r}; at least {FEWEST} show "
                "what the judge makes of them: calibrate on more pairs."
            )
    return classes


def _resampled(table: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Sums over questions drawn with replacement: (questions, k, k) -> (resamples, k, k)."""
    n, size = len(table), table.shape[1]
    block, even = max(1, _BLOCK // n), np.full(n, 1 / n)
    weights = (rng.multinomial(n, even, min(block, resamples - start)) for start in range(0, resamples, block))
    return np.concatenate([part @ table.reshape(n, -1) for part in weights]).reshape(-1, size, size)


def _refuse_singular(rates: np.ndarray, resampled: np.ndarray, level: float) -> None:
    """Raise `ValueError` when the judge cannot be told from one whose verdicts do not depend on the truth."""
    smallest = np.linalg.svd(rates, compute_uv=False)[-1]
    turned = np.mean(np.sign(np.linalg.det(resampled)) != np.sign(np.linalg.det(rates)))
    if smallest < SINGULAR or turned > (1 - level) / 2:
        raise ValueError(
            f"the judge's confusion matrix is nearly singular (smallest singular value {smallest:.2f}, determinant of "
            f"the other sign in {turned:.0%} of the resamples), so its verdicts say too little about the truth to be "
            "corrected: use a better judge or more calibration pairs."
        )


def _rows_to_one(table: np.ndarray) -> np.ndarray:
    return table / table.sum(axis=-1, keepdims=True)


def _shares(counts: np.ndarray, table: np.ndarray, classes: list[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Raw and corrected (resamples, [win, tie, lose, win_rate]), and whether a share was clipped, (resamples,).

    `counts` is (resamples, k classes judged + ties known), `table` (resamples, k, k).
    """
    total = counts.sum(axis=1, keepdims=True)
    judged = counts[:, :-1]
    true = np.einsum("nv,nvt->nt", judged, np.linalg.pinv(_rows_to_one(table)))
    clipped = (true < -1e-9).any(axis=1)
    true = np.clip(true, 0, None)
    true *= judged.sum(axis=1, keepdims=True) / np.maximum(true.sum(axis=1, keepdims=True), 1e-12)
    both = {}
    for name, part in (("raw", judged), ("corrected", true)):
        shares = np.zeros((len(counts), 4))
        shares[:, classes] = part
        shares[:, 1] += counts[:, -1]
        shares /= total
        shares[:, 3] = shares[:, 0] + shares[:, 1] / 2
        both[name] = shares
    return both, clipped


def _ends(value: np.ndarray, spread: np.ndarray, level: float) -> dict[str, dict[str, float]]:
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2], axis=0)
    names = (*VERDICTS, "win_rate")
    return {
        name: {"value": float(value[at]), "low": float(low[at]), "high": float(high[at])}
        for at, name in enumerate(names)
    }
