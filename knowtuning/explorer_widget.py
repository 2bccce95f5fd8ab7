"""The looking glass in JupyterLab: a question, an arm, a temperature and alpha, and a button that looks."""

from __future__ import annotations

from html import escape

import ipywidgets as widgets

from knowtuning.explorer import Explorer
from knowtuning.files import DataError
from knowtuning.teacher.errors import TeacherError


def explorer_widget(
    explorer: Explorer, question: str, arm: str = "knowtuning", temperature: float = 0.0, alpha: float = 0.5
) -> widgets.VBox:
    """Controls over `Explorer.look`, and below them what it shows; Enter in the question looks too.

    Everything is reached by Tab. What cannot be shown (an empty question, a teacher that does not answer) is said in
    one sentence in its place.
    """
    wide = {"layout": widgets.Layout(width="40em"), "style": {"description_width": "7em"}, "tabbable": True}
    asked = widgets.Text(question, description="question", continuous_update=False, **wide)
    chosen = widgets.Dropdown(options=explorer.arms, value=arm, description="arm", **wide)
    heat = widgets.FloatSlider(temperature, min=0, max=1.5, step=0.05, description="temperature", **wide)
    share = widgets.FloatSlider(alpha, min=0, max=1, step=0.05, description="alpha", **wide)
    button = widgets.Button(description="look", button_style="primary", tabbable=True)
    shown = widgets.HTML()

    def look(_: object = None) -> None:
        button.disabled, button.description = True, "looking …"
        try:
            shown.value = explorer.look(asked.value, chosen.value, heat.value, share.value).html
        except (DataError, TeacherError) as error:
            shown.value = f"<p>{escape(str(error))}</p>"
        finally:
            button.disabled, button.description = False, "look"

    button.on_click(look)
    asked.observe(look, "value")
    look()
    return widgets.VBox([asked, chosen, heat, share, button, shown])
