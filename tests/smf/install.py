#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""`meson install` for illumos places the service, the brand and the rights where they belong.

    install.py SOURCE_TOP

A build folder is set up as for illumos, by a cross file, and only what smf/ has is installed of it:
nothing is compiled.
"""

import os
import stat
import subprocess
import sys
import tempfile

from tap import Cases

CROSS = """
[binaries]
c = 'cc'
ar = 'ar'
strip = 'strip'
pkgconfig = 'pkg-config'
[properties]
needs_exe_wrapper = false
[built-in options]
c_link_args = ['-L@stubs@']
[host_machine]
system = 'sunos'
cpu_family = 'x86_64'
cpu = 'x86_64'
endian = 'little'
"""
LIBRARIES = ["contract", "nsl", "socket"]  # of illumos; only looked for
PLACES = """
444 etc/security/auth_attr.d/vmmd
444 etc/security/exec_attr.d/vmmd
444 etc/security/prof_attr.d/vmmd
444 etc/user_attr.d/vmmd
444 lib/svc/manifest/system/vmmd.xml
555 lib/svc/method/vmmd
555 usr/lib/brand/vmm/boot
444 usr/lib/brand/vmm/common
444 usr/lib/brand/vmm/config.xml
555 usr/lib/brand/vmm/halt
555 usr/lib/brand/vmm/init
555 usr/lib/brand/vmm/install
444 usr/lib/brand/vmm/platform.xml
555 usr/lib/brand/vmm/shutdown
555 usr/lib/brand/vmm/uninstall
""".split("\n")[1:-1]


def run(*command, **env):
    done = subprocess.run(command, env=dict(os.environ, **env), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:]


def installed(folder):
    for where, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(where, name)
            yield f"{stat.S_IMODE(os.stat(path).st_mode):o} {os.path.relpath(path, folder)}"


def places(top, folder):
    cross, build, root = (os.path.join(folder, name) for name in ("sunos.ini", "build", "root"))
    for name in LIBRARIES:
        run("cc", "-shared", "-x", "c", "/dev/null", "-o", os.path.join(folder, f"lib{name}.so"))
    with open(cross, "w", encoding="utf-8") as file:
        file.write(CROSS.replace("@stubs@", folder))
    run("meson", "setup", "--cross-file", cross, "--prefix=/opt/vmm", build, top,
        CC="", CFLAGS="")
    run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--tags", "smf", DESTDIR=root)
    found = sorted(installed(root), key=lambda line: line.split()[1])
    assert found == PLACES, (set(found) ^ set(PLACES), found)


def programs(folder):
    with open(folder + "/root/lib/svc/method/vmmd", encoding="utf-8") as file:
        text = file.read()
    assert "bindir='/opt/vmm/bin'\n" in text and "@" not in text.replace('"$@"', "")


def main():
    cases = Cases()
    with tempfile.TemporaryDirectory(prefix="vmm-sunos-") as folder:
        cases.run("what smf has is where illumos looks", places, sys.argv[1], folder)
        cases.run("the method knows where the programs are", programs, folder)
    cases.end()


if __name__ == "__main__":
    main()
