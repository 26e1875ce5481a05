#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What docs/illumos.md names is there: properties, places, profiles, and the messages it explains.

    pages.py SOURCE_TOP
"""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

from tap import Cases


class Page:
    def __init__(self, top):
        self.top = top
        self.text = self.read("docs/illumos.md")
        # Of C, with the pieces of its strings put together.
        names = subprocess.run(["git", "-C", top, "ls-files", "lib/hypervisor", "smf", "daemon"],
                               check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.split()
        self.sources = re.sub(r'"\s*\n\s*"', "", "\n".join(self.read(name) for name in names))

    def read(self, name):
        with open(os.path.join(self.top, name), encoding="utf-8") as file:
            return file.read()


def properties(page):
    root = ET.fromstring(page.read("smf/vmmd.xml").encode())
    config = next(g for g in root.iter("property_group") if g.get("name") == "config")
    known = {p.get("name") for p in config.iter("propval")}
    named = set(re.findall(r"config/([a-z_]+)", page.text))
    assert named and named <= known, named - known
    for name in re.findall(r"`((?:zfs|zone|zvol|vnic|control|propolis)_[a-z]+)`", page.text):
        assert name in known, name


def rights(page):
    for name in ("prof_attr", "auth_attr"):
        for line in page.read("smf/rbac/" + name).splitlines():
            if not line.startswith("#"):
                assert line.split(":")[0] in page.text, line
    named = set(re.findall(r"solaris\.[a-z.]+", page.text))
    assert named == {line.split(":")[0] for line in page.read("smf/rbac/auth_attr").splitlines()
                     if not line.startswith("#")}, named


def defaults(page):
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| [^|]* \| `([^`]*)` \|",
                           page.read("docs/operations.md"), re.M))
    for name in ("control-link", "control-network", "propolis-server", "zfs-dataset", "zone-dir"):
        assert rows[name].split("::/")[0] in page.text, name
    first = rows["control-network"].replace("::/", "::1/")
    assert f"-a {first} " in page.text, "the host's address is not the first of the network"


def messages(page):
    """The italic words of the last chapter are somebody's, with `…` for what differs."""
    chapter = page.text.split("## When something is wrong")[-1]
    found = re.findall(r"(?<!\*)\*([^*|]+)\*", chapter)
    assert len(found) > 10, found
    for words in found:
        said = re.sub(r"^[a-z]+ of zone …: ", "", words).replace(" 120 s", " … s")
        for part in re.split(r"'?…[^ ]*'?", said):
            part = part.strip(" '")
            assert part in page.sources, f"nobody says '{part}' of '{words}'"


def machine(page):
    """The VMFile is one: what is missing is a daemon (5), not a key (2)."""
    vmctl = os.path.join(os.environ.get("VMM_BUILD", "build"), "client", "vmctl")
    text = re.search(r"^```yaml\n(.*?)^```", page.text, re.S | re.M)[1]
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/VMFile.yaml", "w", encoding="utf-8") as file:
            file.write(text)
        done = subprocess.run([vmctl, "--socket", folder + "/none", "plan", "--file",
                               folder + "/VMFile.yaml"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, encoding="utf-8")
    assert done.returncode == 5, done
    assert "backend: propolis" in text and "type: vnic" in text


def commands(page):
    blocks = re.findall(r"^```sh\n(.*?)^```", page.text, re.S | re.M)
    assert len(blocks) > 5
    for block in blocks:
        done = subprocess.run(["sh", "-n"], input=block, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, encoding="utf-8")
        assert (done.returncode, done.stdout) == (0, ""), (block, done.stdout)
    verbs = set(re.findall(r"^vmctl ([a-z]+)", "".join(blocks), re.M))
    known = set(re.findall(r"^\| `([a-z]+)", page.read("README.md"), re.M))
    assert verbs and verbs <= known, verbs - known


def main():
    page = Page(sys.argv[1])
    cases = Cases()
    for function in (properties, rights, defaults, messages, machine, commands):
        cases.run(f"{function.__name__} of docs/illumos.md are those that there are", function, page)
    cases.end()


if __name__ == "__main__":
    main()
