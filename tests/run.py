#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The runner behind scripts/test.

A suite is a list of parts, a part some tests of one build folder, named as meson knows them.  What
is not in the tables here is found in meson: a new suite in a meson.build needs no change.
"""

import collections
import fnmatch
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

PROPOLIS = "-Dpropolis=enabled"  # its fakes run everywhere

# The build folders, and what makes each of them different.
BUILDS = {
    "build": {"setup": [PROPOLIS]},
    "build-clang": {"setup": [PROPOLIS], "env": {"CC": "clang"}},
    "build-asan": {"setup": [PROPOLIS, "-Db_sanitize=address,undefined", "-Db_lundef=false"]},
    "build-tsan": {"setup": [PROPOLIS, "-Db_sanitize=thread", "-Db_lundef=false"]},
}

SANITIZE = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
    "VMM_SANITIZE": "1",
}

Part = collections.namedtuple("Part", "build suites tests env", defaults=((), (), {}))

# Suites that are more than the meson suite of the same name; every other one is found in meson.
SPECIAL = {
    "lint": [
        Part("build", suites=("lint",)),
        Part("build-clang", suites=("unit",)),
    ],
    "fuzz": [Part("build-asan", suites=("fuzz",), env=SANITIZE)],
    "sanitize": [
        Part("build-asan", suites=("unit", "protocol", "e2e"), env=SANITIZE),
        Part("build-asan", suites=("sanitize-guest",), env=SANITIZE),
        Part("build-tsan", tests=("loop", "process", "store", "image", "ssh*", "sink", "fetch_h*",
                              "protocol*", "010-*", "020-*"), env=SANITIZE),
    ],
}
# The quick and basic ones first, so that a broken thing fails early.
ORDER = ["lint", "portable", "unit", "protocol", "install", "smf", "e2e", "guest", "fuzz", "sanitize"]
# These need the image of the real guest: it is made while the others are built and run.
WITH_GUEST = {"e2e", "guest", "sanitize", "bench"}
NOT_BY_DEFAULT = {"bench", "sanitize-guest"}


def run(command, **kwargs):
    return subprocess.run(command, cwd=TOP, **kwargs).returncode


def prepare(name):
    """Sets the build folder up when it is new, and builds it."""
    build = BUILDS[name]
    env = dict(os.environ, **build.get("env", {}))
    if "CC" not in env and os.path.exists("/usr/bin/ccache"):
        env["CC"] = "ccache gcc"
    if not os.path.exists(os.path.join(TOP, name, "build.ninja")):
        setup = ["meson", "setup", name] + build.get("setup", [])
        if run(setup, env=env, stdout=subprocess.DEVNULL):
            sys.exit(f"test: '{' '.join(setup)}' failed")
    made = subprocess.run(["ninja", "-C", name], cwd=TOP, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    if made.returncode:
        sys.exit(f"{made.stdout}\ntest: {name} does not build")


def known_tests(name="build"):
    text = subprocess.run(["meson", "introspect", "--tests", name], cwd=TOP, check=True,
                          stdout=subprocess.PIPE).stdout
    return [(t["name"], [s.split(":")[-1] for s in t["suite"]]) for t in json.loads(text)]


def count(path):
    """Cases passed, failed and skipped of one run; a test without cases is one."""
    passed = failed = skipped = 0
    for case in ET.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def show_failures(path):
    """What failed TAP tests printed; meson shows their stderr only."""
    with open(path, encoding="utf-8") as log:
        for test in map(json.loads, log):
            if test["result"] in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT"):
                lines = [line for line in test.get("stdout", "").splitlines()
                         if not line.startswith("ok ")]
                print(f"-- {test['name']} printed:", *lines[:150], sep="\n", flush=True)


def run_part(part):
    prepare(part.build)
    base = "scripts-test"
    command = ["meson", "test", "-C", part.build, "--no-rebuild", "--print-errorlogs",
               "--logbase", base, "--timeout-multiplier", "4" if part.env else "1"]
    tests = known_tests(part.build)
    if part.suites:
        wanted = [s for s in part.suites if any(s in suites for _, suites in tests)]
        command += [arg for suite in wanted for arg in ("--suite", suite)]
    else:
        wanted = [n for n, _ in tests if any(fnmatch.fnmatch(n, t) for t in part.tests)]
        command += wanted
    if not wanted:
        return 0, 0, 0
    logs = os.path.join(TOP, part.build, "meson-logs", base)
    junit = logs + ".junit.xml"
    if os.path.exists(junit):
        os.unlink(junit)
    status = run(command, env=dict(os.environ, **part.env))
    passed, failed, skipped = count(junit) if os.path.exists(junit) else (0, 0, 0)
    if status:
        failed = failed or 1
        show_failures(logs + ".json")
    return passed, failed, skipped


def run_suite(suite):
    start = time.monotonic()
    print(f"== {suite}", flush=True)
    total = [0, 0, 0]
    for part in SPECIAL.get(suite, [Part("build", suites=(suite,))]):
        total = [a + b for a, b in zip(total, run_part(part))]
    return total, time.monotonic() - start


def main():
    start = time.monotonic()
    image = None
    if not sys.argv[1:] or WITH_GUEST & set(sys.argv[1:]):
        image = subprocess.Popen([os.path.join(TOP, "tests/guest/build")],
                                 stdout=subprocess.DEVNULL)
    prepare("build")
    found = {suite for _, suites in known_tests() for suite in suites}
    suites = [s for s in ORDER if s in found or s in SPECIAL]
    suites += sorted(found - set(suites))
    if sys.argv[1:] == ["--list"]:
        print("\n".join(suites))
        return 0
    for name in sys.argv[1:]:
        if name not in suites:
            print(f"test: no suite '{name}'; there are: {' '.join(suites)}", file=sys.stderr)
            return 2
    wanted = sys.argv[1:] or [s for s in suites if s not in NOT_BY_DEFAULT]

    total = [0, 0, 0]
    times = []
    for suite in wanted:
        if image and suite in WITH_GUEST and image.wait():
            sys.exit("test: the guest's image could not be made")
        counts, seconds = run_suite(suite)
        total = [a + b for a, b in zip(total, counts)]
        times.append((suite, seconds, counts))
    print()
    for suite, seconds, (passed, failed, skipped) in times:
        print(f"{suite:12} {seconds:7.1f} s  {passed:5} passed {failed:3} failed {skipped:3} skipped")
    print(f"{'all':12} {time.monotonic() - start:7.1f} s")
    print("%d passed, %d failed, %d skipped" % tuple(total))
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
