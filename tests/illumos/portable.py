#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Builds the whole configuration for illumos on this host, and looks at what it calls.

    portable.py SOURCE WORK

meson is told that the host is a sunos, so that it chooses the files as it will there; what illumos
has beside POSIX comes from the declarations in include/ and from libraries made of stub/.  Nothing
of it is meant to run.  Then: every *_illumos.c of the tree was compiled, no file of Linux was, and
no object asks the C library for anything that POSIX 2008 does not have.
"""

import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
INCLUDE = os.path.join(HERE, "include")
STRICT = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-D_XOPEN_SOURCE=700", "-D_FILE_OFFSET_BITS=64"]

# Of POSIX 2008 and of C11.
HEADERS = """
    aio arpa/inet assert complex cpio ctype dirent dlfcn errno fcntl fenv float fmtmsg fnmatch ftw
    glob grp iconv inttypes iso646 langinfo libgen limits locale math monetary mqueue net/if netdb
    netinet/in netinet/tcp nl_types poll pthread pwd regex sched search semaphore setjmp signal spawn
    stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings sys/ipc
    sys/mman sys/msg sys/resource sys/select sys/sem sys/shm sys/socket sys/stat sys/statvfs sys/time
    sys/times sys/types sys/uio sys/un sys/utsname sys/wait syslog tar termios tgmath threads time
    uchar ulimit unistd utime utmpx wchar wctype wordexp
    """.split()
# On both systems beside the standards: getopt_long, the lists of BSD, the size of a terminal.
BOTH_HEADERS = ["getopt", "sys/ioctl", "sys/queue"]
BOTH_CALLS = {"getopt_long", "ioctl"}
# In POSIX, but in illumos only since 2025.
TOO_NEW = {"dprintf", "vdprintf"}
# How the library calls what a standard's macro or a variable of it stands for.
INSIDE = re.compile(r"__\w+|environ|opt(arg|err|ind|opt)|std(in|out|err)|timezone|daylight|tzname")
LIBRARIES = ["archive", "archive_entry", "bzlib", "libssh2", "lzma", "sqlite3", "uthash", "yaml",
             "zlib", "zstd", "zstd_errors"]
LIBRARY_FOLDERS = ("curl/", "event2/", "json-c/", "openssl/")

STUBS = {"contract": "contract.c", "illumos": "libc.c", "socket": None, "nsl": None}

problems = 0


def check(ok, name, *details):
    global problems
    print(("ok" if ok else "not ok") + " - " + name, flush=True)
    if not ok:
        problems += 1
        for detail in details:
            print("  " + detail)


def run(command, **kwargs):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", errors="replace", **kwargs)


def make_stubs(folder):
    os.makedirs(folder, exist_ok=True)
    for name, source in STUBS.items():
        path = os.path.join(HERE, "stub", source) if source else "/dev/null"
        made = run(["gcc", *STRICT, "-w", "-shared", "-fPIC", "-I" + INCLUDE, "-x", "c", path,
                    "-o", os.path.join(folder, f"lib{name}.so")])
        if made.returncode:
            sys.exit(f"{made.stdout}\nthe library {name} can not be made")


def write_cross(path, stubs):
    compiler = ["ccache", "gcc"] if shutil.which("ccache") else ["gcc"]
    link = ["-L" + stubs, "-Wl,--no-as-needed", "-lillumos", "-Wl,--as-needed", "-Wl,--no-undefined"]
    text = f"""
[binaries]
c = {compiler}
ar = 'ar'
strip = 'strip'
pkgconfig = 'pkg-config'
[properties]
needs_exe_wrapper = false
[built-in options]
c_args = {["-I" + INCLUDE]}
c_link_args = {link}
[host_machine]
system = 'sunos'
cpu_family = 'x86_64'
cpu = 'x86_64'
endian = 'little'
"""
    if os.path.exists(path) and open(path, encoding="utf-8").read() == text:
        return False
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return True


def build(source, work):
    stubs = os.path.join(work, "lib")
    folder = os.path.join(work, "build")
    cross = os.path.join(work, "illumos.ini")
    make_stubs(stubs)
    if write_cross(cross, stubs) or not os.path.exists(os.path.join(folder, "build.ninja")):
        shutil.rmtree(folder, ignore_errors=True)
        made = run(["meson", "setup", "--cross-file", cross, "-Dbuildtype=plain", folder, source])
        if made.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            check(False, "meson configures it for illumos", *made.stdout.splitlines()[-20:])
            return None
    # Completions are printed by the vmctl that was just linked.
    env = dict(os.environ, LD_LIBRARY_PATH=stubs)
    made = run(["ninja", "-k", "0", "-C", folder], env=env)
    check(made.returncode == 0, "all of it compiles and links, nothing is missing",
          *[line for line in made.stdout.splitlines()
            if re.search(r": (fatal )?error:|undefined reference|ERROR", line)][:40])
    return folder if made.returncode == 0 else None


def compiled(folder):
    """Source, as in the tree, to object."""
    with open(os.path.join(folder, "compile_commands.json"), encoding="utf-8") as file:
        rows = json.load(file)
    top = os.path.dirname(os.path.dirname(HERE))
    return {os.path.relpath(os.path.join(row["directory"], row["file"]), top):
            os.path.join(row["directory"], row["output"]) for row in rows}


def sources(top):
    for base, folders, files in os.walk(top):
        folders[:] = [f for f in folders if not f.startswith((".", "build"))]
        yield from (os.path.relpath(os.path.join(base, f), top) for f in files)


def names_of(headers, *options):
    """What headers declare: whatever stands before a bracket."""
    text = "".join(f"#include <{h}.h>\n" for h in headers)
    out = subprocess.run(["gcc", *STRICT, *options, "-E", "-x", "c", "-"], input=text, check=True,
                         stdout=subprocess.PIPE, encoding="utf-8", errors="replace").stdout
    return set(re.findall(r"\b([A-Za-z_]\w*)\s*\(", out)) | \
        set(re.findall(r'__asm__\s*\(""\s*"(\w+)"', out))


def symbols(path, *options):
    out = run(["nm", *options, path]).stdout
    return {line.split()[-1].split("@")[0] for line in out.splitlines() if line.strip()}


def c_library():
    found = set()
    for name in ("libc.so.6", "libm.so.6"):
        path = run(["gcc", "-print-file-name=" + name]).stdout.strip()
        found |= symbols(path, "-D", "--defined-only")
    return found


def own_headers():
    for base, _, files in os.walk(INCLUDE):
        yield from (os.path.relpath(os.path.join(base, f), INCLUDE)[:-2] for f in files)


def check_calls(objects):
    library, posix = c_library(), names_of(HEADERS) - TOO_NEW
    illumos = names_of(own_headers(), "-I" + INCLUDE)
    bad = []
    for source, path in sorted(objects.items()):
        allowed = posix | BOTH_CALLS | (illumos if source.endswith("_illumos.c") else set())
        bad += [f"{source} calls {name}" for name in sorted(symbols(path, "-u") & library - allowed)
                if not INSIDE.fullmatch(name)]
    check(not bad, "no call that POSIX 2008 does not have", *bad,
          "(say it in POSIX, or ask lib/base/platform.h)")


def check_headers(top, objects):
    known = set(HEADERS) | set(BOTH_HEADERS) | set(LIBRARIES)
    bad = []
    for source in sorted(objects):
        here = known | (set(own_headers()) if source.endswith("_illumos.c") else set())
        with open(os.path.join(top, source), encoding="utf-8") as file:
            bad += [f"{source} includes <{name}.h>"
                    for name in re.findall(r"^#include <(.+)\.h>", file.read(), re.M)
                    if name not in here and not name.startswith(LIBRARY_FOLDERS)]
    check(not bad, "no header that illumos does not have", *bad)


def main():
    top, work = map(os.path.abspath, sys.argv[1:])
    folder = build(top, work)
    if folder is None:
        return 1
    objects = compiled(folder)
    for_illumos = {f for f in sources(top) if f.endswith("_illumos.c")}
    check(for_illumos and for_illumos <= set(objects), "every *_illumos.c is compiled",
          *sorted(for_illumos - set(objects)))
    of_linux = [f for f in objects if f.endswith("_linux.c")]
    check(not of_linux, "no *_linux.c is", *of_linux)
    check_calls(objects)
    check_headers(top, objects)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
