#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""com1 of the fake propolis-server: the WebSocket, the history, and what can happen to both."""

import json
import socket

import propolis_wire
from propolis_wire import IDENT, Server, WebSocket
from wire import equal, run

KEPT = 1 << 20
# The example of RFC 6455, section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def printed(server):
    """All that com1 has shown so far."""
    return bytes(server.history("from_start=0&max_bytes=9999999").json["data"])


def shown(server, text, times=1):
    """Prints, and waits until it is there; returns how long the output is."""
    end = server.history("most_recent=0").json["last_byte_offset"] + len(text) * times
    server.do("print", text=text, times=times)
    server.until(lambda: server.history("most_recent=0").json["last_byte_offset"] >= end,
                 "printed")
    return end


def booted(server):
    server.run()
    server.until(lambda: printed(server).endswith(b"login: "), "booted")
    return printed(server)


def upgrade__answered_as_the_rules_say(version):
    with Server(version) as server:
        booted(server)
        with WebSocket(server, headers={"sec-websocket-key": KEY}) as ws:
            equal((ws.status, ws.headers["sec-websocket-accept"]), (101, ACCEPT))
            equal((ws.headers["connection"].lower(), ws.headers["upgrade"].lower()),
                  ("upgrade", "websocket"))


def upgrade__wrong__400_and_no_machine__424(version):
    with Server(version) as server:
        for headers in ({"connection": None}, {"upgrade": None}, {"upgrade": "h2c"},
                        {"sec-websocket-version": "8"}, {"sec-websocket-version": None},
                        {"sec-websocket-key": None}, {"sec-websocket-key": "short"}):
            server.ensure()
            with WebSocket(server, headers=headers) as ws:
                equal((headers, ws.status), (headers, 400))
        for headers in ({"api-version": None}, {"api-version": "99.0.0"}):
            with WebSocket(server, headers=headers) as ws:
                equal(ws.status, 400)
        for query in ("from_start=x", "from_start=-1", "most_recent=1&most_recent=2"):
            with WebSocket(server, "/instance/serial?" + query) as ws:
                equal((query, ws.status), (query, 400))
    with Server(version) as server:
        with WebSocket(server) as ws:
            equal(ws.status, 424)
        server.faults(silent_upgrade=True)
        with WebSocket(server) as ws:  # accepted first, refused by closing
            equal((ws.status, ws.frame()), (101, None))


def output__live__goes_to_everybody(version):
    with Server(version) as server:
        booted(server)
        # One offset asks for history; none does not, nor do both.
        with WebSocket(server) as one, WebSocket(
                server, "/instance/serial?from_start=0&most_recent=10") as two:
            server.until(lambda: sum(row["event"] == "attached"
                                     for row in server.rows("server-events.jsonl")) == 2, "two")
            server.do("print", text="hello")
            equal((one.frame(), two.frame()), ((True, 2, b"hello"),) * 2)


def history__asked_for__comes_first(version):
    with Server(version) as server:
        boot = booted(server)
        for query, wanted in (("from_start=0", boot), ("from_start=5", boot[5:]),
                              ("most_recent=7", boot[-7:]), ("most_recent=99999", boot)):
            with WebSocket(server, "/instance/serial?" + query) as ws:
                equal(ws.read(len(wanted)), wanted)
        for query in ("from_start=99999", "most_recent=0"):
            with WebSocket(server, "/instance/serial?" + query) as ws:
                ws.send(b"x")
                equal(ws.frame(), (True, 2, b"x"))


def history__of_almost_two_mebibytes__in_pieces(version):
    with Server(version) as server:
        boot = booted(server)
        total = shown(server, "0123456789abcde\n", (2 * KEPT - len(boot)) // 16)
        with WebSocket(server, "/instance/serial?from_start=0") as ws:
            data = ws.read(total)  # which sees that no frame is over 16 KiB
        equal(data, boot + b"0123456789abcde\n" * ((total - len(boot)) // 16))


def history__get__default_limit_and_offsets(version):
    with Server(version) as server:
        boot = booted(server)
        shown(server, "x", 20000)
        total = len(boot) + 20000
        for query, length, end in (
                ("from_start=0", 16384, 16384), ("from_start=0&max_bytes=3", 3, 3),
                ("from_start=16384", total - 16384, total), ("most_recent=5", 5, total),
                ("from_start=0&max_bytes=0", 0, 0), ("most_recent=0", 0, total),
                (f"from_start={total + 9}", 0, total), ("most_recent=999999", 16384, 16384)):
            answer = server.history(query).json
            equal((query, len(answer["data"]), answer["last_byte_offset"]), (query, length, end))
        for query in ("", "max_bytes=1", "from_start=0&most_recent=0", "from_start=",
                      "from_start=18446744073709551616", "most_recent=1.0"):
            server.history(query).refused(400)


def history__what_is_forgotten__400_or_dropped(version):
    with Server(version) as server:
        booted(server)
        total = shown(server, "0123456789abcde\n", 192 << 10)  # 3 MiB
        for query, length, end in ((f"from_start={KEPT - 9}&max_bytes=99", 9, KEPT),
                                   (f"from_start={KEPT - 1}", 1, KEPT),
                                   (f"most_recent={KEPT}&max_bytes=5", 5, total - KEPT + 5)):
            answer = server.history(query).json
            equal((query, len(answer["data"]), answer["last_byte_offset"]), (query, length, end))
        for query in (f"from_start={KEPT}", f"most_recent={KEPT + 1}",
                      f"from_start={total - KEPT - 1}"):
            server.history(query).refused(400, words="no longer cached")
        with WebSocket(server, f"/instance/serial?from_start={KEPT}") as ws:
            equal((ws.status, ws.frame()), (101, None))
        with WebSocket(server, "/instance/serial?from_start=0") as ws:
            equal(len(ws.read(KEPT)), KEPT)  # and then it does not know how to go on
            equal(ws.frame(), None)


def input__typed__is_echoed_and_answered(version):
    with Server(version) as server:
        booted(server)
        with WebSocket(server) as ws:
            ws.send(b"root\r")
            equal(ws.read(23), b"root\r\nyou typed: root\r\n")
            every = bytes(byte for byte in range(256) if byte != 13)
            ws.send(every)
            equal(ws.read(255), every)
        assert printed(server).endswith(every)


def input__large__comes_back_whole():
    with Server() as server:
        booted(server)
        with WebSocket(server) as ws:
            data = bytes(range(14, 256)) * 400
            for size in (125, 126, 65535, 65536, len(data)):
                ws.send(data[:size])
                equal(ws.read(size), data[:size])


def input__text__is_ignored():
    with Server() as server:
        booted(server)
        with WebSocket(server) as ws:
            ws.send(b"text", opcode=1)
            ws.send(b"binary")
            equal(ws.frame(), (True, 2, b"binary"))
        server.event("text ignored", text="text")


def input__of_a_guest_that_is_off__goes_nowhere(version):
    with Server(version) as server:
        server.ensure()
        with WebSocket(server) as ws:
            ws.send(b"early")
            ws.send(b"", opcode=9)
            equal(ws.frame(), (True, 10, b""))
            server.put("Run")
            assert ws.frame()[2].startswith(b"\r\nUEFI")


def input__in_fragments__is_one_message():
    with Server() as server:
        booted(server)
        with WebSocket(server) as ws:
            ws.send(b"one ", final=False)
            ws.send(b"two ", opcode=0, final=False)
            ws.send(b"are you there", opcode=9)
            ws.send(b"three", opcode=0)
            equal(ws.frame(), (True, 10, b"are you there"))
            equal(ws.frame(), (True, 2, b"one two three"))


def client__breaks_the_rules__closed_with_the_code():
    with Server() as server:
        booted(server)
        for code, frames in (
                (1002, [dict(data=b"x", mask=None)]), (1002, [dict(data=b"x", bits=0x40)]),
                (1002, [dict(data=b"x", opcode=3)]), (1002, [dict(data=b"x", opcode=0)]),
                (1002, [dict(data=b"x" * 126, opcode=9)]),
                (1002, [dict(data=b"x", opcode=9, final=False)]),
                (1002, [dict(data=b"x", final=False), dict(data=b"y")]),
                (1007, [dict(data=b"\xff", opcode=1)]),
                (1002, [dict(data=b"\x03", opcode=8)]),
                (1002, [dict(data=b"\x03\xed", opcode=8)]),
                (1002, [dict(data=b"\x03\xe8\xff", opcode=8)])):
            with WebSocket(server) as ws:
                for frame in frames:
                    ws.send(**frame)
                equal((frames, ws.closed()[0]), (frames, code))
        with WebSocket(server) as ws:
            ws.socket.sendall(b"\x82\xfe\x00\x01\0\0\0\0x")  # one byte, its length in two
            equal(ws.closed()[0], 1002)
        with WebSocket(server) as ws:
            ws.socket.sendall(b"\x82\xff" + (1 << 40).to_bytes(8, "big"))
            equal(ws.closed()[0], 1009)


def client__closes_or_leaves__the_others_stay():
    with Server() as server:
        booted(server)
        with WebSocket(server) as stays:
            with WebSocket(server) as polite:
                polite.send(b"\x03\xe8bye", opcode=8)
                equal(polite.closed(), (1000, "bye"))
            server.event("close", code=1000)
            with WebSocket(server) as empty:
                empty.send(b"", opcode=8)
                equal(empty.frame(), (True, 8, b""))
            with WebSocket(server):
                pass
            server.until(lambda: sum(row["event"] == "detached"
                                     for row in server.rows("server-events.jsonl")) == 3, "gone")
            stays.send(b"x")
            equal(stays.frame(), (True, 2, b"x"))


def server__ping_and_fragments__on_demand():
    with Server() as server:
        booted(server)
        with WebSocket(server) as ws:
            server.event("attached")
            server.do("ping", text="one")
            equal(ws.frame(), (True, 9, b"one"))
            ws.send(b"one", opcode=10)
            server.event("pong", data="one")
            server.do("fragment", text="abcdefghi")
            equal([ws.frame() for _ in range(4)],
                  [(False, 2, b"abc"), (False, 0, b"def"), (True, 9, b"between"),
                   (True, 0, b"ghi")])
            assert printed(server).endswith(b"abcdefghi")
            server.do("garbage", text="nonsense")
            equal(ws.file.read(8), b"nonsense")


def server__migration__says_where_and_from_which_byte(version):
    with Server(version) as server:
        boot = booted(server)
        with WebSocket(server) as ws:
            server.event("attached")
            server.do("migrate-notice", destination="127.0.0.1:9")
            final, opcode, data = ws.frame()
            equal((final, opcode, json.loads(data)), (True, 1, {"Migrating": {
                "destination": "127.0.0.1:9", "from_start": len(boot)}}))
            server.do("migrate-out", id=IDENT, destination="[::1]:9")
            equal(json.loads(ws.frame()[2])["Migrating"]["destination"], "[::1]:9")
            equal(ws.closed(), (1001, "VM stopped"))


def machine__ends__closes_with_1001(version):
    for way in ("Stop", "poweroff", "fail"):
        with Server(version) as server:
            booted(server)
            with WebSocket(server) as one, WebSocket(server) as two:
                server.until(lambda: sum(row["event"] == "attached" for row in
                                         server.rows("server-events.jsonl")) == 2, "two")
                if way == "Stop":
                    server.put("Stop")
                else:
                    server.do(way)
                equal((one.closed(), two.closed()), ((1001, "VM stopped"),) * 2)
            with WebSocket(server) as ws:
                equal(ws.status, 424)


def machine__reboots__the_console_stays(version):
    with Server(version) as server:
        boot = booted(server)
        with WebSocket(server, f"/instance/serial?from_start={len(boot)}") as ws:
            server.event("attached")
            server.put("Reboot")
            equal(ws.read(len(boot)), boot)
        equal(printed(server), boot * 2)


def machine__made_again__starts_with_an_empty_history(version):
    with Server(version) as server:
        booted(server)
        server.put("Stop")
        server.reach("Destroyed")
        server.until(lambda: server.ensure().status == 201, "allowed")
        equal(server.history("from_start=0").json, {"data": [], "last_byte_offset": 0})


def fault__on_the_console__refused_cut_or_slow():
    with Server() as server:
        boot = booted(server)
        path = "/instance/serial"
        server.faults({"path": path, "nth": 1, "status": 503}, {"path": path, "nth": 2, "cut": 140},
                      {"path": path, "nth": 3, "slow": 0.0005}, {"path": path, "nth": 4,
                                                                  "close": True})
        with WebSocket(server) as ws:
            equal(ws.status, 503)
        with WebSocket(server, path + "?from_start=0") as ws:
            equal(ws.status, 101)
            assert len(ws.file.read()) < len(boot)
        with WebSocket(server, path + "?from_start=0") as ws:
            equal(ws.read(len(boot)), boot)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"GET /instance/serial HTTP/1.1\r\nHost: x\r\n\r\n")
            equal(sock.recv(1), b"")


def vnc__plain_and_by_websocket__says_rfb():
    with Server(vnc=True) as server:
        server.allowed = ["/instance/vnc", "status 101"]  # not published
        with socket.create_connection(("127.0.0.1", server.vnc_port)) as sock:
            equal(sock.recv(12), b"RFB 003.008\n")
        with WebSocket(server, "/instance/vnc") as ws:
            equal(ws.frame(), (True, 2, b"RFB 003.008\n"))
            ws.send(b"\x03\xe8", opcode=8)
            equal(ws.closed(), (1000, ""))


if __name__ == "__main__":
    run(propolis_wire.each_version(globals()))
