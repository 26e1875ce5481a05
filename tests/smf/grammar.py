#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The XML files of the brand and of the service are as illumos reads them.

    grammar.py SOURCE_TOP

xmllint validates them against the grammars of $VMM_SHARED/illumos (default: ../shared beside the
tree); without these it says so, and the rows below hold alone.  libbrand and svccfg refuse a file
whose elements are in another order, so the order is what the rows are about.
"""

import os
import re
import stat
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

from tap import Cases

BRAND_DTD = '<!DOCTYPE brand PUBLIC "-//Sun Microsystems Inc//DTD Brands//EN"\n' \
            '    "file:///usr/share/lib/xml/dtd/brand.dtd.1">'
PLATFORM_DTD = '<!DOCTYPE platform PUBLIC "-//Sun Microsystems Inc//Zones Platform//EN"\n' \
               '    "file:///usr/share/lib/xml/dtd/zone_platform.dtd.1">'
BUNDLE_DTD = '<!DOCTYPE service_bundle SYSTEM "/usr/share/lib/xml/dtd/service_bundle.dtd.1">'

# Of an element: its children in order, `*` many, `?` maybe, none of both exactly one.
ORDER = {
    "brand": "modname? initname restartinit0* restartinit* login_cmd forcedlogin_cmd user_cmd "
             "install installopts? boot? sysboot? halt? shutdown? verify_cfg? verify_adm? "
             "postattach? postclone? postinstall? predetach? attach? detach? clone? presnap? "
             "postsnap? validatesnap? preuninstall? uninstall? prestatechange? poststatechange? "
             "query? privilege*",
    "service_bundle": "service*",
    "service": "create_default_instance? single_instance? restarter? dependency* dependent* "
               "method_context? exec_method* property_group* instance* stability? template?",
    "dependency": "service_fmri* stability? propval*",
    "method_context": "method_profile? method_credential? method_environment?",
    "exec_method": "method_context? stability? propval*",
    "property_group": "stability? propval*",
    "template": "common_name description documentation? pg_pattern*",
    "pg_pattern": "common_name? description? prop_pattern*",
    "prop_pattern": "common_name? description? units? visibility? cardinality? "
                    "internal_separators? values? constraints? choices?",
    "constraints": "value* range*",
    "choices": "value* range* include_values*",
}
ATTRIBUTES = {
    "platform": "name allow-exclusive-ip",
    "global_mount": "special directory type",
    "mount": "special directory type",
    "device": "match",
    "symlink": "source target",
    "privilege": "set name",
    "service": "name version type",
    "dependency": "name grouping restart_on type",
    "exec_method": "type name exec timeout_seconds",
    "property_group": "name type",
    "propval": "name type value",
}


def problems(root):
    """What is not as the rows have it."""
    for element in root.iter():
        for name in ATTRIBUTES.get(element.tag, "").split():
            if name not in element.attrib:
                yield f"<{element.tag}> has no {name}"
        if element.tag in ORDER:
            pattern = "".join(f"(?:{child.rstrip('*?')} ){child[-1] if child[-1] in '*?' else ''}"
                              for child in ORDER[element.tag].split())
            got = "".join(child.tag + " " for child in element)
            if not re.fullmatch(pattern, got):
                yield f"<{element.tag}>: {got}"


class Files:
    def __init__(self, top):
        self.smf = os.path.join(top, "smf")
        self.grammars = os.path.join(os.environ.get("VMM_SHARED") or f"{top}/../shared", "illumos")

    def path(self, name):
        return os.path.join(self.smf, name)

    def text(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def tree(self, name):
        return ET.fromstring(self.text(name).encode())


def xmllint(path, grammar=None):
    command = ["xmllint", "--noout", "--nonet"]
    if grammar:
        command += ["--dtdvalid", grammar]
    return subprocess.run(command + [path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          encoding="utf-8")


def valid(files, name, grammar, doctype):
    assert doctype in files.text(name), f"another DOCTYPE: {name}"
    found = list(problems(files.tree(name)))
    assert not found, found
    grammar = os.path.join(files.grammars, grammar)
    if not os.path.exists(grammar):
        print(f"# NOT CHECKED: grammar of {name}")
        grammar = None
    done = xmllint(files.path(name), grammar)
    assert done.returncode == 0, done.stderr


def rows_and_grammar_agree(files, name, grammar, element):
    """A file with its first two children of the element swapped is one that both refuse."""
    root = files.tree(name)
    parent = next(root.iter(element))
    first = next(i for i in range(len(parent) - 1) if parent[i].tag != parent[i + 1].tag)
    parent[first], parent[first + 1] = parent[first + 1], parent[first]
    assert list(problems(root))
    if not os.path.exists(os.path.join(files.grammars, grammar)):
        print(f"# NOT CHECKED: grammar of {name}")
        return
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        file.write(ET.tostring(root))
        file.flush()
        assert xmllint(file.name, os.path.join(files.grammars, grammar)).returncode != 0


def hooks_are_there(files):
    root = files.tree("brand/vmm/config.xml")
    assert root.get("name") == "vmm" and root.findtext("modname") == ""
    assert root.findtext("restartinit") == "false"
    seen = set()
    for tag in ("initname", "install", "boot", "halt", "shutdown", "uninstall"):
        program, *arguments = root.findtext(tag).split()
        folder, name = os.path.split(program)
        assert folder == "/usr/lib/brand/vmm", program
        mode = os.stat(files.path("brand/vmm/" + name)).st_mode
        assert stat.S_IMODE(mode) == 0o755, name
        assert arguments == ([] if tag in ("initname", "shutdown") else ["%z", "%R"]), tag
        seen.add(name)
    there = set(os.listdir(files.path("brand/vmm"))) - {"config.xml", "platform.xml", "common"}
    assert there == seen, there ^ seen


def privileges_are_enough(files):
    """A zone has the basic privileges and those that the brand gives by default; one that is
    required and in neither makes every zone of the brand invalid."""
    rows = {}
    for p in files.tree("brand/vmm/config.xml").iter("privilege"):
        rows.setdefault(p.get("set"), set()).add((p.get("name"), p.get("ip-type", "all")))
    basic = {(name, "all") for name in ("file_link_any", "net_access", "proc_exec", "proc_fork",
                                        "proc_info", "proc_session")}
    assert rows["required"] <= rows["default"] | basic, rows["required"] - rows["default"] - basic
    assert not rows["prohibited"] & rows["default"]
    need = {"proc_clock_highres", "proc_lock_memory", "sys_admin", "sys_mount", "net_rawaccess",
            "sys_ip_config", "proc_setid", "file_chown"}
    assert need <= {name for name, _ in rows["default"]}


def platform_has_what_a_machine_needs(files):
    root = files.tree("brand/vmm/platform.xml")
    assert (root.get("name"), root.get("allow-exclusive-ip")) == ("vmm", "true")
    mounts = {m.get("directory"): m for m in root.iter("global_mount")}
    for place in ("/usr", "/lib", "/sbin"):
        mount = mounts[place]
        assert (mount.get("special"), mount.get("type")) == (place, "lofs")
        assert {"ro", "nodevices"} <= set(mount.get("opt").split(",")), place
    devices = {device.get("match") for device in root.iter("device")}
    need = "vmm* viona dld net/* rdsk zfs fd pts/* null zero random urandom".split()
    assert set(need) <= devices, set(need) - devices
    assert not any(d.startswith("vmm") for d in devices - {"vmm*"})


def main():
    files = Files(sys.argv[1])
    cases = Cases()
    for name, grammar, doctype in (("brand/vmm/config.xml", "brand.dtd", BRAND_DTD),
                                   ("brand/vmm/platform.xml", "zone_platform.dtd", PLATFORM_DTD),
                                   ("vmmd.xml", "service_bundle.dtd", BUNDLE_DTD)):
        cases.run(f"{os.path.basename(name)} is valid", valid, files, name, grammar, doctype)
    cases.run("G-94: the brand's hooks and its init are there", hooks_are_there, files)
    cases.run("the zone's privileges are enough", privileges_are_enough, files)
    cases.run("G-94: the zone has the host's libraries and a machine's devices",
              platform_has_what_a_machine_needs, files)
    for name, grammar, element in (("brand/vmm/config.xml", "brand.dtd", "brand"),
                                   ("vmmd.xml", "service_bundle.dtd", "service"),
                                   ("vmmd.xml", "service_bundle.dtd", "pg_pattern"),
                                   ("vmmd.xml", "service_bundle.dtd", "prop_pattern")):
        cases.run(f"another order of <{element}> is refused", rows_and_grammar_agree, files, name,
                  grammar, element)
    cases.end()


if __name__ == "__main__":
    main()
