"""Loads ``lua/*.lua``: one file a transition, with ``common.lua`` put behind each shebang."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A script as the server gets it, and the SHA-1 by which EVALSHA names it."""

    name: str
    text: str
    sha: str


@cache
def script(name: str, package: str = __package__) -> Script:
    """The script ``lua/<name>.lua`` of a package.

    Raises ValueError when it lacks the shebang that holds a script to one slot.
    """
    common = (resources.files(__package__) / "lua" / "common.lua").read_text()
    shebang, _, body = (resources.files(package) / "lua" / f"{name}.lua").read_text().partition("\n")
    if not shebang.startswith("#!lua"):
        raise ValueError(f"lua/{name}.lua must begin with a #!lua line, got {shebang!r}")
    text = f"{shebang}\n{common}\n{body}"
    return Script(name=name, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
