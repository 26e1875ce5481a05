# SPDX-License-Identifier: MPL-2.0
"""A machine of the daemon, and the same command line started by hand: what benchmarks share."""

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def run(*argv, **more):
    subprocess.run(argv, check=True, **(QUIET | more))


def report(title, aim, ours, hand, unit="s"):
    def text(values):
        return f"{statistics.median(values):.3f} {unit} ({min(values):.3f}..{max(values):.3f})"

    print(f"{title}: {text(ours)}; by hand: {text(hand)}; "
          f"ratio {statistics.median(ours) / statistics.median(hand):.3f}; aim {aim}", flush=True)


class Monitor:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rwb")
        self.file.readline()  # the greeting
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                sys.exit(f"bench: {command}: {answer['error']}")

    def run(self):
        self.call("cont")
        while not self.call("query-status")["running"]:
            pass

    def close(self):
        self.file.close()
        self.socket.close()


class Recipe:
    """The command line of a running machine, to be used again with things of our own."""

    def __init__(self, pid):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            self.argv = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
        self.program = os.readlink(f"/proc/{pid}/exe")
        # QEMU has other numbers for the files that it was given: who uses a set tells what it is.
        image = next((link for link in self.links(pid) if "/images/sha256-" in link), None)
        users = {"console0": "console.log", "image-file": image, "seed-file": "seed"}
        self.files = {}  # descriptor: what it is; None: nothing that matters
        for word in self.argv:
            match = re.match(r"fd=(\d+),set=(\d+)$", word)
            if match:
                user = next((u for w in self.argv if f"/dev/fdset/{match[2]}" in w
                             for u in users if u in w), None)
                self.files[int(match[1])] = users.get(user)

    @staticmethod
    def links(pid):
        for name in os.listdir(f"/proc/{pid}/fd"):
            yield os.readlink(f"/proc/{pid}/fd/{name}")

    def launch(self, folder, disk, seed=None, change=None):
        """Starts it in `folder`, with its processors running; the process and its monitor.
        change: of a word of its command line."""
        actions, opened, listeners = [], [], []

        def give(number, fd):
            # Above every number that is given, so that none is overwritten.
            high = os.dup2(fd, 100 + len(opened))
            os.close(fd)
            opened.append(high)
            actions.append((os.POSIX_SPAWN_DUP2, high, number))

        argv = [change(word) for word in self.argv] if change else list(self.argv)
        for i, word in enumerate(argv):
            match = re.match(r"socket,id=(\w+),fd=(\d+),", word)
            if match:
                listener = socket.socket(socket.AF_UNIX)
                path = os.path.join(folder, match[1])
                if os.path.exists(path):
                    os.unlink(path)
                listener.bind(path)
                listener.listen(1)
                listeners.append(listener)
                give(int(match[2]), os.dup(listener.fileno()))
            if word.startswith("{") and "disk.qcow2" in word:
                node = json.loads(word)
                node["filename"] = disk
                argv[i] = json.dumps(node)
        for number, path in self.files.items():
            if path == "console.log":
                fd = os.open(os.path.join(folder, path),
                             os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            else:
                fd = os.open((seed if path == "seed" else path) or "/dev/null", os.O_RDONLY)
            give(number, fd)
        null = os.open("/dev/null", os.O_RDWR)
        words = os.open(folder + "/hand.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        actions += [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, words, 1),
                    (os.POSIX_SPAWN_DUP2, words, 2)]
        pid = os.posix_spawn(self.program, argv, os.environ, file_actions=actions)
        # Nobody but the child listens now: when it ends, so does the wait for its greeting.
        for fd in opened + [null, words]:
            os.close(fd)
        for listener in listeners:
            listener.close()
        try:
            monitor = Monitor(os.path.join(folder, "monitor0"))
            monitor.run()
        except (OSError, ValueError):
            with open(folder + "/hand.log", encoding="utf-8", errors="replace") as words:
                sys.exit(f"bench: QEMU by hand: {words.read()}")
        return pid, monitor


def end(pid, monitor):
    monitor.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


class Daemon:
    def __init__(self, options, folder):
        self.vmctl, self.path = options.vmctl, os.path.join(folder, "s")
        config = os.path.join(folder, "vmmd.yaml")
        with open(config, "w", encoding="ascii") as file:
            file.write(f"accel: {options.accel}\n")
        self.process = subprocess.Popen(
            [options.vmmd, "--config", config, "--socket", self.path, "--data-dir",
             folder + "/data", "--runtime-dir", folder + "/run"], **QUIET)
        while subprocess.run([*self.command("list")], check=False, **QUIET).returncode != 0:
            if self.process.poll() is not None:
                sys.exit(f"bench: vmmd ended with status {self.process.returncode}")

    def command(self, *words):
        return [self.vmctl, "--socket", self.path, *words]

    def run(self, *words, cwd=None):
        done = subprocess.run(self.command(*words), check=False, capture_output=True, text=True,
                              cwd=cwd)
        if done.returncode != 0:
            sys.exit(f"bench: vmctl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def status(self, name):
        return json.loads(self.run("rpc", "vm.get", f"name={name}"))

    def close(self):
        self.process.terminate()
        self.process.wait()


def guest_image():
    build = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "guest", "build")
    return subprocess.run([build], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
