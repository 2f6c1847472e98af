#!/usr/bin/env python3
"""Finds dead links in the built book, and in the Markdown files beside it.

usage: scripts/book-links.py BOOK [FILE.md...]

A link within the book must lead to a page, and to a place on it if it names one; a link out of the book to
a file or folder of the repository. Nothing is asked on the network. Ends with 1 if a link is dead.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What mdBook makes for itself.
GENERATED = {"404.html", "print.html", "toc.html"}
MARKDOWN_LINK = re.compile(r"\]\(([^()\s]+)\)")


class Page(HTMLParser):
    """The links of a page, and the places that can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.places.add(value)
            elif value and ((tag, name) == ("a", "href") or name == "src"):
                self.links.append(value)


def dead_links(pages, path):
    for link in pages[path].links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        place = unquote(parts.fragment)
        if not target.exists():
            yield link, "there is no such file"
        elif place and target in pages and place not in pages[target].places:
            yield link, "there is no such place on that page"


def dead_markdown_links(path):
    for link in MARKDOWN_LINK.findall(path.read_text(encoding="utf-8")):
        parts = urlsplit(link)
        if not parts.scheme and parts.path and not (path.parent / unquote(parts.path)).exists():
            yield link, "there is no such file"


def main(book, *files):
    book = Path(book).resolve()
    paths = [path for path in sorted(book.rglob("*.html")) if path.name not in GENERATED]
    pages = {path: Page(path) for path in paths}
    dead = [(path.relative_to(book), *link) for path in pages for link in dead_links(pages, path)]
    dead += [(file, *link) for file in files for link in dead_markdown_links(Path(file))]
    for path, link, reason in dead:
        print(f"{path}: {link}: {reason}", file=sys.stderr)
    count = sum(len(page.links) for page in pages.values())
    print(f"book: {len(pages)} pages, {count} links, {len(dead)} dead")
    return 1 if dead or not pages else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
