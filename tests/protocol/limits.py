#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What one client can not do to the others: long lines, many requests, many connections."""

import contextlib
import json
import os
import socket
import threading
import time

from wire import SECONDS, Server, equal, failed, run

LINE_MAX = 4 << 20
GET = '{"jsonrpc":"2.0","id":%d,"method":"vm.get","params":["a"]}'
WAIT = '{"jsonrpc":"2.0","id":%d,"method":"vm.wait","params":["a"]}'


def served(server):
    """Somebody else gets an answer."""
    with server.client() as other:
        equal(other.call("vm.get", ["b"])["result"]["name"], "b")


def line__of_the_greatest_length__taken():
    line = GET % 1
    with Server() as server, server.client() as client:
        client.send(line + " " * (LINE_MAX - len(line)) + "\n")
        equal(client.answer()["result"]["name"], "a")


def line__one_byte_longer__refused_and_closed():
    line = GET % 1
    with Server() as server, server.client() as client:
        with contextlib.suppress(BrokenPipeError):
            client.send(line + " " * (LINE_MAX + 1 - len(line)) + "\n")
        answer = client.answer()
        equal(answer["id"], None)
        failed(answer, "limit_exceeded")
        equal(client.read_line(), None)
        served(server)


def line__without_an_end__refused_at_the_limit():
    with Server() as server, server.client() as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(64):
                client.send(b"x" * (1 << 20))
        failed(client.answer(), "limit_exceeded")
        served(server)
        assert server.resident_kib() < 64 << 10 or "VMM_SANITIZE" in os.environ


def nesting__of_10000_levels__refused():
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        with Server() as server, server.client() as client:
            deep = opening * 10000 + "1" + closing * 10000
            failed(client.ask('{"jsonrpc":"2.0","id":1,"method":"vm.get","params":%s}' % deep),
                   "parse_error", -32700)
            failed(client.ask(opening * 100000), "parse_error", -32700)
            equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def hostile_lines__any_bytes__answered_and_the_connection_lives():
    lines = (b"\x00", b"\xff\xfe", b"{" * 31, b'"\\ud800"', b'{"a\\u0000b":1}', b"-", b"1e999",
             b'{"jsonrpc":"2.0","method":"\xc3\x28","id":1}', bytes(range(11, 256)), b"[1,]",
             b'{"jsonrpc":"2.0","method":"vm.get\\u0000","id":1,"params":["a"]}')
    with Server() as server, server.client() as client:
        for line in lines:
            client.send(line + b"\n")
            answer = client.answer()
            assert answer["error"]["code"] in (-32700, -32600, -32601), (line, answer)
        equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def objects__with_a_million_keys__refused():
    with Server() as server, server.client() as client:
        keys = ",".join(f'"{i}":1' for i in range(300000))
        failed(client.ask('{"jsonrpc":"2.0","id":1,"method":"vm.get","params":{%s}}' % keys),
               "parse_error", -32700)
        served(server)


def batch__of_256__answered():
    with Server() as server, server.client() as client:
        client.send("[" + ",".join(GET % i for i in range(256)) + "]\n")
        equal([answer["id"] for answer in client.answer()], list(range(256)))


def batch__of_257__refused():
    with Server() as server, server.client() as client:
        client.send("[" + ",".join(GET % i for i in range(257)) + "]\n")
        answer = client.answer()
        equal(answer["id"], None)
        failed(answer, "invalid_request", -32600)


def batch__with_huge_answers__bounded():
    one = '{"jsonrpc":"2.0","id":%d,"method":"vm.log","params":{"name":"a","tail":1000000}}'
    with Server() as server, server.client() as client:
        client.send("[" + ",".join(one % i for i in range(20)) + "]\n")
        answers = client.answer()
        equal(len(answers), 20)
        equal(sum("result" in answer for answer in answers), 4)
        failed(answers[19], "limit_exceeded")


def in_flight__32_of_them__the_next_waits_for_room():
    slow = '{"jsonrpc":"2.0","id":"slow","method":"operation.wait","params":["x","200ms"]}'
    with Server() as server, server.client() as client:
        for i in range(31):
            client.send_line(WAIT % i)
        client.send(slow + "\n" + GET % 99 + "\n")
        equal(client.answer(), {"jsonrpc": "2.0", "id": "slow", "result": "waited"})
        equal(client.answer()["id"], 99)
        served(server)


def in_flight__notifications_count_too():
    with Server() as server:
        with server.client() as client:
            for _ in range(40):
                client.send('{"jsonrpc":"2.0","method":"vm.wait","params":["a"]}\n')
            server.until("full", lambda info: info["waiting"] == 32)
            served(server)
            equal(server.info()["waiting"], 32)
        server.until("gone", lambda info: info["waiting"] == 0)


def in_flight__a_batch__goes_on_as_its_calls_end():
    slow = '{"jsonrpc":"2.0","id":%d,"method":"operation.wait","params":["x","20ms"]}'
    with Server() as server, server.client() as client:
        client.send("[" + ",".join(slow % i for i in range(100)) + "]\n")
        equal(sorted(answer["id"] for answer in client.answer()), list(range(100)))
        served(server)


def pipeline__of_10000_requests__answered_in_order():
    with Server() as server, server.client() as client:
        lines = "".join(GET % i + "\n" for i in range(10000))
        sender = threading.Thread(target=client.send, args=(lines,))
        sender.start()
        for i in range(10000):
            equal(client.answer()["id"], i)
        sender.join()


def pipeline__that_stops_reading__goes_on_when_it_reads_again():
    """More answers than fit the queue: the server stops reading, and loses nothing."""
    much = '{"jsonrpc":"2.0","id":%d,"method":"vm.log","params":{"name":"a","tail":300000}}'
    with Server() as server, server.client() as client:
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for i in range(100000):
                client.socket.send((much % i + "\n").encode())
        sent = i
        served(server)
        assert server.resident_kib() < 40 << 10 or "VMM_SANITIZE" in os.environ
        client.socket.settimeout(SECONDS)
        client.end_sending()
        for i in range(sent):
            equal(client.answer()["id"], i)
        equal(client.read_line(), None)


def connections__a_thousand_at_once__all_served():
    with Server() as server, contextlib.ExitStack() as stack:
        before = server.resident_kib()
        clients = [stack.enter_context(server.client()) for _ in range(1000)]
        began = time.monotonic()
        for client in clients:
            client.send_line(GET % 1)
        for client in clients:
            equal(client.answer()["result"]["name"], "a")
        took = time.monotonic() - began
        equal(server.info()["connections"], 1001)
        grown = server.resident_kib() - before
        if "VMM_SANITIZE" not in os.environ:
            assert took < 5, f"{took} s"
            assert grown < 4096, f"{grown} KiB for a thousand idle connections"
        served(server)


def connections__closed__give_everything_back():
    with Server() as server:
        before = server.descriptors()
        for _ in range(300):
            with server.client() as client:
                client.send_line(GET % 1)
        server.until_descriptors(before)


def connections__above_the_limit__told_and_closed():
    with Server("--max", "3") as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(3)]
        for client in clients:
            client.call("vm.get", ["a"])
        with server.client() as extra:
            failed(extra.answer(), "limit_exceeded")
            equal(extra.read_line(), None)
        clients.pop().close()
        equal(clients[0].call("vm.get", ["a"])["result"]["name"], "a")
        server.until("room", lambda info: info["connections"] == 3)


def descriptors__run_out__others_served_and_no_busy_loop():
    with Server("--files", "24") as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(40)]
        equal(clients[0].call("vm.get", ["a"])["result"]["name"], "a")
        clients[39].send_line(GET % 7)
        before = server.cpu_seconds()
        clients[39].socket.settimeout(1.5)
        try:
            raise AssertionError(f"served beyond its descriptors: {clients[39].answer()}")
        except socket.timeout:
            pass
        spent = server.cpu_seconds() - before
        assert spent < 0.3, f"{spent} s of processor time while nothing could be done"
        equal(clients[0].call("vm.get", ["a"])["result"]["name"], "a")
        for client in clients[:30]:
            client.close()
        clients[39].socket.settimeout(SECONDS)
        equal(clients[39].answer()["id"], 7)


def half_close__after_a_request__answered_then_closed():
    with Server() as server, server.client() as client:
        client.send_line('{"jsonrpc":"2.0","id":1,"method":"operation.wait","params":["x","50ms"]}')
        client.end_sending()
        equal(client.answer()["result"], "waited")
        equal(client.read_line(), None)


def half_close__without_a_newline__answered():
    with Server() as server, server.client() as client:
        client.send(GET % 1)
        client.end_sending()
        equal(client.answer()["result"]["name"], "a")
        equal(client.read_line(), None)


def half_close__with_half_a_request__parse_error():
    with Server() as server, server.client() as client:
        client.send((GET % 1)[:20])
        client.end_sending()
        failed(client.answer(), "parse_error")
        equal(client.read_line(), None)


def client__gone_while_it_waits__the_request_hears_of_it():
    with Server() as server:
        with server.client() as client:
            for i in range(5):
                client.send_line(WAIT % i)
            client.send("[" + ",".join(WAIT % i for i in range(5)) + "]\n")
            server.until("waiting", lambda info: info["waiting"] == 10)
        server.until("gone", lambda info: info["gone"] == 10 and info["waiting"] == 0)
        served(server)


def client__half_closed_then_gone__the_request_hears_of_it():
    with Server() as server:
        with server.client() as client:
            client.send_line(WAIT % 1)
            client.end_sending()
            server.until("waiting", lambda info: info["waiting"] == 1)
        server.until("gone", lambda info: info["gone"] == 1)


def client__gone_before_its_request_is_read__the_request_runs():
    with Server() as server:
        client = server.client()
        with open("/dev/null", "rb") as null:
            client.send_line(GET % 1, [null.fileno()])
        client.close()
        server.until("run", lambda info: info["fds"] == 1)


def shutdown__while_requests_wait__they_are_told():
    with Server() as server, server.client() as client, server.client() as other:
        client.send_line(WAIT % 1)
        client.send("[" + WAIT % 2 + "]\n")
        server.until("waiting", lambda info: info["waiting"] == 2)
        equal(other.call("system.shutdown")["result"], {})
        # In any order: one alone, one in its batch.
        told = {}
        for answer in (client.answer(), client.answer()):
            for one in answer if isinstance(answer, list) else [answer]:
                failed(one, "shutting_down")
                told[one["id"]] = one
        equal(set(told), {1, 2})
        equal(client.read_line(), None)
        equal(server.process.wait(SECONDS), 0)


def shutdown__with_a_long_answer_on_its_way__sends_what_is_read():
    with Server() as server, server.client() as client:
        client.send_line('{"jsonrpc":"2.0","id":1,"method":"vm.log","params":'
                         '{"name":"a","tail":3000000}}')
        client.send_line('{"jsonrpc":"2.0","id":2,"method":"system.shutdown"}')
        equal(len(client.answer()["result"]), 3000000)
        equal(json.loads(client.read_line())["id"], 2)
        server.process.wait(SECONDS)


run(globals())
