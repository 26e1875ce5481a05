#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Does what the pages tell people to do, on a private daemon and without a hypervisor.

    examples.py PAGE...

Of each page, in order, in a folder of its own:
    ```yaml file=NAME        is written to NAME
    ```sh run                is run by bash; `status=N` after it is the status that it ends with
    ```text output           is what the run before it prints; `…` stands for anything in a line
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BUILD = os.environ["VMM_BUILD"]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.S | re.M)


def start(folder):
    """A daemon on its own folders; returns its process and the environment for its clients."""
    run, home = os.path.join(folder, "run"), os.path.join(folder, "home")
    os.mkdir(home)
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(("XDG_", "VMCTL_", "VMM_"))}
    env.update(HOME=home, VMCTL_SOCKET=os.path.join(run, "vmmd.sock"),
               PATH=os.pathsep.join([f"{BUILD}/client", f"{BUILD}/daemon", env["PATH"]]))
    with open(os.path.join(folder, "log"), "w") as log:
        daemon = subprocess.Popen(["vmmd", "--runtime-dir", run, "--data-dir", f"{folder}/data"],
                                  env=env, stderr=log, executable=f"{BUILD}/daemon/vmmd")
    deadline = time.monotonic() + 20
    while subprocess.run(["vmctl", "list"], env=env, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"vmmd does not serve: {open(os.path.join(folder, 'log')).read()}")
    return daemon, env


def matches(pattern, line):
    parts = [re.escape(part) for part in re.split(" *… *", pattern)]
    return re.fullmatch(r"\s*.*?".join(parts), line.rstrip()) is not None


def differs(wanted, got):
    """The first line that is not as the page has it; None: all are."""
    wanted, got = wanted.rstrip("\n").split("\n"), got.rstrip("\n").split("\n")
    for i in range(max(len(wanted), len(got))):
        here = got[i] if i < len(got) else "(nothing)"
        if i >= len(wanted) or not matches(wanted[i], here):
            return f"the page has '{wanted[i] if i < len(wanted) else '(nothing)'}', " \
                   f"it printed '{here}'"
    return None


def run(commands, folder, env):
    """Its status, as text, and what it printed; what it left running after a minute is ended."""
    shell = subprocess.Popen(["bash", "-euo", "pipefail", "-c", commands], cwd=folder, env=env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, encoding="utf-8", start_new_session=True)
    try:
        printed, _ = shell.communicate(timeout=60)
        return str(shell.returncode), printed
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        return "none after a minute", shell.communicate()[0]


def check_page(page, folder, env):
    ran, bad, printed = 0, 0, ""
    text = open(page, encoding="utf-8").read()
    # Stands for the image that people bring: the no-op backend wants a file and no more.
    with open(os.path.join(folder, "debian-12.qcow2"), "wb") as image:
        image.truncate(1 << 20)
    for match in FENCE.finditer(text):
        words, body = match[1].split(), match[2]
        where = f"{os.path.basename(page)}:{text.count(chr(10), 0, match.start()) + 1}"
        options = dict(word.split("=") for word in words if "=" in word)
        if "file" in options:
            with open(os.path.join(folder, options["file"]), "w", encoding="utf-8") as file:
                file.write(body)
        elif "run" in words:
            ran += 1
            status, printed = run(body, folder, env)
            if status != options.get("status", "0"):
                bad += 1
                print(f"{where}: status {status}\n{printed}")
        elif "output" in words:
            problem = differs(body, printed)
            if problem:
                bad += 1
                print(f"{where}: {problem}\n{printed}")
    print(f"{os.path.basename(page)}: {ran} examples, {bad} wrong")
    return ran, bad


def main():
    total = wrong = 0
    for page in sys.argv[1:]:
        folder = tempfile.mkdtemp(prefix="vmm-docs-")
        work = os.path.join(folder, "hello")
        os.mkdir(work)
        daemon, env = start(folder)
        try:
            ran, bad = check_page(page, work, env)
        finally:
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
            shutil.rmtree(folder, ignore_errors=True)
        total, wrong = total + ran, wrong + bad
    if not total:
        print("no page has an example")
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main())
