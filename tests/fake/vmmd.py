#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""A scripted vmmd: answers what a test tells it to, and remembers what it was asked.

As a module: Fake(path, {method: answer}).  An answer is a result, an Error, or a function of a Call
that may send notifications, read more and upgrade the connection.  As a program named vmmd it
listens where a user's vmmd does, for the tests of starting one.
"""

import array
import json
import os
import socket
import struct
import sys
import threading

VERSION = "0.1.0"


class Error(Exception):
    def __init__(self, code, name, message, **data):
        super().__init__(message)
        self.object = {"code": code, "message": message, "data": {"name": name, **data}}


class Call:
    """One request on its connection."""

    def __init__(self, connection, request, fds):
        self.connection, self.id, self.fds = connection, request.get("id"), fds
        self.method, self.params = request["method"], request.get("params", {})

    def send(self, **message):
        line = json.dumps({"jsonrpc": "2.0", **message}) + "\n"
        self.connection.socket.sendall(line.encode())

    def notify(self, method, **params):
        self.send(method=method, params=params)

    def progress(self, **params):
        self.notify("operation.progress", **params)

    def upgrade(self, result=None):
        """Answers now; returns the socket, and the bytes that came with the request."""
        self.send(id=self.id, result=result or {})
        self.connection.upgraded = True
        return self.connection.socket, self.connection.rest

    def next_request(self):
        request, fds = self.connection.read()
        return Call(self.connection, request, fds)


class Connection:
    def __init__(self, fake, sock):
        self.fake, self.socket = fake, sock
        self.rest, self.fds, self.upgraded = b"", [], False

    def read(self):
        while b"\n" not in self.rest:
            data, control, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(253 * 4))
            for _, kind, payload in control:
                if kind == socket.SCM_RIGHTS:
                    numbers = array.array("i")
                    numbers.frombytes(payload[: len(payload) // 4 * 4])
                    self.fds += list(numbers)
            if not data:
                raise EOFError
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        fds, self.fds = self.fds, []
        return json.loads(line), fds

    def serve(self):
        try:
            while not self.upgraded:
                request, fds = self.read()
                self.answer(Call(self, request, fds))
        except (EOFError, OSError):
            pass
        finally:
            self.socket.close()

    def answer(self, call):
        self.fake.calls.append(call)
        answer = self.fake.answers.get(call.method)
        try:
            if call.method not in self.fake.answers:
                raise Error(-32601, "method_not_found", f"no answer to {call.method}")
            if isinstance(answer, Error):
                raise answer
            if callable(answer):
                answer = answer(call)
            if not self.upgraded:
                call.send(id=call.id, result=answer)
        except Error as error:
            call.send(id=call.id, error=error.object)
        for fd in call.fds:
            os.close(fd)


class Fake:
    def __init__(self, path, answers):
        self.path, self.calls = path, []
        self.answers = {"system.hello": {"protocol": 1, "version": VERSION}, **answers}
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            connection = Connection(self, sock)
            threading.Thread(target=connection.serve, daemon=True).start()

    def close(self):
        # Closed under its feet, accept could go on with the number of the next one's listener.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def asked(self, method):
        return [call for call in self.calls if call.method == method]


STDIN, STDOUT, STDERR, STDIN_END, WINDOW, EXIT = range(6)


def frame(kind, data):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return struct.pack(">BI", kind, len(data)) + data


def frames(sock, rest=b""):
    """The frames that come, until the end."""
    while True:
        while len(rest) < 5 or len(rest) - 5 < struct.unpack(">BI", rest[:5])[1]:
            data = sock.recv(65536)
            if not data:
                return
            rest += data
        kind, size = struct.unpack(">BI", rest[:5])
        yield kind, rest[5 : 5 + size]
        rest = rest[5 + size :]


def main():
    complaint = os.environ.get("FAKE_COMPLAINT")
    if complaint:
        sys.exit(complaint)
    folder = os.path.join(os.environ["XDG_RUNTIME_DIR"], "vmm")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, "vmmd.sock")
    end = threading.Event()
    answers = {
        "vm.list": {"vms": []},
        "system.info": {"version": VERSION, "pid": os.getpid()},
        "system.shutdown": lambda call: (end.set(), {"pid": os.getpid()})[1],
    }
    try:
        Fake(path, answers)
    except OSError:
        sys.exit("vmmd: another one is running")
    with open(os.path.join(folder, "started"), "a", encoding="ascii") as started:
        started.write(f"{os.getpid()}\n")
    end.wait(60)
    os.unlink(path)


if __name__ == "__main__":
    main()
