"""Open every page of the built book in a browser, as readers do: `make book-test`.

Each page must render without an error and without asking any other host, in a light and a dark theme, wide and narrow;
its links lead somewhere, its pictures have words, a keyboard gets everywhere, and axe-core finds nothing.
"""

import argparse
import functools
import http.server
import shutil
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import Error, Page, sync_playwright

BOOK = Path(__file__).resolve().parents[1] / "build" / "book"
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
THEMES = ("light", "dark")
SHOWN = ("docs/index", "docs/method", "docs/results", "docs/api/training", "notebooks/04_difficult_knowledge")
TABS = 200  # more than any page needs to reach its navigation
TOO_WIDE = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return [];
  const clips = e => getComputedStyle(e).overflowX !== "visible";
  const boxed = e => e && e !== document.body && (clips(e) || boxed(e.parentElement));
  const wide = [...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > room + 1 && !boxed(e.parentElement));
  return wide.slice(0, 3).map(e => e.tagName.toLowerCase() + "." + e.className).concat(wide.length ? [] : ["page"]);
}"""
PICTURES = """() => [...document.images].filter(i => i.checkVisibility()).map(i => [i.src, i.alt, i.naturalWidth])"""
FOCUSED = """() => {
  const e = document.activeElement, s = getComputedStyle(e);
  const ring = (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== "none";
  const place = e.closest("#pst-skip-link, .skip-link") ? "skip link"
    : e.closest(".search-button, .search-button__button, .bd-search, input[type=search]") ? "search"
    : e.closest(".bd-sidebar-primary") && e.tagName === "A" ? "navigation" : "";
  return [e.tagName.toLowerCase() + "." + e.className, place, ring, e === document.body];
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--book", type=Path, default=BOOK, help="the built site (default: build/book)")
    parser.add_argument("--pages", default="", help="only pages whose address holds this")
    parser.add_argument("--screenshots", type=Path, help="folder for pictures of five pages; checks nothing else")
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("No Chromium is on this machine: install it (Debian: apt-get install chromium) and try again.")
        return 2
    if not (arguments.book / "index.html").exists():
        print(f"{arguments.book} holds no book: run `make book` first.")
        return 2
    pages = [path for path in pages_of(arguments.book) if arguments.pages in path]
    server = serve(arguments.book)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        reader = Reader(browser, f"http://127.0.0.1:{server.server_port}/")
        if arguments.screenshots:
            return take_screenshots(reader, arguments.screenshots)
        begun, found = time.time(), defaultdict(list)
        for path, trouble in broken_links(arguments.book).items():
            if path in pages:
                found[path] += trouble
        for number, path in enumerate(pages, start=1):
            found[path] += reader.check(path)
            print(f"[{number:3}/{len(pages)}] {'ok  ' if not found[path] else 'FAIL'} {path}"[:80], flush=True)
            for line in found[path]:
                print("\n".join(f"    {line[start : start + 76]}" for start in range(0, len(line), 76)))
        found["search"] += reader.check_search("perplexity")
        found["from disk"] += reader.check_from_disk(arguments.book)
        browser.close()
    return summary(found, len(pages), time.time() - begun)


def summary(found: dict[str, list[str]], pages: int, seconds: float) -> int:
    """Print how many pages passed, and the trouble that belongs to none; the exit code."""
    for place in ("search", "from disk"):
        print(f"{place}: {'; '.join(found[place]) or 'ok'}")
    bad = sum(bool(trouble) for trouble in found.values())
    print(f"{pages} pages in {THEMES[0]} and {THEMES[1]}, at {WIDE['width']} and {NARROW['width']} pixels: ", end="")
    print(f"{f'{bad} places with trouble' if bad else 'no trouble'} ({seconds:.0f} s)")
    return int(bool(bad))


def pages_of(book: Path) -> list[str]:
    """Addresses of all pages, relative to the book; what Sphinx keeps for itself begins with an underscore."""
    paths = (path.relative_to(book) for path in sorted(book.rglob("*.html")))
    return [path.as_posix() for path in paths if not path.parts[0].startswith("_")]


def serve(book: Path) -> http.server.ThreadingHTTPServer:
    """Serve the book on a free port of this machine, in silence."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(book)))
    server.handle_error = lambda *peer: None  # a reader that turns the page early is no error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def broken_links(book: Path) -> dict[str, list[str]]:
    """Links of each page that lead to no file or to no anchor of the book."""
    trees = {path: BeautifulSoup((book / path).read_text(encoding="utf-8"), "html.parser") for path in pages_of(book)}
    anchors = {path: {tag["id"] for tag in tree.find_all(id=True)} for path, tree in trees.items()}
    trouble = defaultdict(list)
    for path, tree in trees.items():
        for link in tree.find_all("a", href=True):
            address, anchor = urldefrag(urljoin(path, link["href"]))
            if urlparse(address).scheme:
                continue
            target = unquote(address) or path
            if not (book / target).is_file():
                trouble[path].append(f"broken link: {link['href']}")
            elif anchor and target in anchors and unquote(anchor) not in anchors[target]:
                trouble[path].append(f"broken anchor: {link['href']}")
    return trouble


class Reader:
    """A browser with one window per theme, and all that goes wrong while it reads."""

    def __init__(self, browser, base: str):
        self.base, self.trouble, self.axe = base, [], Axe()
        self.windows = {theme: self._window(browser, theme) for theme in THEMES}

    def _window(self, browser, theme: str) -> Page:
        page = browser.new_context(viewport=WIDE, color_scheme=theme).new_page()
        page.on("console", lambda said: self._note(said.type == "error", f"console: {said.text}"))
        page.on("pageerror", lambda error: self._note(True, f"script error: {error}"))
        page.on("requestfailed", lambda request: self._note(True, f"request failed: {request.url}"))
        page.on("response", lambda answer: self._note(answer.status >= 400, f"HTTP {answer.status}: {answer.url}"))
        page.on("request", lambda request: self._note(self._is_foreign(request.url), f"leaves home: {request.url}"))
        return page

    def _note(self, bad: bool, message: str) -> None:
        if bad:
            self.trouble.append(message)

    def _is_foreign(self, url: str) -> bool:
        return not url.startswith((self.base, "data:", "blob:", "file:"))

    def open(self, path: str, theme: str) -> Page:
        """Open a page and wait until its mathematics is set."""
        page = self.windows[theme]
        page.set_viewport_size(WIDE)
        page.goto(self.base + path, wait_until="load")
        page.wait_for_function(
            "() => !window.MathJax?.startup?.promise || window.MathJax.startup.promise.then(() => true)"
        )
        return page

    def check(self, path: str) -> list[str]:
        """Everything that is wrong with one page."""
        self.trouble = []
        for theme in THEMES:
            try:
                page = self.open(path, theme)
                self.trouble += self._form(page) if theme == "light" else []
                self.trouble += [f"{theme}: {line}" for line in self._contrast(page)]
            except Error as error:
                self.trouble.append(f"{theme}: {error.message.splitlines()[0]}")
        return list(dict.fromkeys(self.trouble))

    def _form(self, page: Page) -> list[str]:
        trouble = []
        heads = page.locator("h1:visible").count()
        if heads != 1:
            trouble.append(f"{heads} headings of the first rank, expected one")
        for source, words, width in page.evaluate(PICTURES):
            trouble += [] if words.strip() else [f"picture without words: {source}"]
            trouble += [] if width else [f"picture does not load: {source}"]
        if page.url.endswith("/index.html") or page.locator(".bd-sidebar-primary").count():
            trouble += self._keyboard(page)
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)
            trouble += [f"wider than {size['width']} pixels: {name}" for name in page.evaluate(TOO_WIDE)]
        page.set_viewport_size(WIDE)
        return trouble

    def _keyboard(self, page: Page) -> list[str]:
        wanted, unseen = ["skip link", "search", "navigation"], []
        for _ in range(TABS):
            page.keyboard.press("Tab")
            name, place, ring, at_end = page.evaluate(FOCUSED)
            unseen += [] if ring or at_end else [name]
            wanted = [one for one in wanted if one != place]
            if at_end or not wanted:
                break
        trouble = [f"no way by keyboard to: {one}" for one in wanted]
        return trouble + [f"focus cannot be seen on {name}" for name in dict.fromkeys(unseen)]

    def _contrast(self, page: Page) -> list[str]:
        trouble = []
        for rule in self.axe.run(page, options={"preload": False}).response["violations"]:
            first = " ".join(rule["nodes"][0]["html"].split())[:200]
            trouble.append(f"axe {rule['id']}, {len(rule['nodes'])} times: {rule['help']}; first {first}")
        return trouble

    def check_search(self, word: str) -> list[str]:
        """Whether the book's own search finds pages for a word."""
        self.trouble = []
        page = self.open(f"search.html?q={word}", "light")
        page.wait_for_selector("#search-results li a", timeout=20_000)
        hits = page.locator("#search-results ul.search > li").count()
        print(f"search for {word}: {hits} results")
        page.wait_for_load_state("networkidle")  # each result fetches its page for a line of text
        return self.trouble + ([] if hits > 3 else [f"{word} is found {hits} times only"])

    def check_from_disk(self, book: Path) -> list[str]:
        """Whether the folder opens without a server."""
        self.trouble = []
        page = self.windows["light"]
        page.goto((book / "index.html").resolve().as_uri())
        page.wait_for_url("**/docs/index.html")
        return self.trouble + ([] if page.locator("h1:visible").count() == 1 else ["docs/index.html shows no heading"])


def take_screenshots(reader: Reader, folder: Path) -> int:
    """Five pages in both themes at both widths, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in SHOWN:
        for theme in THEMES:
            page = reader.open(f"{path}.html", theme)
            for size in (WIDE, NARROW):
                page.set_viewport_size(size)
                page.wait_for_timeout(300)  # menus slide
                name = f"{path.replace('/', '-')}-{theme}-{size['width']}.png"
                page.screenshot(path=folder / name)
                print(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
