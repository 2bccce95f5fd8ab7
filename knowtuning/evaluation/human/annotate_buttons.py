"""The annotation session as a view in JupyterLab: the same `Annotation`, with buttons in place of keys."""

from __future__ import annotations

from html import escape

import ipywidgets as widgets

from knowtuning.display import side_by_side
from knowtuning.evaluation.human.annotation import MEANING, Annotation, visible_item
from knowtuning.evaluation.human.sheet import CHOICES
from knowtuning.knowledge.aspects import ASPECTS


def annotation_buttons(session: Annotation) -> widgets.VBox:
    """Show the session with a row of buttons for each aspect; every press is saved at once.

    The buttons are reached by Tab and pressed by Space or Enter, and are named by what they choose ("completeness:
    left"). A check mark, and not colour alone, shows what was chosen. Texts are escaped.
    """
    place, item = widgets.HTML(), widgets.HTML()
    buttons = {
        (aspect, choice): widgets.Button(
            tooltip=f"{aspect}: {choice}. {MEANING[aspect]}", tabbable=True, layout=widgets.Layout(width="14em")
        )
        for aspect in ASPECTS
        for choice in CHOICES
    }
    back = widgets.Button(description="back", tooltip="Go back to the choice before", tabbable=True)

    def refresh() -> None:
        place.value = session.progress
        item.value = _item_html(session)
        for (aspect, choice), button in buttons.items():
            chosen = session.chosen(aspect) == choice
            button.description = f"{'✓ ' if chosen else ''}{aspect}: {choice}"
            button.disabled = session.done

    def press(aspect: str, choice: str) -> None:
        session.choose(aspect, choice)
        refresh()

    def go_back(_: widgets.Button) -> None:
        session.back()
        refresh()

    for (aspect, choice), button in buttons.items():
        button.on_click(lambda _, aspect=aspect, choice=choice: press(aspect, choice))
    back.on_click(go_back)
    refresh()
    rows = [widgets.HBox([buttons[aspect, choice] for choice in CHOICES]) for aspect in ASPECTS]
    return widgets.VBox([place, item, *rows, back])


def _item_html(session: Annotation) -> str:
    if session.item is None:
        return f"All choices are made and saved as those of {escape(session.annotator)}. Thank you."
    item = visible_item(session.item)
    above = {name: item[name] for name in ("question", "reference") if name in item}
    return side_by_side(above).html + side_by_side({side: item[side] for side in ("left", "right")}).html
