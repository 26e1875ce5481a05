#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Clients that take their time: those deadlines are long, so all of them pass side by side."""

import contextlib
import os
import select
import time

from wire import SECONDS, Server, equal, failed, run

GET = '{"jsonrpc":"2.0","id":1,"method":"vm.get","params":["a"]}'
MUCH = '{"jsonrpc":"2.0","id":1,"method":"vm.log","params":{"name":"a","tail":3000000}}\n'


def drip(client):
    """One byte of a line; False when the other side has closed."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.send("[")
        return True
    return False


def slow__one_byte_a_second_and_never_reading__closed_in_time_others_served():
    with Server() as server, contextlib.ExitStack() as stack:
        drips = [stack.enter_context(server.client()) for _ in range(20)]
        deaf = stack.enter_context(server.client())
        idle = stack.enter_context(server.client())
        reader = stack.enter_context(server.client())
        busy = stack.enter_context(server.client())
        began = time.monotonic()
        deaf.send(MUCH * 4)
        server.until("all there", lambda info: info["connections"] == 25)
        ended = {}
        worst = 0.0
        reader.send(MUCH * 4)
        while len(ended) < 2 and time.monotonic() - began < SECONDS:
            asked = time.monotonic()
            equal(busy.call("vm.get", ["a"])["result"]["name"], "a")
            worst = max(worst, time.monotonic() - asked)
            # Slow, but it reads: 1 MiB at a time.
            if "reader" not in ended and reader.socket.recv(1 << 20) == b"":
                raise AssertionError("one that reads slowly was closed")
            if "drips" not in ended:
                alive = [drip(client) for client in drips]
                if not any(alive):
                    ended["drips"] = time.monotonic() - began
            select.select([], [], [], 1)
            if "deaf" not in ended and server.info()["connections"] < 25 - 20:
                ended["deaf"] = time.monotonic() - began
        assert 9 < ended["drips"] < 20, ended
        assert 29 < ended["deaf"] < 45, ended
        if "VMM_SANITIZE" not in os.environ:
            assert worst < 0.25, f"somebody else waited {worst} s"
        failed(drips[0].answer(), "timed_out")
        equal(idle.call("vm.get", ["a"])["result"]["name"], "a")


run(globals())
