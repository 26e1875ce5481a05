#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Stands in for systemd: hands vmmd a listening socket and hears its notifications.

    activation.py VMMD

As the units promise: ready is told, a reload is told and changes no process, a stop is told and
ends well, the socket and what waits in it belong to the service manager, and machines are there
again after a stop and after a kill.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile

WAIT_S = 20


class Manager:
    """What systemd does for a Type=notify service with a socket."""

    def __init__(self, vmmd, folder):
        self.vmmd, self.folder, self.process = vmmd, folder, None
        self.path = os.path.join(folder, "run", "vmm", "vmmd.sock")
        os.makedirs(os.path.dirname(self.path), 0o700)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(os.path.join(folder, "notify"))
        self.notify.settimeout(WAIT_S)
        self.heard = []

    def start(self):
        env = dict(os.environ, NOTIFY_SOCKET=self.notify.getsockname(), LISTEN_FDS="1",
                   LISTEN_FDNAMES="vmmd", XDG_RUNTIME_DIR=os.path.join(self.folder, "run"),
                   XDG_DATA_HOME=os.path.join(self.folder, "data"),
                   XDG_STATE_HOME=os.path.join(self.folder, "state"),
                   XDG_CONFIG_HOME=os.path.join(self.folder, "config"))
        # LISTEN_PID names the process itself, so a shell sets it and becomes the daemon.
        script = 'exec 3<&"$1"; export LISTEN_PID=$$; exec "$2" --user'
        number = self.listener.fileno()
        self.process = subprocess.Popen(["/bin/bash", "-c", script, "sh", str(number), self.vmmd],
                                        env=env, pass_fds=[number])
        self.hear("READY=1")

    def hear(self, line):
        """Waits for a notification; answers all lines of the one that has it."""
        while True:
            lines = self.notify.recv(4096).decode().splitlines()
            self.heard += lines
            if line in lines:
                return lines

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        if number == signal.SIGTERM:
            self.hear("STOPPING=1")
        return self.process.wait(WAIT_S)

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(WAIT_S)
        client.connect(self.path)
        return client


def call(client, method, **params):
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    client.sendall(json.dumps(request).encode() + b"\n")
    return answer(client)


def answer(client):
    reply = json.loads(client.makefile().readline())
    assert "result" in reply, reply
    return reply["result"]


def states(client):
    return {vm["name"]: vm["state"] for vm in call(client, "vm.list")["vms"]}


def scenario(manager):
    manager.start()
    client = manager.connect()
    call(client, "vm.create", name="quiet", backend="noop", start=True)
    assert states(client) == {"quiet": "running"}, states(client)
    yield "ready is told, and the socket that was passed is served"

    manager.process.send_signal(signal.SIGHUP)
    told = manager.hear("RELOADING=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in told), told
    manager.hear("READY=1")
    assert manager.process.poll() is None
    assert states(client) == {"quiet": "running"}
    yield "a reload is told, and keeps connections and machines"

    assert manager.stop() == 0
    assert os.path.exists(manager.path)
    yield "a stop is told, ends well and leaves the socket"

    waiting = manager.connect()
    waiting.sendall(b'{"jsonrpc":"2.0","id":1,"method":"vm.list"}\n')
    manager.start()
    assert answer(waiting)["vms"][0]["state"] == "running"
    yield "who called meanwhile is answered, and the machine runs"

    assert manager.stop(signal.SIGKILL) == -signal.SIGKILL
    manager.start()
    client = manager.connect()
    assert states(client) == {"quiet": "running"}
    yield "after a kill, too"

    call(client, "vm.destroy", name="quiet")
    call(client, "system.shutdown")
    manager.hear("STOPPING=1")
    assert manager.process.wait(WAIT_S) == 0
    yield "a shutdown by request is told like a stop"


def main():
    with tempfile.TemporaryDirectory() as folder:
        manager = Manager(os.path.abspath(sys.argv[1]), folder)
        done = 0
        try:
            for done, what in enumerate(scenario(manager), 1):
                print(f"ok {done} - {what}", flush=True)
            print(f"1..{done}")
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            print(f"not ok {done + 1} - {error!r}; heard {manager.heard}\n1..{done + 1}")
            return 1
        finally:
            if manager.process and manager.process.poll() is None:
                manager.process.kill()
                manager.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
