# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""getopt_long(3) as the tools use it: options anywhere, unambiguous prefixes, glibc's messages."""

from __future__ import annotations

import typing as t

from .say import Say


class BadOption(Exception):
    """getopt_long returned '?'; it has said why."""


def getopt_long(
    words: t.Sequence[str], options: t.Mapping[str, bool], say: Say, program: str, short: str = ""
) -> t.Iterator[tuple[str, str]]:
    """(name, value) of every option, as they come; at last the other words, each under the name ''.

    `options`: name -> whether it takes a value. `short`: as for getopt(3).
    """
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += queue
            break
        if word.startswith("--"):
            yield _long(word, queue, options, say, program)
        elif word.startswith("-") and len(word) > 1:
            yield from _short(word, queue, say, program, short)
        else:
            rest.append(word)
    for word in rest:
        yield "", word


def _long(word: str, queue: list[str], options: t.Mapping[str, bool], say: Say, program: str) -> tuple[str, str]:
    given, equals, value = word[2:].partition("=")
    names = [given] if given in options else [name for name in options if name.startswith(given)]
    if not names:
        say.err(f"{program}: unrecognized option '--{given}'")
        raise BadOption
    if len(names) > 1:
        found = " ".join(f"'--{name}'" for name in names)
        say.err(f"{program}: option '--{given}' is ambiguous; possibilities: {found}")
        raise BadOption
    name = names[0]
    if not options[name]:
        if equals:
            say.err(f"{program}: option '--{name}' doesn't allow an argument")
            raise BadOption
        return name, ""
    if not equals:
        if not queue:
            say.err(f"{program}: option '--{name}' requires an argument")
            raise BadOption
        value = queue.pop(0)
    return name, value


def _short(word: str, queue: list[str], say: Say, program: str, short: str) -> t.Iterator[tuple[str, str]]:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        at = short.find(letter)
        if at < 0 or letter == ":":
            say.err(f"{program}: invalid option -- '{letter}'")
            raise BadOption
        if short[at + 1 : at + 2] != ":":
            yield letter, ""
            continue
        if not letters and not queue:
            say.err(f"{program}: option requires an argument -- '{letter}'")
            raise BadOption
        yield letter, letters or queue.pop(0)
        return
