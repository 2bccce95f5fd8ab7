"""The menu for those who hear it: the theme's buttons that unfold a chapter are pictures without a word."""


def name_buttons(app, page, template, context, doctree):
    """Let each button of the menu say which chapter it unfolds."""
    make = context.get("generate_toctree_html")
    if make is not None:
        context["generate_toctree_html"] = lambda *args, **options: _named(make(*args, **options))


def _named(menu):
    for button in menu.find_all("summary") if hasattr(menu, "find_all") else ():
        chapter = button.find_parent("li").find("a")
        button["aria-label"] = f"Pages of {chapter.get_text(strip=True)}"
    return menu


def setup(app):
    app.connect("html-page-context", name_buttons, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}
