# SPDX-License-Identifier: MIT
"""Finds a piece of C++ in a tree of headers, by its tokens: wherever it has moved to, and however it is laid out now."""

import re
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<skipped>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<word>[A-Za-z_]\w*)
    |"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)+'
    |\.?\d(?:[\w.']|[eEpP][+-])*
    |<<=|>>=|->\*|\.\.\.|::|->|\+\+|--|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|.""",
    re.VERBOSE | re.DOTALL,
)
# Words that are never renamed: the language's own, and the library's after std::.
KEYWORDS = set(
    """auto bool break case catch char class concept const constexpr continue default delete do double else enum explicit
    false float for friend if inline int long mutable namespace new noexcept nullptr operator private public requires
    return short signed sizeof static static_cast struct switch template this throw true try typename unsigned using
    void while std""".split()
)


# A shorter piece, under any names, would be found in places where it does not belong.
FEWEST_TO_RENAME = 12


class Token(NamedTuple):
    text: str
    begin: int
    end: int
    free: bool  # a name of ours


class Place(NamedTuple):
    header: str
    begin: int
    end: int
    names: dict  # name in the piece -> name at the place, if they differ


def tokens_of(text):
    found = []
    for match in TOKEN.finditer(text):
        if match["skipped"] is not None:
            continue
        word = match["word"]
        after_std = len(found) > 1 and found[-1].text == "::" and found[-2].text == "std"
        found.append(Token(match[0], match.start(), match.end(), bool(word) and word not in KEYWORDS and not after_std))
    # (std::min)(…) and std::min(…) are treated alike, and so are (…::max)() and …::max().
    kept = []
    i = 0
    while i < len(found):
        texts = [token.text for token in found[i : i + 3]]
        if texts[:1] in (["min"], ["max"]) and texts[1:] == [")", "("]:
            opening = next(k for k in reversed(range(len(kept))) if kept[k].text == "(")
            if opening + 1 < len(kept):
                kept[opening + 1] = kept[opening + 1]._replace(begin=kept[opening].begin)
            kept[opening : opening + 1] = []
            kept.append(found[i]._replace(end=found[i + 1].end))
            i += 2
        else:
            kept.append(found[i])
            i += 1
    return kept


def match_at(piece, tokens, start, renaming):
    """The names of the piece at a place, or None if it is not found there."""
    forth, back = {}, {}
    for wanted, there in zip(piece, tokens[start : start + len(piece)]):
        if wanted.text == there.text and not (renaming and wanted.free):
            continue
        if not (renaming and wanted.free and there.free):
            return None
        if forth.setdefault(wanted.text, there.text) != there.text or back.setdefault(there.text, wanted.text) != wanted.text:
            return None
    return {ours: theirs for ours, theirs in forth.items() if ours != theirs}


def places(code, headers):
    """Where the code is in the headers, a dictionary of name -> tokens: as it stands, else under other names."""
    piece = tokens_of(code)
    for renaming in (False, True) if len(piece) >= FEWEST_TO_RENAME else (False,):
        found = []
        for header, tokens in headers.items():
            for start in range(len(tokens) - len(piece) + 1):
                names = match_at(piece, tokens, start, renaming)
                if names is not None:
                    found.append(Place(header, tokens[start].begin, tokens[start + len(piece) - 1].end, names))
        if found:
            return found
    return []


def renamed(code, names):
    return re.sub(r"[A-Za-z_]\w*", lambda match: names.get(match[0], match[0]), code)
