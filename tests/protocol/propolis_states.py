#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The fake propolis-server moves from state to state as the real one, and does wrong as told."""

import http.client
import os
import re
import signal
import socket
import subprocess
import time

import propolis_wire
from propolis_wire import FAKE, IDENT, PROPERTIES, Server, ZERO
from wire import equal, run


# States

def states__from_ensure_to_destroyed__each_has_a_generation(version):
    with Server(version, hold="Starting") as server:
        server.ensure()
        equal(server.put("Run").status, 204)
        equal(server.monitor(2).json["state"], "Starting")
        server.release()
        equal(server.monitor(3).json["state"], "Running")
        server.faults(hold="Stopping")
        equal(server.put("Stop").status, 204)
        equal(server.monitor(4).json["state"], "Stopping")
        server.faults(hold="Stopped")
        equal(server.monitor(5).json["state"], "Stopped")
        server.release()
        equal(server.monitor(6).json["state"], "Destroyed")
        server.monitor(7).refused(410, "NoInstance")
        for gen in (0, 1, 6):  # any that has been
            equal(server.monitor(gen).json["gen"], 6)
        equal(server.get().json["instance"]["state"], "Destroyed")
        equal(server.get("/spec").json["state"], "Destroyed")
        equal(server.get("/migration-status").status, 200)
        for answer in (server.put("Run"), server.put("Stop"), server.put("Reboot"),
                       server.call("POST", "/instance/nmi"), server.history("from_start=0")):
            answer.refused(424, "NoInstance")


def monitor__a_generation_to_come__waits(version):
    with Server(version) as server:
        server.ensure()
        polls = [server.polling(2) for _ in range(3)] + [server.polling(3)]
        equal(server.get().status, 200)  # they hold up nobody
        assert all(poll.pending() for poll in polls)
        server.put("Run")
        for poll in polls:
            assert poll().json["gen"] >= 2
        equal(polls[3:] and server.monitor(3).json["state"], "Running")
        never = server.polling(100)
        server.put("Stop")
        never().refused(410, "NoInstance")


def monitor__client_gone__is_noted():
    with Server() as server:
        server.ensure()
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"GET /instance/state-monitor HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                         b"api-version: 5.0.0\r\n\r\n{\"gen\":5}")
        server.until(lambda: any(row["status"] == 0 for row in server.exchanges()), "noted")


def monitor__states_skipped__generations_jump(version):
    with Server(version, skip_states=True) as server:
        server.ensure()
        server.put("Run")
        equal(server.monitor(2).json, {**server.monitor(0).json, "gen": 3, "state": "Running"})
        server.put("Reboot")
        equal(server.monitor(4).json["gen"], 5)
        server.put("Stop")
        answer = server.monitor(6).json
        equal((answer["gen"], answer["state"]), (8, "Destroyed"))


def put__not_started(version):
    with Server(version) as server:
        server.ensure()
        server.put("Reboot").refused(403)
        assert "active" in server.put("Reboot").json["error_code"]
        equal(server.put("Stop").status, 204)
        server.reach("Destroyed")


def put__starting(version):
    with Server(version, hold="Starting") as server:
        server.ensure()
        server.put("Run")
        server.reach("Starting")
        equal(server.put("Run").status, 204)
        assert "starting" in server.put("Reboot").refused(403).json["error_code"]
        server.release()
        gen = server.reach("Running")
        equal(server.put("Run").status, 204)
        equal(server.monitor(gen).json["gen"], gen)  # nothing came of it


def put__stop_while_starting__skips_stopping(version):
    with Server(version, hold="Starting") as server:
        server.ensure()
        server.put("Run")
        server.reach("Starting")
        equal(server.put("Stop").status, 204)
        server.reach("Destroyed")
        equal([row["state"] for row in server.rows("server-events.jsonl")
               if row["event"] == "state"],
              ["Creating", "Starting", "Stopped", "Destroyed"])


def put__rebooting(version):
    with Server(version) as server:
        gen = server.run()
        server.faults(hold="Rebooting")
        equal(server.put("Reboot").status, 204)
        equal(server.monitor(gen + 1).json["state"], "Rebooting")
        equal(server.put("Reboot").status, 204)  # that is pending
        equal(server.put("Run").status, 204)
        server.release()
        equal(server.monitor(gen + 2).json["state"], "Running")
        server.faults(hold="Rebooting")
        server.put("Reboot")
        server.monitor(gen + 3)
        equal(server.put("Stop").status, 204)
        assert "stop" in server.put("Run").refused(403).json["error_code"]
        assert "stop" in server.put("Reboot").refused(403).json["error_code"]
        equal(server.put("Stop").status, 204)
        server.release()
        server.reach("Destroyed")


def put__stopping_and_stopped(version):
    with Server(version) as server:
        server.run()
        for state in ("Stopping", "Stopped"):
            server.faults(hold=state)
            equal(server.put("Stop").status, 204)
            server.reach(state)
            server.put("Run").refused(403)
            server.put("Reboot").refused(403)
            equal(server.put("Stop").status, 204)
        assert "halted" in server.put("Run").json["error_code"]


def guest__poweroff_and_reset(version):
    with Server(version) as server:
        gen = server.run()
        server.do("reset")
        server.monitor(gen + 2)
        server.do("poweroff")
        server.reach("Destroyed")
        equal([row["state"] for row in server.rows("server-events.jsonl")
               if row["event"] == "state"],
              ["Creating", "Starting", "Running", "Rebooting", "Running", "Stopping", "Stopped",
               "Destroyed"])


def failed__on_demand_or_at_start(version):
    for demand in (True, False):
        with Server(version, hold="Failed", fail_run=not demand) as server:
            server.ensure()
            server.put("Run")
            if demand:
                server.reach("Running")
                server.do("fail")
            server.reach("Failed")
            assert "failed" in server.put("Run").refused(403).json["error_code"]
            server.put("Reboot").refused(403)
            equal(server.put("Stop").status, 204)
            server.release()
            server.until(lambda: server.put("Stop").status == 424, "run down")
            equal(server.get().json["instance"]["state"], "Failed")
            server.until(lambda: server.ensure().status == 201, "allowed again")


# The rest

def nmi_and_disks__have_no_crucible(version):
    with Server(version) as server:
        server.run()
        answer = server.call("POST", "/instance/nmi")
        equal((answer.status, answer.text), (200, b"null"))
        server.get("/disk/root-be/status").refused(404)
        server.call("POST", f"/instance/disk/root-be/snapshot/{ZERO}").refused(404)
        server.call("POST", "/instance/disk/root-be/snapshot/x").refused(400)
        server.call("PUT", "/instance/disk/root-be/vcr", {"vcr_json": "{}"}).refused(404)
        server.call("PUT", "/instance/disk/root-be/vcr", {}).refused(400)


def migration__in__phases_then_running(version):
    with Server(version, hold="Sync") as server:
        answer = server.call("PUT", "/instance", {"properties": PROPERTIES, "init": {
            "method": "MigrationTarget", "value": {"migration_id": IDENT, "src_addr":
                                                   "127.0.0.1:1", "replace_components": {}}}})
        equal((answer.status, answer.json), (201, {"migrate": {"migration_id": IDENT}}))
        server.reach("Migrating")
        equal(server.get("/migration-status").json,
              {"migration_in": {"id": IDENT, "state": "Sync"}, "migration_out": None})
        equal(server.get("/spec").json["spec"], {"type": "WaitingForMigrationSource"})
        server.release()
        server.reach("Running")
        equal(server.get("/migration-status").json["migration_in"]["state"], "Finish")
        equal(server.get("/spec").json["spec"]["type"], "Present")
        server.put("Stop")
        server.reach("Destroyed")
        server.allowed = ["request init", "reply migrate", "reply spec"]  # rows know no target


def migration__out__refuses_a_reboot_and_ends(version):
    for error, last, phase in ((False, "Destroyed", "Finish"), (True, "Running", "Error")):
        with Server(version) as server:
            server.run()
            server.faults(hold="RamPush")
            server.do("migrate-out", id=IDENT, destination="127.0.0.1:1", error=error)
            server.reach("Migrating")
            assert "migration" in server.put("Reboot").refused(403).json["error_code"]
            server.release()
            server.until(lambda: server.monitor(0).json["migration"]["migration_out"]["state"]
                         == phase, phase)
            server.reach(last)


# Faults

def fault__status_and_body__nothing_is_done():
    with Server() as server:
        server.faults({"method": "PUT", "path": "/instance", "nth": 2, "status": 503})
        equal(server.ensure().status, 201)
        server.put("Run").refused(503)
        equal(server.get().json["instance"]["state"], "Creating")
        equal(server.put("Run").status, 204)
        server.faults({"path": "/instance/spec", "status": 200, "body": "{\"half\":"})
        connection = server.connect()
        connection.request("GET", "/instance/spec", headers={"api-version": "5.0.0"})
        equal(connection.getresponse().read(), b"{\"half\":")
        connection.close()


def fault__of_another_zone_or_method__is_not_ours():
    with Server(zone="one") as server:
        server.faults({"path": "/", "zone": "two", "status": 500},
                      {"path": "/", "method": "PUT", "status": 500},
                      {"path": "/instance/spec", "status": 500})
        equal(server.get().status, 424)
        equal(server.ensure().status, 500)


def fault__delay_and_slow__the_answer_is_whole():
    with Server() as server:
        server.faults({"path": "/instance", "nth": 1, "delay": 0.3},
                      {"path": "/instance", "nth": 2, "slow": 0.001})
        for least in (0.3, 0.2):
            start = time.monotonic()
            server.get().refused(424)
            assert time.monotonic() - start >= least


def fault__cut_close_garbage__no_answer():
    with Server() as server:
        server.faults({"nth": 1, "cut": 0}, {"nth": 2, "cut": 40}, {"nth": 3, "cut": 200},
                      {"nth": 4, "close": True}, {"nth": 5, "garbage": True})
        for length, begin in ((0, b""), (40, b"HTTP/1.1 424 "), (200, b"HTTP/1.1 424 "), (0, b"")):
            data = server.raw()
            equal((len(data), data[:len(begin)]), (length, begin))
        assert b"HTTP/1" not in server.raw()
        server.get().refused(424)


def fault__cut_after_the_work__it_is_done():
    with Server() as server:
        server.ensure()
        server.faults({"method": "PUT", "path": "/instance", "nth": 1, "cut": 20})
        connection = server.connect()
        connection.request("PUT", "/instance/state", "\"Run\"", {"api-version": "5.0.0"})
        equal(connection.sock.makefile("rb").read(), b"HTTP/1.1 204 No Cont")
        connection.close()
        server.reach("Running")


def fault__chunked__the_answer_is_whole():
    with Server() as server:
        server.faults({"chunked": True})
        answer = server.get().refused(424)
        equal(answer.headers["transfer-encoding"], "chunked")


def command__exit__the_process_ends():
    with Server() as server:
        server.do("exit", status=7)
        equal(server.process.wait(10), 7)


# The program

def program(*args):
    return subprocess.run([os.path.join(FAKE, "propolis-server"), *args], text=True,
                          capture_output=True, timeout=60, check=False)


def program__bad_arguments__refused():
    with Server() as server:
        for args in ((), ("run",), ("run", server.bootrom), ("run", server.bootrom, "nowhere:1"),
                     ("run", server.bootrom, "::1:80"), ("run", server.bootrom, "127.0.0.1"),
                     ("run", server.bootrom, "127.0.0.1:99999"), ("start", server.bootrom),
                     ("run", server.bootrom, "127.0.0.1:0", "[::1]:0", "more"),
                     ("run", server.bootrom, "127.0.0.1:0", "--metric-addr", "x"),
                     ("run", server.bootrom, "127.0.0.1:0", "--config", "x")):
            assert program(*args).returncode == 2, args


def program__no_boot_rom__refused():
    done = program("run", "/nonexistent/OVMF_CODE.fd", "127.0.0.1:0")
    equal(done.returncode, 1)
    assert "/nonexistent/OVMF_CODE.fd" in done.stderr


def program__address_taken__refused():
    with Server() as server:
        done = program("run", server.bootrom, f"127.0.0.1:{server.port}")
        equal(done.returncode, 1)
        assert "listen" in done.stderr


def program__ipv6_and_options__are_taken():
    with Server() as server:
        with subprocess.Popen([os.path.join(FAKE, "propolis-server"), "run", "--log-level", "debug",
                               server.bootrom, "[::1]:0", "[::1]:0", "--bootrom-version", "one",
                               "--metric-addr", "disable"], text=True, stdout=subprocess.PIPE,
                              env={k: v for k, v in os.environ.items() if k != "VMM_FAKE_DIR"}
                              ) as process:
            ports = re.findall(r"\[::1\]:(\d+)", process.stdout.readline())
            connection = http.client.HTTPConnection("::1", int(ports[0]), timeout=60)
            connection.request("GET", "/instance", headers={"api-version": "1.0.0"})
            equal(connection.getresponse().status, 424)
            connection.close()
            process.send_signal(signal.SIGTERM)
        equal(process.returncode, -signal.SIGTERM)


def exchanges__written_down__whole():
    with Server(zone="vmm-0123456789ab") as server:
        server.ensure(headers={"X-Test": "yes"})
        row = server.exchanges()[-1]
        equal((row["zone"], row["method"], row["path"], row["api_version"], row["status"]),
              ("vmm-0123456789ab", "PUT", "/instance", "5.0.0", 201))
        equal(row["request"]["properties"], PROPERTIES)
        equal((row["reply"], row["request_headers"]["x-test"]), ({"migrate": None}, "yes"))


if __name__ == "__main__":
    run(propolis_wire.each_version(globals()))
