# SPDX-License-Identifier: MPL-2.0
"""What the tests of the fake propolis-server share: a server in a folder of its own, calls,
WebSockets, and bodies.

Every exchange that a server wrote down is looked at when it ends: what it took must be what the
rows and the API's description allow.  (What they say to the rest is the business of tests.)
"""

import base64
import contextlib
import copy
import functools
import http.client
import json
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import exchange_rows
import openapi
from wire import SECONDS, equal

FAKE = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "fake")
API = openapi.api()
COMPILED = tempfile.TemporaryDirectory(prefix="vmm-fake-")  # once for all servers
ZERO = "00000000-0000-0000-0000-000000000000"
IDENT = "11111111-2222-4333-8444-555555555555"
VERSIONS = ("1.0.0", "5.0.0")
PROPERTIES = {
    "id": IDENT, "name": "web", "description": "a test",
    "metadata": {"silo_id": ZERO, "project_id": ZERO, "sled_id": ZERO, "sled_serial": "none",
                 "sled_revision": 0, "sled_model": "none"}}


def part(kind, **fields):
    return {"type": kind, "component": fields}


def pci(device, function=0, bus=0):
    return {"bus": bus, "device": device, "function": function}


def changed(value, path, new):
    """A copy with the field at that path replaced; DROP: taken out."""
    out = copy.deepcopy(value)
    at = out
    *names, last = path.split("/")
    for name in names:
        at = at[int(name) if isinstance(at, list) else name]
    if new is DROP:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = new
    return out


DROP = object()


class Answer:
    def __init__(self, status, body, headers):
        self.status, self.headers, self.text = status, headers, body
        self.json = json.loads(body) if body else None

    def refused(self, status, code=None, words=""):
        """The answer is an error of that kind."""
        equal((self.status, self.json.get("error_code") if code else None), (status, code))
        assert self.json["request_id"] and words in self.json["message"], self.json
        return self


class Server:
    def __init__(self, newest="5.0.0", zone="z", vnc=False, **settings):
        self.settings, self.zone, self.vnc = {"max_version": newest, **settings}, zone, vnc
        self.version = newest
        self.allowed = []  # words of problems that the test wants to be there

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="vmm-fake-")
        os.mkdir(self.path("server-commands"))
        self.bootrom, self.disk = self.path("rom"), self.path("disk")
        for path, size in ((self.bootrom, 4096), (self.disk, 1 << 20)):
            with open(path, "wb") as file:
                file.truncate(size)
        self.faults()
        self.process = subprocess.Popen(
            [os.path.join(FAKE, "propolis-server"), "run", self.bootrom, "127.0.0.1:0"]
            + ["127.0.0.1:0"] * self.vnc,
            stdout=subprocess.PIPE, text=True, env={
                **os.environ, "PYTHONPYCACHEPREFIX": COMPILED.name,
                "VMM_FAKE_DIR": self.folder, "VMM_FAKE_ZONE": self.zone})
        line = self.process.stdout.readline()
        ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", line)]
        self.port, self.vnc_port = ports[0], ports[-1]
        return self

    def __exit__(self, kind, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        try:
            if kind is None:
                self.check_exchanges()
        finally:
            shutil.rmtree(self.folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, value):
        with open(self.path(name + ".part"), "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.rename(self.path(name + ".part"), self.path(name))

    def faults(self, *rules, **settings):
        """The rules, and the settings with these, are in force from now on."""
        self.settings.update(settings)
        self.write("server-faults.json", [*rules, self.settings])

    def release(self):
        """Nothing is held any more."""
        self.settings.pop("hold", None)
        self.faults()

    def do(self, do, **row):
        with open(self.path("server-commands", self.zone + ".jsonl"), "a",
                  encoding="utf-8") as file:
            file.write(json.dumps({"do": do, **row}) + "\n")

    def rows(self, name):
        with contextlib.suppress(FileNotFoundError), open(self.path(name),
                                                          encoding="utf-8") as file:
            return [json.loads(line) for line in file.read().splitlines()]
        return []

    def until(self, condition, what):
        end = time.monotonic() + SECONDS
        while not (value := condition()):
            assert time.monotonic() < end, f"never {what}"
            time.sleep(0.005)
        return value

    def event(self, name, **fields):
        """Waits for an event that has these fields."""
        return self.until(lambda: next(
            (row for row in self.rows("server-events.jsonl") if row["event"] == name
             and fields.items() <= row.items()), None), f"{name} {fields}")

    # Calls

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def call(self, method, path, body=None, connection=None, headers=None, version=None):
        """headers: added; None takes one away.  body: JSON, or bytes."""
        given = {"api-version": self.version if version is None else version}
        if body is not None:
            given["Content-Type"] = "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        given.update(headers or {})
        own = connection or self.connect()
        own.request(method, path, body, {n: v for n, v in given.items() if v is not None})
        reply = own.getresponse()
        answer = Answer(reply.status, reply.read(), dict(reply.getheaders()))
        if not connection:
            own.close()
        return answer

    def get(self, path="", **more):
        return self.call("GET", "/instance" + path, **more)

    def ensure(self, spec=None, properties=None, **more):
        body = {"properties": properties or PROPERTIES,
                "init": {"method": "Spec", "value": {"spec": spec or self.spec()}}}
        return self.call("PUT", "/instance", body, **more)

    def put(self, state, **more):
        return self.call("PUT", "/instance/state", state, **more)

    def monitor(self, gen, **more):
        return self.get("/state-monitor", body={"gen": gen}, **more)

    def history(self, query):
        return self.get("/serial/history?" + query)

    def run(self):
        """Ensured and running."""
        equal(self.ensure().status, 201)
        equal(self.put("Run").status, 204)
        return self.reach("Running")

    def reach(self, state, gen=0):
        """Polls as a client does until that state; returns its generation."""
        while True:
            answer = self.monitor(gen)
            equal(answer.status, 200)
            assert answer.json["gen"] >= gen, answer.json
            if answer.json["state"] == state:
                return answer.json["gen"]
            gen = answer.json["gen"] + 1

    def raw(self, method="GET", path="/instance"):
        """All bytes of an answer, until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as sock:
            sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                         f"api-version: {self.version}\r\n\r\n".encode())
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def polling(self, gen):
        """A long poll that is under way: a function that gives its answer."""
        connection = self.connect()
        connection.request("GET", "/instance/state-monitor", json.dumps({"gen": gen}),
                           {"api-version": self.version, "Content-Type": "application/json"})

        def answer():
            reply = connection.getresponse()
            found = Answer(reply.status, reply.read(), {})
            connection.close()
            return found
        answer.pending = lambda: not select.select([connection.sock], [], [], 0)[0]
        return answer

    # Bodies

    def spec(self, **more):
        """A disk, a seed, com1, boot order, pvpanic; `more`: components, None takes one out."""
        parts = {
            "com1": part("serial_port", num="com1"),
            "root-be": part("file_storage_backend", path=self.disk, readonly=False,
                            block_size=512),
            "root": part("virtio_disk", backend_id="root-be", pci_path=pci(16)),
            "seed-be": part("blob_storage_backend", readonly=True,
                            base64=base64.b64encode(bytes(1024)).decode()),
            "seed": part("virtio_disk", backend_id="seed-be", pci_path=pci(24)),
            "boot": part("boot_settings", order=[{"id": "root"}]),
            "pvpanic": part("qemu_pvpanic", enable_isa=True),
            **{name.replace("_", "-"): value for name, value in more.items()}}
        return {"board": {"cpus": 2, "memory_mb": 2048, "chipset": {
                    "type": "i440_fx", "value": {"enable_pcie": False}}},
                "components": {name: value for name, value in parts.items() if value}}

    # What was written down

    def exchanges(self):
        return self.rows("exchanges.jsonl")

    def check_exchanges(self):
        for row in self.exchanges():
            if row["status"] in (400, 404, 405):
                continue
            what = f"{row['method']} {row['path']} {str(row['request']):.300} -> {row['status']}"
            schema = API and API.problems(row)
            found = exchange_rows.problems(row, ours=False) + sum(schema or (), [])
            found = [text for text in found if not any(word in text for word in self.allowed)]
            equal((what, found), (what, []))


class WebSocket:
    """A client that sends whatever it is told to."""

    def __init__(self, server, path="/instance/serial", headers=None, port=None):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
        given = {"host": "test", "api-version": server.version, "connection": "Upgrade",
                 "upgrade": "websocket", "sec-websocket-version": "13",
                 "sec-websocket-key": base64.b64encode(bytes(range(16))).decode(),
                 **(headers or {})}
        self.socket.sendall((f"GET {path} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in given.items() if value) + "\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name] = value

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, data, opcode=2, final=True, mask=b"\x01\x80\xff\x33", bits=0):
        head = bytes([(0x80 if final else 0) | bits | opcode])
        long = 0x80 if mask is not None else 0
        if len(data) < 126:
            head += bytes([long | len(data)])
        elif len(data) < 1 << 16:
            head += struct.pack(">BH", long | 126, len(data))
        else:
            head += struct.pack(">BQ", long | 127, len(data))
        if mask is not None:
            data = bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))
        self.socket.sendall(head + (mask or b"") + data)

    def frame(self):
        """(final, opcode, data), or None at the end."""
        head = self.file.read(2)
        if len(head) < 2:
            return None
        length = head[1]
        assert length < 128, "a masked frame from a server"
        if length == 126:
            length = struct.unpack(">H", self.file.read(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self.file.read(8))[0]
        return bool(head[0] & 0x80), head[0] & 0x0F, self.file.read(length)

    def read(self, count):
        """So many bytes of output at least."""
        out = b""
        while len(out) < count:
            _, opcode, data = self.frame()
            equal(opcode, 2)
            assert len(data) <= 16 << 10
            out += data
        return out

    def closed(self):
        """The code and reason of the close frame that comes now, and nothing behind it."""
        final, opcode, data = self.frame()
        equal((final, opcode), (True, 8))
        equal(self.frame(), None)
        return struct.unpack(">H", data[:2])[0], data[2:].decode()


def each_version(names):
    """The cases of a test program: those that take a version once for each."""
    out = {}
    for name, case in names.items():
        if "__" in name.strip("_") and callable(case):
            versions = case.__code__.co_argcount == 1
            out.update({f"{name}_{v}": functools.partial(case, v) for v in VERSIONS}
                       if versions else {name: case})
    return out
