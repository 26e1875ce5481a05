#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Connections that stop carrying requests, carry notifications too, or carry descriptors."""

import json
import tempfile

from wire import Server, equal, failed, run

CONSOLE = {"jsonrpc": "2.0", "id": 1, "method": "vm.console", "params": {"name": "a"}}
SUBSCRIBE = {"jsonrpc": "2.0", "id": 1, "method": "event.subscribe", "params": {"since": 3}}


def read_bytes(client, count):
    data = client.buffer
    while len(data) < count:
        more = client.read()
        assert more, f"ended after {len(data)} of {count} bytes"
        data += more
    client.buffer = data[count:]
    return data[:count]


def upgrade__console__bytes_both_ways():
    with Server() as server, server.client() as client:
        request = dict(CONSOLE, params={"name": "a", "history_bytes": 100000})
        equal(client.ask(request), {"jsonrpc": "2.0", "id": 1, "result": {}})
        equal(read_bytes(client, 100000), b"h" * 100000)
        client.send(b"not a request\n\x00\xff")
        equal(read_bytes(client, 16), b"not a request\n\x00\xff")
        client.send(json.dumps(CONSOLE) + "\n")
        equal(client.answer(), CONSOLE)
        client.end_sending()
        equal(client.read_line(), None)


def upgrade__closed_by_the_client__forgotten():
    with Server() as server:
        before = server.descriptors()
        for _ in range(20):
            with server.client() as client:
                client.ask(dict(CONSOLE, params={"name": "a", "history_bytes": 0}))
        server.until_descriptors(before)


def upgrade__with_a_request_behind_it__that_one_is_refused():
    with Server() as server, server.client() as client:
        request = dict(CONSOLE, params={"name": "a", "history_bytes": 3})
        behind = {"jsonrpc": "2.0", "id": 2, "method": "vm.get", "params": ["a"]}
        client.send(json.dumps(request) + "\n" + json.dumps(behind) + "\n")
        refused = client.answer()
        equal(refused["id"], 2)
        failed(refused, "invalid_request", -32600)
        equal(client.answer()["id"], 1)
        equal(read_bytes(client, 3), b"hhh")
        client.send(b"still there")
        equal(read_bytes(client, 11), b"still there")


def upgrade__while_another_request_runs__refused():
    with Server() as server, server.client() as client:
        client.send_line({"jsonrpc": "2.0", "id": 7, "method": "vm.wait", "params": ["a"]})
        failed(client.ask(CONSOLE), "invalid_request")
        equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def upgrade__in_a_batch_or_as_a_notification__refused():
    with Server() as server, server.client() as client:
        failed(client.ask([CONSOLE])[0], "invalid_request")
        client.send_line({k: v for k, v in CONSOLE.items() if k != "id"})
        equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def upgrade__of_a_half_closed_client__still_shows_the_console():
    with Server() as server, server.client() as client:
        client.send_line(dict(CONSOLE, params={"name": "a", "history_bytes": 5000}))
        client.end_sending()
        equal(client.answer()["id"], 1)
        equal(read_bytes(client, 5000), b"h" * 5000)
        equal(client.read_line(), None)


def subscription__notifications__follow_the_answer():
    with Server() as server, server.client() as client:
        equal(client.ask(SUBSCRIBE)["result"], {})
        for seq in (1, 2, 3):
            equal(client.answer(),
                  {"jsonrpc": "2.0", "method": "event", "params": {"seq": seq}})
        equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def subscription__client_gone__told_once():
    with Server() as server:
        with server.client() as client:
            for _ in range(2):
                equal(client.ask(dict(SUBSCRIBE, params={}))["result"], {})
        server.until("gone", lambda info: info["gone"] == 2 and info["waiting"] == 0)


def subscription__half_closed__goes_on():
    with Server() as server, server.client() as client:
        client.send_line(SUBSCRIBE)
        client.end_sending()
        equal(client.answer()["id"], 1)
        equal([client.answer()["params"]["seq"] for _ in range(3)], [1, 2, 3])
        equal(server.info()["waiting"], 1)


def subscription__too_many__refused():
    with Server() as server, server.client() as client:
        quiet = dict(SUBSCRIBE, params={})
        for _ in range(32):
            assert "result" in client.ask(quiet)
        failed(client.ask(quiet), "limit_exceeded")


def subscription__in_a_batch__refused():
    with Server() as server, server.client() as client:
        failed(client.ask([SUBSCRIBE])[0], "invalid_request")


def subscription__then_a_console__refused():
    with Server() as server, server.client() as client:
        client.ask(dict(SUBSCRIBE, params={}))
        failed(client.ask(CONSOLE), "invalid_request")


def descriptors__with_a_line__reach_its_requests():
    with Server() as server, tempfile.TemporaryFile() as file:
        with server.client() as client:
            client.call("vm.get", ["a"], fds=[file.fileno()] * 3)
            client.call("vm.get", ["a"])
        equal(server.info()["fds"], 3)


def descriptors__with_a_batch__are_shared():
    request = {"jsonrpc": "2.0", "id": 1, "method": "vm.get", "params": ["a"]}
    with Server() as server, tempfile.TemporaryFile() as file, server.client() as client:
        client.ask([request, request, request], fds=[file.fileno()] * 5)
        equal(server.info()["fds"], 5)


def descriptors__nobody_takes__are_closed():
    with Server() as server, tempfile.TemporaryFile() as file, server.client() as client:
        client.call("vm.get", ["a"])
        before = server.descriptors()
        for line in ("rubbish", "", "[]", '{"jsonrpc":"2.0","method":"nothing","id":1}'):
            client.send_line(line, fds=[file.fileno()] * 20)
        client.send("half a line", fds=[file.fileno()] * 20)
        client.send("\n")
        equal([client.answer()["error"]["code"] for _ in range(4)],
              [-32700, -32600, -32601, -32700])
        server.until_descriptors(before)
        client.send("half a line again", fds=[file.fileno()] * 20)
        client.close()
        server.until_descriptors(before - 1)
        equal(server.info()["fds"], 0)


def descriptors__more_than_a_line_may_have__closed():
    with Server() as server, tempfile.TemporaryFile() as file, server.client() as client:
        client.call("vm.get", ["a"])
        before = server.descriptors()
        for _ in range(10):
            client.send(" ", fds=[file.fileno()] * 200)
        client.call("vm.get", ["a"])
        equal(server.info()["fds"], 1024)
        server.until_descriptors(before)


run(globals())
