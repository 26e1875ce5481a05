# SPDX-License-Identifier: MPL-2.0
"""Runs real vmmd and vmctl on private folders, and cases one after another with a TAP line each.

A case is a function whose name tells what it shows; `run(globals())` runs every function that
begins with "test_", in order of definition.  Nothing here sleeps to wait for something to happen:
waits poll a condition with a deadline, and say which one when it passes.
"""

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

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("VMM_BUILD", os.path.join(TOP, "build"))
VMMD = os.path.join(BUILD, "daemon", "vmmd")
VMCTL = os.path.join(BUILD, "client", "vmctl")


class Failure(Exception):
    pass


def check(condition, *words):
    if not condition:
        raise Failure(" ".join(str(w) for w in words) or "a check failed")


def equal(got, wanted, what=""):
    check(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")


def contains(text, part):
    check(part in text, f"{part!r} is not in: {text}")


def wait_until(what, condition, seconds=30.0):
    """Polls until condition() is true and returns that value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < deadline, f"waited {seconds} s in vain for: {what}")
        time.sleep(0.01)


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(error["message"])
        self.error = error
        self.name = error.get("data", {}).get("name")


class Rpc:
    """One connection, line by line."""

    def __init__(self, path, timeout=60):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.buffer = b""
        self.last_id = 0
        self.notifications = []
        self.answers = {}

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def line(self):
        while b"\n" not in self.buffer:
            data = self.sock.recv(1 << 20)
            if not data:
                raise EOFError("the connection ended")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def begin(self, method, /, **params):
        self.last_id += 1
        self.send(json.dumps({"jsonrpc": "2.0", "id": self.last_id, "method": method,
                              "params": params}) + "\n")
        return self.last_id

    def answer(self, wanted_id):
        """Answers may come in any order."""
        while wanted_id not in self.answers:
            message = self.line()
            if "method" in message:
                self.notifications.append(message)
            else:
                self.answers[message["id"]] = message
        message = self.answers.pop(wanted_id)
        if "error" in message:
            raise RpcError(message["error"])
        return message["result"]

    def call(self, method, /, **params):
        return self.answer(self.begin(method, **params))

    def close(self):
        self.sock.close()


class Host:
    """A daemon of its own on folders of its own."""

    def __init__(self, base=None, env=None):
        self.dir = base or tempfile.mkdtemp(prefix="vmm-e2e-")
        self.data = os.path.join(self.dir, "data")
        self.runtime = os.path.join(self.dir, "run")
        self.socket = os.path.join(self.runtime, "vmmd.sock")
        self.log_path = os.path.join(self.dir, "vmmd.log")
        self.process = None
        self.env = dict(os.environ, HOME=self.dir, VMCTL_SOCKET=self.socket,
                        XDG_CONFIG_HOME=os.path.join(self.dir, "config"), **(env or {}))
        for name in ("XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "LISTEN_FDS"):
            self.env.pop(name, None)

    # -- the daemon --

    def start(self, *args, wait=True, env=None):
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [VMMD, "--user", "--data-dir", self.data, "--runtime-dir", self.runtime, *args],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(self.env, **(env or {})))
        log.close()
        if wait:
            wait_until("vmmd to listen", self.listening, 60)
        return self

    def listening(self):
        if self.process.poll() is not None:
            raise Failure(f"vmmd ended with {self.process.returncode}")
        try:
            connection = Rpc(self.socket)
            connection.call("system.hello", protocol=1)  # a socket alone may be of a killed one
            connection.close()
            return True
        except (OSError, EOFError):
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self, how="kill"):
        if how == "kill":
            self.kill()
        else:
            self.stop()
        self.start()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        return self.process.returncode if self.process else None

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    # -- what is asked of it --

    def rpc(self, timeout=60):
        return Rpc(self.socket, timeout)

    def call(self, method, /, **params):
        connection = self.rpc(600)
        try:
            return connection.call(method, **params)
        finally:
            connection.close()

    def vmctl(self, *args, status=0, cwd=None, input=None, timeout=600, env=None, text=True):
        """Runs vmctl; checks its exit status unless status is None."""
        done = subprocess.run([VMCTL, *map(str, args)], cwd=cwd or self.dir, input=input, text=text,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                              stdin=subprocess.DEVNULL if input is None else None,
                              env=dict(self.env, **(env or {})))
        if status is not None and done.returncode != status:
            raise Failure(f"vmctl {' '.join(map(str, args))} ended with {done.returncode}, not "
                          f"{status}\nstdout: {done.stdout}\nstderr: {done.stderr}")
        return done

    def json(self, *args, **kwargs):
        return json.loads(self.vmctl("--json", *args, **kwargs).stdout)

    def vm(self, name):
        return self.call("vm.get", name=name)

    def names(self):
        return [vm["name"] for vm in self.call("vm.list")["vms"]]

    def project(self, text, folder="project"):
        """Writes a VMFile into a folder of its own and returns the folder."""
        path = os.path.join(self.dir, folder)
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "VMFile.yaml"), "w") as f:
            f.write(text)
        return path

    # -- the end --

    def close(self):
        """Ends the daemon and every machine that it left, then removes the folders."""
        try:
            if self.process and self.process.poll() is not None:
                self.start()
            for vm in self.call("vm.list")["vms"]:
                self.call("vm.destroy", name=vm["name"], force=True)
        except Exception as e:  # the folder is still removed, and the case has told its own failure
            print(f"# while cleaning up: {e}")
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


def process_exists(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end while it is read
        return False


def guest_image():
    """The path of the test guest's image, made if need be."""
    done = subprocess.run([os.path.join(TOP, "tests", "guest", "build")], check=True, text=True,
                          stdout=subprocess.PIPE)
    return done.stdout.strip()


def run(names, hosts=()):
    """Runs the cases; hosts: what to close and whose logs to show on failure."""
    cases = [(n, f) for n, f in names.items() if n.startswith("test_") and callable(f)]
    only = sys.argv[1:]
    if only:
        cases = [(n, f) for n, f in cases if any(word in n for word in only)]
    print(f"1..{len(cases)}", flush=True)
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for number, (name, case) in enumerate(cases, 1):
            try:
                case()
                print(f"ok {number} - {name}", flush=True)
            except Exception:
                failed += 1
                for line in traceback.format_exc().splitlines():
                    print(f"# {line}")
                for host in hosts() if callable(hosts) else hosts:
                    for line in host.log().splitlines()[-40:]:
                        print(f"#   {line}")
                print(f"not ok {number} - {name}", flush=True)
    finally:
        for host in hosts() if callable(hosts) else hosts:
            host.close()
    sys.exit(1 if failed else 0)
