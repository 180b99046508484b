"""Let an animated recording of svg-term-cli rest on its last frame, so that a still picture of it is not blank.

    python tools/last_frame.py docs/terminal.svg

The recording is shown whole for three seconds, plays once, and ends with its last frame.
"""

import re
import sys
from pathlib import Path


def rest_on_last_frame(svg: str) -> str:
    """Return a recording that plays once, and shows its last frame before, after and without the animation."""
    last = max(int(x) for x in re.findall(r"translateX\(-(\d+)px\)", svg))
    rest = f"animation-delay:3s;animation-iteration-count:1;transform:translateX(-{last}px);"
    return svg.replace("animation-iteration-count:infinite;", rest)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(rest_on_last_frame(path.read_text(encoding="utf-8")), encoding="utf-8")
