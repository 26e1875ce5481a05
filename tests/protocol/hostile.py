#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Clients that mean no good, or know no better: vmmd goes on serving the others.

Two of them need their time, so they are there from the beginning to the end: one that sends a byte
a second, and one that never reads.
"""

import json
import os
import resource
import select
import socket
import threading
import time

from harness import Failure, Host, check, equal, run, wait_until

SANITIZE = bool(os.environ.get("VMM_SANITIZE"))
SLOW = 10 if SANITIZE else 1  # sanitizers make everything slow, and large
LINE_MAX = 4 << 20
QUEUE_MAX = 4 << 20
LINE_S, DRAIN_S = 10, 30
CONNECTIONS = 1000

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
host = Host().start()


def connect(timeout=60):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(host.socket)
    return sock


def request(method, id=1, **params):
    return (json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params},
                       separators=(",", ":")) + "\n").encode()


def wait_for_stop(name, id):
    """A request that is not answered before the machine stops."""
    return request("vm.wait", id=id, name=name, **{"for": "stopped"})


HELLO = request("system.hello", protocol=1)


def read_line(sock):
    data = b""
    while not data.endswith(b"\n"):
        part = sock.recv(1 << 16)
        if not part:
            return data
        data += part
    return data


def read_all(sock):
    data = b""
    while part := sock.recv(1 << 20):
        data += part
    return data


def ask(sock, data=HELLO):
    sock.sendall(data)
    return json.loads(read_line(sock))


def memory_kib(key="VmRSS:"):
    with open(f"/proc/{host.process.pid}/status") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1])
    raise Failure(f"no {key}")


def cpu_s():
    with open(f"/proc/{host.process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watcher(threading.Thread):
    """A client that behaves, and measures how long it waits, all the time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.worst, self.calls, self.failure, self.end = 0.0, 0, None, threading.Event()

    def run(self):
        try:
            with connect(30) as sock:
                while not self.end.wait(0.005):
                    before = time.monotonic()
                    check("result" in ask(sock), "no result")
                    self.worst = max(self.worst, time.monotonic() - before)
                    self.calls += 1
        except Exception as e:  # told by the main thread
            self.failure = e

    def stop(self):
        self.end.set()
        self.join()


class Slowloris(threading.Thread):
    """Sends a request byte by byte, one a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sock, self.began, self.seconds, self.answer = connect(), time.monotonic(), None, b""

    def run(self):
        for byte in HELLO[:-1]:
            try:
                self.sock.sendall(bytes([byte]))
            except OSError:
                break
            if select.select([self.sock], [], [], 1)[0]:
                break
        self.seconds = time.monotonic() - self.began
        try:
            self.answer = read_all(self.sock)
        except ConnectionError:
            pass


class Hoarder:
    """Asks for a lot and reads nothing."""

    def __init__(self):
        self.sock = connect()
        self.sock.setblocking(False)
        self.began, self.sent = time.monotonic(), 0
        line = request("rpc.discover")
        while select.select([], [self.sock], [], 0.5)[1]:
            try:
                self.sent += self.sock.send(line * 16)
            except BlockingIOError:
                pass
            check(self.sent < 64 << 20, "everything is read from a client that reads nothing")

    def closed(self):
        poll = select.poll()
        poll.register(self.sock, 0)
        return bool(poll.poll(0))


watcher = Watcher()
watcher.start()
memory_before = memory_kib()
hoarders = [Hoarder() for _ in range(4)]
slow = [Slowloris() for _ in range(20)]
for thread in slow:
    thread.start()


def test_never_reading_clients_fill_no_memory():
    grown = memory_kib() - memory_before
    print(f"# {len(hoarders)} clients that do not read cost {grown} KiB")
    # What waits for each, what the kernel gave to read, and one answer more.
    check(SANITIZE or grown < len(hoarders) * 2 * (QUEUE_MAX >> 10), f"{grown} KiB")


def test_a_thousand_connections_at_once():
    check(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > CONNECTIONS + 100, "too few descriptors")
    socks = [connect() for _ in range(CONNECTIONS)]
    try:
        for sock in socks:
            sock.sendall(HELLO)
        for sock in socks:
            equal(json.loads(read_line(sock))["result"]["protocol"], 1)
        check(host.call("system.info")["connections"] >= CONNECTIONS, "too few connections")
        for sock in socks[::-1]:
            sock.sendall(request("vm.list"))
        for sock in socks:
            equal(json.loads(read_line(sock))["result"], {"vms": []})
    finally:
        for sock in socks:
            sock.close()
    wait_until("the connections to end",
               lambda: host.call("system.info")["connections"] < CONNECTIONS // 10)


def test_connections_that_come_and_go():
    for n in range(2000):
        with connect() as sock:
            if n % 2:
                sock.sendall(HELLO)
            if n % 3 == 0:
                sock.sendall(b'{"jsonrpc"')
    host.call("system.info")


def test_line_of_four_mebibytes():
    head, tail = b'{"jsonrpc":"2.0","id":1,"method":"system.hello","params":[1],"more":"', b'"}'
    line = head + b"x" * (LINE_MAX - len(head) - len(tail)) + tail
    equal(len(line), LINE_MAX)
    with connect() as sock:
        for _ in range(4):
            equal(ask(sock, line + b"\n")["result"]["protocol"], 1)


def test_line_that_is_too_long():
    for size in (LINE_MAX + 1, 4 * LINE_MAX):
        for end in (b"\n", b""):
            with connect() as sock:
                try:
                    sock.sendall(b'"' + b"x" * (size - 2) + b'"' + end)
                except ConnectionError:
                    pass
                data = b""
                try:
                    data = read_all(sock)
                except ConnectionError:
                    pass
                # It is told, unless the rest of what was sent made the connection end rudely.
                if data:
                    equal(json.loads(data)["error"]["data"]["name"], "limit_exceeded")


def test_line_without_an_end_is_not_kept():
    before = memory_kib()
    with connect() as sock:
        sent = 0
        try:
            while sent < 256 << 20:
                sent += sock.send(b"x" * (1 << 20))
        except ConnectionError:
            pass
        check(sent < 256 << 20, "all of it was read")
    grown = memory_kib() - before
    check(SANITIZE or grown < 32 << 10, f"{grown} KiB")


def test_ten_thousand_levels():
    with connect() as sock:
        for open, close in (("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")):
            for depth in (33, 10000, 500000):
                line = (open * depth + "1" + close * depth).encode()
                if len(line) <= LINE_MAX:
                    equal(ask(sock, line + b"\n")["error"]["code"], -32700)
        line = b'{"jsonrpc":"2.0","id":1,"method":"system.hello","params":[1],"more":%s}\n'
        equal(ask(sock, line % (b"[" * 31 + b"]" * 31))["result"]["protocol"], 1)
        equal(ask(sock, line % (b"[" * 32 + b"]" * 32))["error"]["code"], -32700)


def test_lines_that_cost_most():
    """As much work and memory as a line can make."""
    keys = ",".join(f'"k{n}":0' for n in range(1024))
    lines = ["[" + ",".join(["0"] * 262140) + "]",
             "[" + ",".join(["[]"] * 65535) + "]",
             "[" + ",".join(["{}"] * 65535) + "]",
             "[" + ",".join(["{" + keys + "}"] * 255) + "]",
             "{" + ",".join(f'"\\u{n + 32:04x}":0' for n in range(60000)) + "}",
             '{"jsonrpc":"2.0","id":1,"method":"vm.create","params":{"name":"a","depends_on":['
             + ",".join(['"b"'] * 262000) + "]}}",
             '{"jsonrpc":"2.0","id":1,"method":"file.plan","params":{"project":"/p","vms":['
             + ",".join(['{"no":0}'] * 1000) + "]}}",
             '"' + "\\ud83d\\ude00" * 340000 + '"',
             '[' + "9" * 4000000 + ']']
    with connect() as sock:
        for line in lines:
            before = time.monotonic()
            answer = ask(sock, line.encode() + b"\n")
            seconds = time.monotonic() - before
            check("error" in (answer[0] if isinstance(answer, list) else answer), line[:60])
            print(f"# {line[:40]}: {seconds * 1000:.0f} ms")
            check(seconds < 1 * SLOW, f"{line[:60]} took {seconds:.2f} s")
    check(SANITIZE or memory_kib("VmHWM:") < 160 << 10, "too much memory")


def test_ten_thousand_requests_at_once():
    count = 10000
    with connect() as sock:
        sender = threading.Thread(target=sock.sendall, daemon=True,
                                  args=(b"".join(request("system.hello", id=n, protocol=1)
                                                 for n in range(count)),))
        sender.start()
        with sock.makefile() as file:
            for n in range(count):
                message = json.loads(file.readline())
                equal(message["id"], n)
                check("result" in message, message)
        sender.join()


def test_more_requests_than_are_taken():
    """What is too much at once waits, and is neither lost nor refused."""
    host.call("vm.create", name="still", backend="noop", start=True)
    with connect() as sock:
        sock.sendall(b"".join(wait_for_stop("still", n) for n in range(100)) +
                     request("system.hello", id=100, protocol=1))
        check(not select.select([sock], [], [], 0.2)[0], "answered before the machine stopped")
        host.call("vm.stop", name="still")
        with sock.makefile() as file:
            answers = [json.loads(file.readline()) for _ in range(101)]
        equal(sorted(m["id"] for m in answers), list(range(101)))
        for message in answers:
            check("result" in message, message)
        equal(answers[-1]["id"], 100)
    host.call("vm.destroy", name="still", force=True)


def test_client_that_goes_while_it_waits():
    host.call("vm.create", name="left", backend="noop", start=True)
    for _ in range(50):
        with connect() as sock:
            sock.sendall(wait_for_stop("left", 1) + request("event.subscribe", id=2))
            equal(json.loads(read_line(sock))["id"], 2)
    host.call("vm.stop", name="left")
    host.call("vm.destroy", name="left", force=True)


def test_sending_side_closed():
    with connect() as sock:
        sock.sendall(HELLO + request("vm.list", id=2) + request("rpc.discover", id=3))
        sock.shutdown(socket.SHUT_WR)
        answers = [json.loads(line) for line in read_all(sock).splitlines()]
    equal([m["id"] for m in answers], [1, 2, 3])
    check(all("result" in m for m in answers))
    host.call("vm.create", name="half", backend="noop", start=True)
    with connect() as sock:
        sock.sendall(wait_for_stop("half", 1))
        sock.shutdown(socket.SHUT_WR)
        host.call("vm.stop", name="half")
        equal(json.loads(read_all(sock))["result"]["state"], "stopped")
    with connect() as sock:
        sock.shutdown(socket.SHUT_WR)
        equal(read_all(sock), b"")
    with connect() as sock:
        sock.sendall(b'{"jsonrpc":"2.0",')
        sock.shutdown(socket.SHUT_WR)
        equal(json.loads(read_all(sock))["error"]["code"], -32700)
    host.call("vm.destroy", name="half", force=True)


def test_request_after_one_that_takes_the_connection():
    host.call("vm.create", name="log", backend="noop")
    follow = request("vm.log", id=1, name="log", source="provision", follow=True)
    with connect() as sock:
        sock.sendall(follow + request("vm.destroy", id=2, name="log") + HELLO.replace(b":1,", b":3,", 1))
        answers = {}
        data = b""
        while len(answers) < 3:
            data += sock.recv(1 << 16)
            *lines, data = data.split(b"\n")
            answers.update((m["id"], m) for m in map(json.loads, lines))
        check("result" in answers[1], answers)
        equal(answers[2]["error"]["code"], -32600, answers)
        equal(answers[3]["error"]["code"], -32600, answers)
    equal(host.names(), ["log"])
    with connect() as sock:
        message = ask(sock, b"[" + follow.strip() + b"]\n")
        equal(message[0]["error"]["code"], -32600, message)
        check("result" in ask(sock), "the connection is of no use any more")
    host.call("vm.destroy", name="log")


def test_noise():
    state = 88172645463325252
    for n in range(200):
        data = bytearray()
        for _ in range(500):
            state ^= (state << 13) & (2 ** 64 - 1)
            state ^= state >> 7
            state ^= (state << 17) & (2 ** 64 - 1)
            data += state.to_bytes(8, "little")
        with connect() as sock:
            try:
                sock.sendall(bytes(data))
                sock.shutdown(socket.SHUT_WR)
                for line in read_all(sock).splitlines():
                    # Now and then a line of it is a number.
                    check(json.loads(line)["error"]["code"] in (-32700, -32600), line)
            except ConnectionError:
                pass


def test_one_byte_a_second_is_ended():
    for client in slow:
        client.join(60)
        check(client.seconds is not None, "it is still served")
        check(LINE_S - 1 < client.seconds < LINE_S + 4 * SLOW, f"ended after {client.seconds:.1f} s")
        if client.answer:
            equal(json.loads(client.answer)["error"]["data"]["name"], "timed_out")
        client.sock.close()


def test_never_reading_clients_are_ended():
    wait_until("the clients that do not read to be closed",
               lambda: all(h.closed() for h in hoarders), DRAIN_S + 15)
    seconds = time.monotonic() - hoarders[0].began
    check(seconds > DRAIN_S - 2, f"already after {seconds:.1f} s")
    for hoarder in hoarders:
        hoarder.sock.close()


def test_the_others_were_served_all_the_time():
    watcher.stop()
    if watcher.failure:
        raise watcher.failure
    print(f"# {watcher.calls} calls beside it, the slowest took {watcher.worst * 1000:.0f} ms")
    check(watcher.calls > 100, watcher.calls)
    check(watcher.worst < 10 * SLOW, f"a call took {watcher.worst:.2f} s")


def test_nothing_is_left():
    wait_until("all connections to end", lambda: host.call("system.info")["connections"] == 1)
    fds = len(os.listdir(f"/proc/{host.process.pid}/fd"))
    check(fds < 64, f"{fds} descriptors are open")
    before, began = cpu_s(), time.monotonic()
    select.select([], [], [], 1)
    used = (cpu_s() - before) / (time.monotonic() - began)
    check(used < 0.05 * SLOW, f"idle, it uses {used:.0%} of a processor")
    equal(host.names(), [])


def test_vmmd_ends_well():
    """Also to a sanitizer, which tells at the end what was never freed."""
    equal(host.stop(), 0)


run(globals(), [host])
