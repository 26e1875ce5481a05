#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Bytes of both kinds through the ports of a real guest, before and after what can happen to them."""

import os
import socket

from harness import Host, check, equal, guest_image, run, wait_until

host = Host()
IMAGE = guest_image()
DATA = os.urandom(1 << 20)

# Answers everything with itself: connections on 7001 and 7002, datagrams on 7001.
ECHO = """
import socket, threading
def tcp(port):
    s = socket.create_server(("0.0.0.0", port))
    while True:
        c, _ = s.accept()
        threading.Thread(target=answer, args=(c,)).start()
def answer(c):
    while True:
        data = c.recv(65536)
        if not data:
            break
        c.sendall(data)
    c.close()
def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("0.0.0.0", port))
    while True:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)
for f, port in ((tcp, 7001), (tcp, 7002), (udp, 7001)):
    threading.Thread(target=f, args=(port,)).start()
"""


def free_port(kind):
    s = socket.socket(socket.AF_INET, kind)
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    return port


TCP, UDP = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)


def through_tcp(port):
    """A mebibyte there and back."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        s.settimeout(60)
        got = b""
        for at in range(0, len(DATA), 65536):
            s.sendall(DATA[at:at + 65536])
            while len(got) < at + 65536:
                got += s.recv(65536)
    return got == DATA


def through_udp(port):
    """Datagrams may be lost, so that each is sent until it comes back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("127.0.0.1", port))
        s.settimeout(0.5)
        for number in range(10):
            wanted = b"%d %s" % (number, DATA[:1000])

            def answered():
                s.send(wanted)
                try:
                    return s.recv(65536) == wanted
                except (TimeoutError, ConnectionRefusedError):
                    return False
            wait_until(f"datagram {number}", answered)
    return True


def real_port(guest_port, protocol="tcp"):
    return [p["host_port"] for p in host.vm("echo")["ports"]
            if (p["guest_port"], p["protocol"]) == (guest_port, protocol)][0]


def serve():
    host.vmctl("exec", "echo", "--", "sh", "-c",
               "cat > echo.py; (setsid python3 echo.py > echo.log 2>&1 < /dev/null &); "
               "until ss -ltn | grep -q :7002; do sleep 0.1; done", input=ECHO, timeout=120)


def test_g34_bytes_pass_both_ways():
    host.start()
    host.vmctl("up", cwd=host.project(f"""vms:
  echo:
    image: {IMAGE}
    memory: 512MiB
    cloud-init: {{}}
    ports: ["{TCP}:7001", "127.0.0.1:{UDP}:7001/udp", "0:22"]
"""))
    serve()
    check(through_tcp(TCP), "tcp")
    check(through_udp(UDP), "udp")
    with socket.create_connection(("127.0.0.1", real_port(22)), timeout=30) as s:
        check(s.recv(64).startswith(b"SSH-2.0-"), "the second forward to SSH")


def test_through_one_that_was_added_while_it_ran():
    host.vmctl("port", "add", "echo", "7002", "0:7001/udp")
    check(through_tcp(real_port(7002)))
    host.vmctl("port", "rm", "echo", f"{real_port(7002)}:7002")
    equal([p for p in host.vm("echo")["ports"] if p["guest_port"] == 7002], [])


def test_nothing_is_cut_by_the_end_of_the_daemon():
    with socket.create_connection(("127.0.0.1", TCP), timeout=60) as s:
        s.sendall(b"before")
        equal(s.recv(64), b"before")
        host.kill()
        s.sendall(b"without a daemon")
        equal(s.recv(64), b"without a daemon")
        host.start()
        wait_until("the adoption", lambda: all(p["active"] for p in host.vm("echo")["ports"]))
        s.sendall(b"after")
        equal(s.recv(64), b"after")
    host.vmctl("port", "add", "echo", "7002")
    check(through_tcp(real_port(7002)) and through_udp(UDP))
    equal(host.vmctl("exec", "echo", "--", "id", "-un").stdout, "vm\n")


run(globals(), [host])
