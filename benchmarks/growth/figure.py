"""Growth with the number of rows: time and memory."""

from __future__ import annotations

from matplotlib.figure import Figure

from knowtuning.figures.drawing import BLUE, GREEN, GREY, ORANGE, row_of_panels, styled


@styled
def scale_growth(rows: list[dict]) -> Figure:
    """Minutes and memory over the number of rows. Rows: rows, seconds, worker_mb, score_mb, server_mb.

    The dotted line leads through the first and the last point: where time is linear, the others lie on it.
    """
    fields = ("worker_mb", "score_mb", "server_mb")
    figure, [time, memory] = row_of_panels(2)
    thousands, minutes = [row["rows"] / 1000 for row in rows], [row["seconds"] / 60 for row in rows]
    time.plot(
        thousands[:: len(rows) - 1 or 1], minutes[:: len(rows) - 1 or 1], ":", color=GREY, label="a straight line"
    )
    time.plot(thousands, minutes, "o", color=BLUE, label="measured")
    time.set(ylabel="all four stages (minutes)")
    labels = ("largest worker that asks", "worker that scores (PyTorch)", "teacher's server")
    for field, label, color, look in zip(fields, labels, (BLUE, GREEN, ORANGE), ("o-", "^-", "s--"), strict=True):
        memory.plot(thousands, [row[field] for row in rows], look, color=color, label=label)
    memory.set(ylabel="memory at most (MB)")
    for axes in (time, memory):
        axes.set(xlabel="rows (thousands)", xlim=(0, None), ylim=(0, None))
        axes.legend()
    return figure
