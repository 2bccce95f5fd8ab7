"""Links into the repository that are no pages of the book: a file is offered for download, a folder stays plain text.

GitHub lists a folder and renders a file; a static site can do neither.
"""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform


class RepositoryLinks(SphinxTransform):
    """Turn links to what is no page; a link that leads nowhere stays as it is and fails the build."""

    default_priority = 300

    def apply(self, **kwargs):
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link.get("reftype") == "myst" and link.get("reftarget"):
                self._turn(link)

    def _turn(self, link):
        target = link["reftarget"]
        if link.get("refdomain") == "doc":
            file = f"{target}.md"
            if target not in self.env.found_docs and (Path(self.env.srcdir) / file).is_file():
                link.replace_self(self._download(file, link))
        elif Path(self.env.relfn2path(target, self.env.docname)[1]).is_dir():
            link.replace_self(nodes.inline("", "", *link.children))

    def _download(self, file, link):
        text = nodes.inline("", link.astext(), classes=["xref", "download"])
        return addnodes.download_reference("", "", text, reftarget=f"/{file}", refdoc=self.env.docname)


def setup(app):
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
