#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Compares the chapters of the pages that come from tables with what the tables make now.

    chapters.py [--write] docs-reference PAGE...

A chapter stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; --write puts new ones in.
Also checks that links between the pages and to their headings lead somewhere.
"""

import difflib
import os
import re
import subprocess
import sys

CHAPTER = re.compile(r"(<!-- begin (\w+) -->\n)(.*?)(<!-- end \2 -->)", re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text):
    """The names that headings get, by the rules of the usual viewers."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.M):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def dead_links(page, text):
    folder = os.path.dirname(page)
    for link in LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = os.path.join(folder, path) if path else page
        if not os.path.exists(target):
            yield link
        elif anchor and anchor not in set(anchors(open(target, encoding="utf-8").read())):
            yield link


def main():
    words = sys.argv[1:]
    write = words[0] == "--write"
    program, pages = words[write], words[write + 1:]
    found, bad = set(), 0

    def made(match):
        found.add(match[2])
        text = subprocess.run([program, match[2]], check=True, stdout=subprocess.PIPE,
                              encoding="utf-8").stdout
        return match[1] + "\n" + text.rstrip("\n") + "\n\n" + match[4]

    for page in pages:
        text = open(page, encoding="utf-8").read()
        new = CHAPTER.sub(made, text)
        if new != text and write:
            open(page, "w", encoding="utf-8").write(new)
        elif new != text:
            bad += 1
            print("".join(difflib.unified_diff(text.splitlines(True), new.splitlines(True),
                                               page, "as the tables have it")))
            print(f"run: tests/docs/chapters.py --write {program} {page}")
    for page in pages:
        for link in dead_links(page, open(page, encoding="utf-8").read()):
            bad += 1
            print(f"{page}: the link '{link}' leads nowhere")
    missing = {"errors", "limits", "methods", "notifications", "objects", "operations", "settings",
               "states", "verbs", "vmfile"} - found
    if missing:
        bad += 1
        print("chapters that no page has:", ", ".join(sorted(missing)))
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
