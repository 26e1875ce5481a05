#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The service and its rights agree with the daemon that they are for.

    service.py SOURCE_TOP DOCS_REFERENCE

The manifest has a property for each of the daemon's settings, with its meaning and bounds; the
authorizations and profiles that files name are those that others of them have; and the tools that
the backend runs are those that the daemon's profile allows.
"""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

from tap import Cases

# Settings that mean nothing on illumos.
NOT_HERE = {"accel": "the accelerators of QEMU", "lease_files": "guests on QEMU's taps",
            "switcher": "private networks of QEMU's guests"}
# Where the service knows better than the daemon's default, or the method needs a value.
VALUES = {"data_dir": "/var/lib/vmm", "runtime_dir": "/var/run/vmm", "group": "vmm",
          "zone_dir": "/zones/vmm"}


class Tree:
    def __init__(self, top, reference):
        self.top, self.reference = top, reference
        self.manifest = ET.parse(self.path("smf/vmmd.xml")).getroot()
        self.service = self.manifest.find("service")

    def path(self, name):
        return os.path.join(self.top, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def settings(self):
        """name: (type, default, meaning), from the daemon's own rows."""
        text = subprocess.run([self.reference, "settings"], check=True, encoding="utf-8",
                              stdout=subprocess.PIPE).stdout
        rows = {}
        for line in text.splitlines()[2:]:
            cells = [cell.strip().replace("\\|", "|")
                     for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows[cells[0].strip("`").replace("-", "_")] = (cells[1], cells[2].strip("`"), cells[3])
        assert len(rows) > 20, "the reference has another form"
        return rows

    def group(self, name):
        return next(g for g in self.service.iter("property_group") if g.get("name") == name)

    def rbac(self, name):
        """The lines of a fragment, by fields."""
        return [line.split(":") for line in self.read("smf/rbac/" + name).splitlines()
                if line and not line.startswith("#")]


def manifest_has_every_setting(tree):
    settings = tree.settings()
    properties = {p.get("name"): p for p in tree.group("config").iter("propval")}
    del properties["value_authorization"]
    patterns = {p.get("name"): p for p in tree.service.iter("prop_pattern")}
    assert set(properties) == set(patterns) == set(settings) - set(NOT_HERE), \
        set(properties) ^ (set(settings) - set(NOT_HERE))
    for name, (kind, default, meaning) in settings.items():
        if name in NOT_HERE:
            continue
        value, pattern = properties[name], patterns[name]
        number = re.fullmatch(r"number, (\d+) to (\d+)", kind)
        words = kind.split(" | ") if " | " in kind else []
        assert value.get("type") == pattern.get("type") == ("count" if number else "astring"), name
        assert value.get("value") == VALUES.get(name, default if number or words else ""), name
        told = meaning + (f" (default: {default})" if default else "")
        assert pattern.findtext("description/loctext") == told, (name, told)
        ranges = [(r.get("min"), r.get("max")) for r in pattern.iter("range")]
        assert ranges == ([number.groups()] if number else []), name
        assert [w.get("name") for w in pattern.iter("value")] == words, name


def method_is_called_for_each_verb(tree):
    script = tree.read("smf/vmmd-method.in")
    for method in tree.service.iter("exec_method"):
        verb = method.get("name")
        assert method.get("exec") == f"/lib/svc/method/vmmd {verb}"
        assert re.search(rf"^{verb}\) {verb} ;;$", script, re.M), verb
    seconds = {m.get("name"): int(m.get("timeout_seconds"))
               for m in tree.service.iter("exec_method")}
    assert set(seconds) == {"start", "stop", "refresh"}
    for verb in ("start", "stop"):
        own = int(re.search(rf"^{verb}_s=(\d+)", script, re.M)[1])
        assert own < seconds[verb], f"SMF gives up before {verb} does"


def daemon_has_a_user_and_little_else(tree):
    credential = tree.service.find("method_context/method_credential")
    assert (credential.get("user"), credential.get("group")) == ("vmm", "vmm")
    assert credential.get("privileges") == "basic"
    assert tree.service.find("exec_method/method_context") is None
    assert tree.service.find("create_default_instance").get("enabled") == "false"


def machines_survive_the_service(tree):
    startd = {p.get("name"): p.get("value") for p in tree.group("startd").iter("propval")}
    assert startd == {"duration": "contract", "ignore_error": "core,signal"}
    stop = next(m for m in tree.service.iter("exec_method") if m.get("name") == "stop")
    assert ":kill" not in stop.get("exec")


def rights_are_known(tree):
    for name, fields in (("auth_attr", 6), ("prof_attr", 5), ("exec_attr", 7), ("user_attr", 5)):
        for row in tree.rbac(name):
            assert len(row) == fields, (name, row)
    known = {row[0] for row in tree.rbac("auth_attr")}
    profiles = {row[0]: row[4] for row in tree.rbac("prof_attr")}
    used = {p.get("value") for p in tree.service.iter("propval")
            if p.get("name").endswith("_authorization")}
    assert used == known
    assert set(profiles["VM Management"].removeprefix("auths=").split(",")) == known
    assert {row[0] for row in tree.rbac("exec_attr")} == {"VM Manager Daemon"}
    assert "profiles=VM Manager Daemon" in tree.rbac("user_attr")[0][4]
    assert "VM Manager Daemon" in profiles


def profile_has_the_tools_of_the_backend(tree):
    allowed = set()
    for row in tree.rbac("exec_attr"):
        assert row[1:3] == ["solaris", "cmd"] and row[6] == "uid=0;gid=0", row
        allowed.add(row[5])
    ran = set()
    folder = tree.path("lib/hypervisor/propolis")
    for name in os.listdir(folder):
        if name.startswith("host"):
            ran |= set(re.findall(r'argv\[\] = \{ "([a-z]+)"', tree.read(f"{folder}/{name}")))
    # Tables of neighbours are read without rights.
    ran -= {"arp", "ndp"}
    assert {"zonecfg", "zoneadm", "zfs", "dladm", "dd"} <= ran, ran
    names = {os.path.basename(path) for path in allowed} - {"vmmd"}
    assert names == ran, names ^ ran
    assert "/lib/svc/method/vmmd" in allowed


def main():
    tree = Tree(*sys.argv[1:])
    cases = Cases()
    for function in (manifest_has_every_setting, method_is_called_for_each_verb,
                     daemon_has_a_user_and_little_else, machines_survive_the_service,
                     rights_are_known, profile_has_the_tools_of_the_backend):
        cases.run(function.__name__.replace("_", " "), function, tree)
    cases.end()


if __name__ == "__main__":
    main()
