"""Loads ``lua/*.lua``: one file a transition, with what it uses of ``common.lua`` put behind its shebang.

To make the functions takes time in every run. So a script may end early what it is run for most often: what only the
part below a line ``-- THE REST`` uses is put there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

#: At the top level of ``common.lua``: a function, or a line that names values.
PIECE = re.compile(r"^local (?:function (\w+)\(.*?^end\n|([\w, ]+) = [^\n]*\n)", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"--.*")
REST = "-- THE REST\n"


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
    first, rest, below = body.partition(REST)
    used = _used(common, first)
    text = f"{shebang}\n{used}\n{first}"
    if rest:
        text += f"{REST}{_used(common, body, but=used)}{below}"
    return Script(name=name, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _used(common: str, body: str, but: str = "") -> str:
    """The pieces of ``common`` that something in ``body`` leads to, without those that ``but`` has."""
    pieces = {name: match for match in PIECE.finditer(common) for name in (match[1] or match[2]).split(", ")}
    used: set[str] = set()
    todo = [body]
    while todo:
        words = set(re.findall(r"\w+", COMMENT.sub("", todo.pop())))
        found = pieces.keys() & words - used
        used |= found
        todo += [pieces[name][0] for name in found]
    kept = {pieces[name][0] for name in used} - {match[0] for match in PIECE.finditer(but)}
    return "".join(match[0] for match in PIECE.finditer(common) if match[0] in kept)
