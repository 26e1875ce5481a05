#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Pictures of a machine's screen, with an emulator whose guest has nothing to boot."""

import base64
import os
import struct

from harness import Host, RpcError, check, equal, run

host = Host(env={"VMMD_ACCEL": "tcg"}).start()


def picture(row):
    data = base64.b64decode(row["base64"])
    equal((data[:8], data[-8:-4]), (b"\x89PNG\r\n\x1a\n", b"IEND"))
    return struct.unpack(">II", data[16:24])


def test_those_asked_for_at_once_are_all_whole():
    disk = os.path.join(host.dir, "disk.raw")
    with open(disk, "wb") as f:
        f.truncate(16 << 20)
    host.call("vm.create", name="tv", image=disk, memory=64, network="none", display="vnc")
    host.call("vm.start", name="tv")
    connections = [host.rpc(120) for _ in range(6)]
    asked = [(c, [c.begin("vm.screenshot", name="tv") for _ in range(3)]) for c in connections]
    sizes = {picture(c.answer(i)) for c, ids in asked for i in ids}
    check(len(sizes) <= 2 and all(w >= 320 and h >= 200 for w, h in sizes), sizes)
    for c in connections:
        c.close()
    path = os.path.join(host.vm("tv")["work_dir"], "screen.png")
    equal(os.path.getsize(path), 0, "nothing is kept")


def test_those_of_a_machine_that_goes_are_answered():
    connection = host.rpc(120)
    asked = [connection.begin("vm.screenshot", name="tv") for _ in range(8)]
    host.call("vm.destroy", name="tv", force=True)
    for i in asked:
        try:
            picture(connection.answer(i))
        except RpcError:
            pass  # an answer, too: none would be a timeout
    connection.close()
    equal(host.names(), [])
    check(host.listening(), "the daemon lives on")


run(globals(), [host])
