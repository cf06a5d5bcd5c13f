"""Shell blocks of the README and of the pages of `hmrkit docs`, read as a shell would read them."""

import re
import shlex
from pathlib import Path

import hmrkit
from hmrkit.cli.docs import PAGES

ROOT = Path(hmrkit.__file__).parent
README = ROOT.parent / "README.md"
FILES = [README, *(ROOT / place for _, place in PAGES.values())]


def blocks(text, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.M | re.S)


def pipelines(block):
    """A shell block's commands in order, those that a pipe joins together: lists of lists of words."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
        lexer.whitespace_split = True
        joined = [[]]
        for word in lexer:
            if word in (";", "&&"):
                yield joined
                joined = [[]]
            elif word == "|":
                joined.append([])
            else:
                joined[-1].append(word)
        if joined[0]:
            yield joined


def commands(text):
    """Words after `hmrkit` of each of a page's commands."""
    for block in blocks(text, "sh"):
        for joined in pipelines(block):
            for words in joined:
                if Path(words[0]).name == "hmrkit":
                    yield words[1:]
