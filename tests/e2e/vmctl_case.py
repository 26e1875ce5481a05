# SPDX-License-Identifier: MPL-2.0
"""What the tests of vmctl share: a folder and an environment of their own, a scripted daemon, and
vmctl on a terminal."""

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

VMCTL, TOP = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
sys.path.insert(0, os.path.join(TOP, "tests/fake"))
import vmmd as fake  # noqa: E402  (found by the line above)

TIMEOUT = 20


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="vmctl-test-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.socket = os.path.join(self.dir, "s")
        self.env = {
            "PATH": os.environ["PATH"], "HOME": self.dir, "LANG": "C.UTF-8", "TERM": "xterm",
            "XDG_RUNTIME_DIR": os.path.join(self.dir, "run"), "VMCTL_NO_AUTOSTART": "1",
        }
        os.mkdir(self.env["XDG_RUNTIME_DIR"], 0o700)
        for key in os.environ:
            if key.endswith("SAN_OPTIONS"):
                self.env[key] = os.environ[key]

    def serve(self, answers):
        daemon = fake.Fake(self.socket, answers)
        self.addCleanup(daemon.close)
        self.env["VMCTL_SOCKET"] = self.socket
        return daemon

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        return path

    def run_vmctl(self, *args, stdin=b"", status=0, **env):
        done = subprocess.run([VMCTL, *args], input=stdin, capture_output=True, cwd=self.dir,
                              env={**self.env, **env}, timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, status, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def start(self, *args, **kwargs):
        process = subprocess.Popen([VMCTL, *args], cwd=self.dir, env=self.env, **kwargs)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        return process


class Terminal:
    """vmctl on a terminal of its own."""

    def __init__(self, case, *args, rows=24, columns=80):
        self.case, self.text = case, b""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = case.start(*args, stdin=slave, stdout=slave, stderr=slave,
                                  start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        case.addCleanup(os.close, self.master)
        case.addCleanup(os.close, slave)

    def until(self, wanted):
        deadline = time.monotonic() + TIMEOUT
        while wanted not in self.text:
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            self.case.assertTrue(ready, f"no {wanted!r} in {self.text!r}")
            self.text += os.read(self.master, 65536)

    def type(self, data):
        os.write(self.master, data)

    def end(self):
        status = self.process.wait(TIMEOUT)
        while select.select([self.master], [], [], 0)[0]:
            self.text += os.read(self.master, 65536)
        self.case.assertEqual(termios.tcgetattr(self.slave), self.before, "not restored")
        return status
