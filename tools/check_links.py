"""Check the links within a built documentation site.

    python tools/check_links.py docs/_build/html

A link is dead if the file that it names, or the element that its fragment names, does not exist. Links to other hosts
are not followed. The script prints the numbers of pages and links and every dead link, and exits with 1 if any is dead.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINKS = {"a": "href", "img": "src", "link": "href", "script": "src", "source": "src"}


class Page(HTMLParser):
    """Links and names of the elements of one page."""

    def __init__(self, path: Path) -> None:
        """Read the page."""
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the link and the names of one element."""
        values = dict(attrs)
        self.names.update(value for key in ("id", "name") if (value := values.get(key)))
        link = values.get(LINKS.get(tag, ""))
        if link:
            self.links.append(link)


def dead_links(site: Path) -> tuple[int, int, list[str]]:
    """Return the numbers of pages and of links within the site, and the dead links."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    n_links = 0
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            n_links += 1
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not file.is_file() or _lacks(pages, file, unquote(parts.fragment)):
                dead.append(f"{path.relative_to(site)}: {link}")
    return len(pages), n_links, dead


def _lacks(pages: dict[Path, Page], file: Path, fragment: str) -> bool:
    return bool(fragment) and file in pages and fragment not in pages[file].names


def main() -> None:
    """Check one site."""
    site = Path(sys.argv[1]).resolve()
    n_pages, n_links, dead = dead_links(site)
    print(f"{n_pages} pages, {n_links} links within the site, {len(dead)} dead")
    print("\n".join(dead))
    sys.exit(bool(dead))


if __name__ == "__main__":
    main()
