# SPDX-License-Identifier: MPL-2.0
"""What the protocol tests share: a server in a folder of its own, clients, and TAP.

A test program defines functions named module__situation__outcome and ends with run(globals()).
"""

import array
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

SECONDS = 60  # no answer takes that long, also under a sanitizer on a busy host


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(SECONDS)
        self.socket.connect(path)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data, fds=()):
        data = data if isinstance(data, bytes) else data.encode()
        if fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            data = data[self.socket.sendmsg([data], rights):]
        self.socket.sendall(data)

    def send_line(self, value, fds=()):
        self.send((value if isinstance(value, str) else json.dumps(value)) + "\n", fds)

    def end_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def read(self):
        """Some bytes; b"" when the other side has closed."""
        try:
            return self.socket.recv(1 << 20)
        except ConnectionResetError:
            return b""

    def read_line(self):
        """A line as text without its newline; None at the end."""
        while b"\n" not in self.buffer:
            more = self.read()
            if not more:
                assert not self.buffer, f"half a line: {self.buffer[:200]}"
                return None
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def answer(self):
        line = self.read_line()
        return None if line is None else json.loads(line)

    def ask(self, value, fds=()):
        self.send_line(value, fds)
        return self.answer()

    def call(self, method, params=None, fds=()):
        request = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params is not None:
            request["params"] = params
        answer = self.ask(request, fds)
        assert answer is not None, f"no answer to {method}"
        return answer


class Server:
    """The stand-in, or another program that takes a socket path, until the block ends."""

    def __init__(self, *options, path=None, env=None, command=None, wait=True):
        self.folder = tempfile.mkdtemp(prefix="vmm-wire-")
        self.path = path or os.path.join(self.folder, "s")
        self.command = command or [sys.argv[1], self.path, *options]
        self.env = dict(os.environ, **(env or {}))
        self.wait = wait
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=self.env, text=True)
        if self.wait:
            assert self.process.stdout.readline() == "ready\n", self.process.stderr.read()
        return self

    def __exit__(self, *_):
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            _, words = self.process.communicate(timeout=SECONDS)
            if self.wait:
                assert self.process.returncode == 0, f"{self.process.returncode}: {words}"
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def client(self):
        return Client(self.path)

    def info(self):
        with self.client() as client:
            return client.call("system.info")["result"]

    def until(self, what, condition):
        """Asks until the condition holds for system.info."""
        end = time.monotonic() + SECONDS
        while not condition(info := self.info()):
            assert time.monotonic() < end, f"not {what}: {info}"

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def until_descriptors(self, count):
        """Also those that clients have just closed are gone."""
        end = time.monotonic() + SECONDS
        while (now := self.descriptors()) != count:
            assert time.monotonic() < end, f"{now} descriptors are open, not {count}"
            time.sleep(0.01)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        raise AssertionError("no VmRSS")


def equal(got, wanted):
    assert got == wanted, f"got {got!r}, not {wanted!r}"


def failed(answer, name, code=None):
    """The answer is the error of that name; its message and data for further looks."""
    assert answer is not None and "error" in answer, f"no error: {answer}"
    error = answer["error"]
    equal(error["data"]["name"], name)
    if code is not None:
        equal(error["code"], code)
    assert error["message"], "an error without words"
    return error


def run(names):
    cases = [(name, value) for name, value in names.items() if "__" in name.strip("_")
             and callable(value)]
    bad = 0
    print(f"1..{len(cases)}", flush=True)
    for number, (name, case) in enumerate(cases, 1):
        try:
            case()
            print(f"ok {number} {name}", flush=True)
        except Exception:  # pylint: disable=broad-except
            bad += 1
            for line in traceback.format_exc().splitlines():
                print(f"# {line}")
            print(f"not ok {number} {name}", flush=True)
    sys.exit(bad != 0)
