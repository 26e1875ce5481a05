#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""vmctl as a program, against a scripted daemon: what a real one can not be made to say at will.

    vmctl.py VMCTL TOP [unittest arguments]
"""

import base64
import fcntl
import json
import os
import re
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import termios
import threading
import unittest

from vmctl_case import TIMEOUT, TOP, VMCTL, Case, Terminal, fake

ROW = {
    "name": "web", "id": "0123456789ab", "backend": "qemu", "state": "running", "reason": None,
    "responsive": True, "vcpus": 2, "memory_mib": 1024, "disk_bytes": 10 << 30,
    "network": {"type": "user"}, "pid": 4711, "ssh": {"host": "127.0.0.1", "port": 40022},
}


class Answers(Case):
    def test_list(self):
        self.serve({"vm.list": {"vms": [dict(ROW, name="b", state="failed", reason="guest-panic"),
                                        ROW, dict(ROW, name="a", responsive=False)]}})
        out, err = self.run_vmctl("list")
        self.assertEqual(out.splitlines(), [
            "NAME  BACKEND  STATE                   VCPUS    MEM  NETWORK   PID  SSH",
            "a     qemu     running (unresponsive)      2  1 GiB  user     4711  :40022",
            "b     qemu     failed (guest-panic)        2  1 GiB  user     4711  :40022",
            "web   qemu     running                     2  1 GiB  user     4711  :40022"])
        self.assertEqual(err, "")

    def test_list_empty(self):
        self.serve({"vm.list": {"vms": []}})
        self.assertEqual(self.run_vmctl("list")[0], "no machines\n")
        self.assertEqual(self.run_vmctl("list", "--json")[0], '{"vms":[]}\n')

    def test_a_vnic_and_its_screen_are_shown(self):
        network = {"type": "vnic", "name": "web0", "link": "igb0", "address": "192.0.2.9/24",
                   "gateway": "192.0.2.1", "dns": ["192.0.2.2"]}
        self.serve({"vm.get": dict(ROW, network=network, vnc="127.0.0.1:5900"),
                    "vm.stop": dict(ROW, how="graceful", by="ssh")})
        out, _ = self.run_vmctl("status", "web")
        self.assertIn("Network:     vnic (web0, over igb0, 192.0.2.9/24, by 192.0.2.1)\n", out)
        self.assertIn("VNC:         127.0.0.1:5900\n", out)
        self.assertIn("(0123456789ab, graceful by ssh)", self.run_vmctl("stop", "web")[0])

    def test_what_is_said_of_a_vnic_is_sent(self):
        daemon = self.serve({"vm.create": ROW})
        self.run_vmctl("create", "web", "--backend", "noop", "--address", "192.0.2.9/24",
                       "--dns", "192.0.2.2", "--dns", "192.0.2.3", "--ssh-port", "2222")
        sent = [call.params for call in daemon.calls if call.method == "vm.create"][0]
        self.assertEqual(sent["network"], {"type": "vnic", "address": "192.0.2.9/24",
                                           "dns": ["192.0.2.2", "192.0.2.3"]})
        self.assertEqual(sent["ssh"], {"port": 2222})

    def test_text_of_others_does_not_steer_the_terminal(self):
        self.serve({"vm.get": dict(ROW, reason="\x1b]0;owned\x07\u009b31m"),
                    "vm.start": fake.Error(-32000, "failed", "\x1b[2Jgone", hint="a\x07b")})
        terminal = Terminal(self, "status", "web")
        self.assertEqual(terminal.end(), 0)
        self.assertNotIn(b"\x1b]", terminal.text)
        self.assertNotIn("\u009b".encode(), terminal.text)
        _, err = self.run_vmctl("start", "web", status=1)
        self.assertEqual(err, "vmctl: \\x1b[2Jgone\nhint: a\\x07b\n")

    def test_exit_statuses_are_those_of_the_error_table(self):
        table = os.path.join(TOP, "lib/base/errors.def")
        with open(table, encoding="utf-8") as file:
            rows = re.findall(r'ERROR\(\w+, +"(\w+)", +(-\d+), (\d+),', file.read())
        self.assertGreater(len(rows), 20)
        daemon = self.serve({})
        for name, code, status in rows:
            daemon.answers["vm.start"] = fake.Error(int(code), name, "said so")
            self.run_vmctl("start", "web", status=int(status))
            daemon.answers["vm.exec"] = daemon.answers["vm.start"]
            self.run_vmctl("exec", "web", "true", status=255)

    def test_error_object(self):
        self.serve({"vm.get": fake.Error(-32001, "not_found", "no", hint="look")})
        out, err = self.run_vmctl("--json", "status", "x", status=3)
        self.assertEqual(json.loads(out), {"code": -32001, "message": "no",
                                           "data": {"name": "not_found", "hint": "look"}})
        self.assertEqual(err, "vmctl: no\nhint: look\n")

    def test_help_of_every_verb(self):
        out, _ = self.run_vmctl("help")
        verbs = [line[2:18].rstrip() for line in out.splitlines() if line.startswith("  ")
                 and not line.lstrip().startswith("-")]
        self.assertGreater(len(verbs), 25)
        for verb in verbs:
            by_flag, _ = self.run_vmctl(*verb.split(), "--help")
            by_verb, _ = self.run_vmctl("help", *verb.split())
            self.assertEqual(by_flag, by_verb)
            self.assertTrue(by_flag.startswith("usage: vmctl " + verb))

    def test_other_version_is_told(self):
        self.serve({"system.hello": {"protocol": 1, "version": "9.9"}, "vm.list": {"vms": []}})
        out, err = self.run_vmctl("list")
        self.assertEqual(out, "no machines\n")
        self.assertIn("this is vmctl 0.1.0, but vmmd 9.9 is running", err)
        self.assertEqual(self.run_vmctl("list", "-q")[1], "")

    def test_daemon_that_goes_away(self):
        def leave(call):
            call.connection.socket.close()
            raise EOFError
        self.serve({"vm.get": leave})
        _, err = self.run_vmctl("status", "web", status=5)
        self.assertIn("vmmd went away before it answered", err)

    def test_long_socket_path(self):
        folder = os.path.join(self.dir, "x" * 100, "y" * 60)
        os.makedirs(folder)
        here = os.getcwd()
        os.chdir(folder)
        daemon = fake.Fake("s", {"vm.list": {"vms": []}})
        os.chdir(here)
        self.addCleanup(daemon.close)
        self.run_vmctl("--socket", os.path.join(folder, "s"), "list")

    def test_wait(self):
        daemon = self.serve({"vm.wait": ROW})
        out, _ = self.run_vmctl("wait", "web", "--for", "ssh", "--timeout", "90")
        self.assertEqual(out, "'web' is ssh\n")
        self.assertEqual(daemon.asked("vm.wait")[0].params,
                         {"name": "web", "for": "ssh", "timeout": "90000ms"})

    def test_stop_tells_how_it_ended(self):
        self.serve({"vm.stop": dict(ROW, how="killed")})
        self.assertEqual(self.run_vmctl("stop", "web")[0], "stopped 'web' (0123456789ab, killed)\n")

    def test_rpc(self):
        path = self.write("img", "content")
        def create(call):
            return {"params": call.params, "content": os.pread(call.fds[0], 99, 0).decode()}
        self.serve({"vm.create": create, "vm.get": lambda call: call.params})
        out, _ = self.run_vmctl("rpc", "vm.create", "name=7", "vcpus=2", f"image={path}",
                                "cloud_init={}", "memory=1GiB")
        self.assertEqual(json.loads(out), {"content": "content", "params": {
            "name": "7", "vcpus": 2, "image": {"fd": 0, "name": path}, "cloud_init": {},
            "memory": "1GiB"}})
        out, _ = self.run_vmctl("rpc", "vm.get", '{"name": "a", "x": [1]}')
        self.assertEqual(json.loads(out), {"name": "a", "x": [1]})
        _, err = self.run_vmctl("rpc", "vm.gte", status=2)
        self.assertIn("did you mean 'vm.get'?", err)

    def test_create_passes_files_open(self):
        image, key = self.write("a b.img", "disk"), self.write("k.pub", "ssh-ed25519 A")
        def create(call):
            call.connection.fake.contents = [os.pread(fd, 99, 0) for fd in call.fds]
            return ROW
        daemon = self.serve({"vm.create": create})
        out, _ = self.run_vmctl("create", "--name", "web", "--image", "a b.img", "--ssh-key", key,
                                "--disk", "3", "--user", "me", "--start")
        self.assertEqual(out, "created 'web' (0123456789ab)\nstarted 'web'\n")
        params = daemon.asked("vm.create")[0].params
        self.assertEqual(params, {
            "name": "web", "vcpus": 1, "memory": f"{1 << 30}B", "disk": f"{3 << 30}B",
            "image": {"fd": 0, "name": image}, "start": True, "progress": True,
            "cloud_init": {"ssh_key": {"fd": 1, "name": key}}, "ssh": {"user": "me"}})
        self.assertEqual(daemon.contents, [b"disk", b"ssh-ed25519 A"])
        _, err = self.run_vmctl("create", "--name", "web", "--image", "none.img", status=2)
        self.assertIn("can not open", err)
        os.mkdir(os.path.join(self.dir, "folder"))
        _, err = self.run_vmctl("create", "--name", "web", "--image", "./folder", status=2)
        self.assertIn("is a folder, not a regular file", err)


    def test_import_legacy(self):
        path = self.write("vms.json", "{}")
        rows = [{"name": "a", "new_name": "a", "problems": [], "notes": ["n"]},
                {"name": "B", "new_name": "b", "problems": [], "notes": []},
                {"name": "c", "new_name": "c", "problems": ["no disk"], "notes": ["n"]}]
        daemon = self.serve({"system.import_legacy": {"vms": rows}})
        out, _ = self.run_vmctl("import-legacy", path)
        self.assertEqual(out.splitlines(), [
            "a: can be taken over", "  note: n", "B: can be taken over as b",
            "c: can not be taken over", "  problem: no disk"])
        rows[0].update(action="failed", error="no room")
        rows[1].update(action="taken")
        rows[2].update(action="left")
        out, err = self.run_vmctl("import-legacy", path, "--take", "--name", "a", status=1)
        self.assertEqual(out.splitlines()[:3], ["a: failed", "  error: no room", "  note: n"])
        self.assertIn("B: taken as b\nc: left\n", out)
        self.assertIn("1 machine could not be taken over", err)
        params = daemon.asked("system.import_legacy")[1].params
        self.assertEqual((params["take"], params["names"]), (True, ["a"]))


class Projects(Case):
    VMFILE = """vms:
  web:
    image: a.img
    cloud-init: {user-data: data.yaml}
    provision:
      - shell: {script: setup.sh}
      - file: {source: setup.sh, destination: /x}
    depends-on: [db]
  db: {image: a.img, memory: 2GiB}
"""

    def setUp(self):
        super().setUp()
        self.write("VMFile.yaml", self.VMFILE)
        self.write("a.img", "disk")
        self.write("data.yaml", "#cloud-config\n")
        self.write("setup.sh", "echo\n")
        os.mkdir(os.path.join(self.dir, "sub"))

    def test_up_sends_checked_machines_and_open_files(self):
        def up(call):
            call.connection.fake.contents = [os.pread(fd, 99, 0) for fd in call.fds]
            call.progress(operation="o", vm="web", phase="boot", state="start")
            call.progress(operation="o", vm="web", state="output", stream="stdout", data="hello\n")
            call.progress(operation="o", vm="web", phase="boot", state="done", phase_ms=2000)
            return {"vms": [
                {"name": "web", "action": "created", "phases": [{"name": "boot", "ms": 2000}]},
                {"name": "db", "action": "unchanged", "changed": [
                    {"field": "memory", "from": "1 GiB", "to": "2 GiB", "when": "stopped"}]}],
                "orphans": ["old"], "project": "p"}
        daemon = self.serve({"file.up": up})
        out, err = self.run_vmctl("up", "--no-provision", "--timeout", "10s")
        self.assertEqual(out.splitlines(), [
            "web: created", "web:   2.0s in all: boot 2.0s", "db: unchanged",
            "db:   memory: 1 GiB -> 2 GiB (stopped)"])
        self.assertEqual(err.splitlines()[:2],
                         ["web | hello", "web: boot done in 2.0s"])
        self.assertIn("machine 'old' is of this VMFile's project but no longer in the file", err)
        params = daemon.asked("file.up")[0].params
        real = os.path.realpath(self.dir)
        self.assertEqual(params["project"], real + "/VMFile.yaml")
        self.assertEqual((params["provision"], params["timeout"]), (False, "10000ms"))
        web, db = params["vms"]
        self.assertEqual(web["image"], db["image"])
        self.assertEqual(web["provision"][0]["shell"]["script"]["fd"],
                         web["provision"][1]["file"]["source"]["fd"])
        self.assertEqual(web["cloud_init"]["user_data"]["name"], real + "/data.yaml")
        self.assertEqual(sorted(daemon.contents), [b"#cloud-config\n", b"disk", b"echo\n"])
        self.assertEqual(db["memory"], f"{2 << 30}B")
        out, _ = self.run_vmctl("--json", "up")
        self.assertEqual(json.loads(out)["orphans"], ["old"])

    def test_found_in_a_parent_and_backend(self):
        daemon = self.serve({"file.up": {"vms": []}})
        here, self.dir = self.dir, os.path.join(self.dir, "sub")
        self.run_vmctl("up", "--backend", "noop", "web")
        self.dir = here
        params = daemon.asked("file.up")[0].params
        self.assertEqual(params["project"], os.path.realpath(here) + "/VMFile.yaml")
        self.assertEqual([vm["backend"] for vm in params["vms"]], ["noop", "noop"])
        self.assertEqual(params["names"], ["web"])

    def test_failures_decide_the_status_and_are_all_told(self):
        self.serve({"file.up": {"vms": [
            {"name": "web", "action": "failed", "error": {
                "name": "provision_failed", "message": "step 1 of 'web' failed", "hint": "see"}},
            {"name": "db", "action": "failed", "error": {
                "name": "timed_out", "message": "'db' was late"}}]}})
        out, err = self.run_vmctl("up", status=6)
        self.assertEqual(out, "web: failed\ndb: failed\n")
        self.assertEqual(err, "vmctl: step 1 of 'web' failed\nhint: see\nvmctl: 'db' was late\n")
        out, _ = self.run_vmctl("up", "--json", status=6)
        self.assertEqual(len(json.loads(out)["vms"]), 2)

    def test_problems_of_the_file(self):
        self.serve({})
        self.write("bad.yaml", "vms:\n  a:\n    image: x\n    vcpu: 1\n    disk: no\n")
        out, err = self.run_vmctl("up", "--file", "bad.yaml", "--json", status=2)
        self.assertEqual(err.splitlines()[:2], [
            "bad.yaml:4:5: unknown key 'vcpu' (did you mean 'vcpus'?)",
            "bad.yaml:5:11: 'disk' must be a number, but no is a boolean in YAML"])
        error = json.loads(out)
        self.assertEqual([p["line"] for p in error["data"]["problems"]], [4, 5])
        self.assertEqual(error["data"]["name"], "bad_vmfile")

    def test_missing_file_is_told_with_its_line(self):
        self.serve({})
        os.unlink(os.path.join(self.dir, "setup.sh"))
        _, err = self.run_vmctl("plan", status=2)
        self.assertIn("vmctl: VMFile.yaml:6:25: can not open", err)

    def test_daemon_error_gets_its_line(self):
        self.serve({"file.up": fake.Error(-32602, "invalid_params", "vms[1].memory: too large",
                                          object="vms[1].memory")})
        _, err = self.run_vmctl("up", status=2)
        self.assertIn("VMFile.yaml:9:30: vms[1].memory: too large", err)

    def test_g64_unknown_name_is_an_error(self):
        self.serve({})
        for verb in ("up", "down", "reload", "provision", "plan"):
            _, err = self.run_vmctl(verb, "--name", "wbe", status=3)
            self.assertIn("there is no machine 'wbe'", err)
            self.assertIn("did you mean 'web'?", err)

    def test_plan(self):
        daemon = self.serve({"file.plan": {"work": True, "orphans": [], "vms": [
            {"name": "web", "action": "create", "changes": []}]}})
        self.assertEqual(self.run_vmctl("plan", status=10)[0], "web: create\n")
        daemon.answers["file.plan"] = {"work": False, "vms": []}
        self.assertEqual(self.run_vmctl("plan")[0], "nothing to do\n")
        self.assertNotIn("progress", daemon.asked("file.plan")[0].params)

    def test_down_needs_no_files(self):
        daemon = self.serve({"file.down": {"vms": [{"name": "web", "action": "destroyed"}]}})
        os.unlink(os.path.join(self.dir, "a.img"))
        self.run_vmctl("down", "--destroy", "--orphans")
        params = daemon.asked("file.down")[0].params
        self.assertEqual(params["vms"], [{"name": "web", "depends_on": ["db"]}, {"name": "db"}])
        self.assertTrue(params["destroy"] and params["orphans"])
        self.run_vmctl("down", "--orphans", status=2)

    def test_provision(self):
        daemon = self.serve({"vm.provision": {"name": "web", "ran": 1, "steps": 2}})
        out, err = self.run_vmctl("provision", "--force")
        self.assertEqual((out, err), ("web: 1 of 2 steps ran\n", "db: no provision steps\n"))
        call, = daemon.asked("vm.provision")
        self.assertEqual(call.params["project"], os.path.realpath(self.dir) + "/VMFile.yaml")
        self.assertTrue(call.params["force"])

    def cancelled(self, call):
        call.progress(operation="o7", vm="web", phase="boot", state="start")
        cancel = call.next_request()
        call.connection.fake.cancel = (cancel.method, cancel.params)
        cancel.send(id=cancel.id, result={})
        raise fake.Error(-32004, "cancelled", "file.up was cancelled")

    def test_ctrl_c_cancels_and_says_so(self):
        daemon = self.serve({"file.up": self.cancelled})
        terminal = Terminal(self, "up")
        terminal.until(b"web  boot")
        terminal.type(b"\x03")
        terminal.until(b"file.up was cancelled")
        self.assertEqual(terminal.end(), 130)
        self.assertIn(b"cancelling; Ctrl-C again leaves at once", terminal.text)
        self.assertEqual(daemon.cancel, ("operation.cancel", {"id": "o7"}))

    def test_second_ctrl_c_leaves_at_once(self):
        def stubborn(call):
            call.progress(operation="o7", vm="web", phase="boot", state="start")
            call.next_request()
            call.next_request()
        self.serve({"file.up": stubborn})
        terminal = Terminal(self, "up")
        terminal.until(b"web  boot")
        terminal.type(b"\x03")
        terminal.until(b"again leaves at once")
        terminal.type(b"\x03")
        self.assertEqual(terminal.end(), 130)

    def test_progress_is_redrawn_in_place(self):
        def up(call):
            call.progress(operation="o", vm="web", phase="boot", state="start")
            call.progress(operation="o", vm="web", state="output", stream="stdout",
                          data="\x1b[31mred\n")
            return {"vms": [{"name": "web", "action": "created"}]}
        self.serve({"file.up": up})
        terminal = Terminal(self, "up")
        self.assertEqual(terminal.end(), 0)
        self.assertIn(b"\r\x1b[1A\x1b[Jweb | red", terminal.text)
        self.assertTrue(terminal.text.endswith(b"\x1b[1A\x1b[Jweb: created\r\n"))
        self.assertNotIn(b"\x1b[31m", terminal.text)


class Streams(Case):
    def exec_answer(self, *sent):
        def answer(call):
            sock, rest = call.upgrade()
            daemon = call.connection.fake
            daemon.got = []
            for kind, data in fake.frames(sock, rest):
                daemon.got.append((kind, data))
                if kind == fake.STDIN_END:
                    break
            for message in sent:
                sock.sendall(message)
        return answer

    def test_exec_streams_and_status(self):
        daemon = self.serve({"vm.exec": self.exec_answer(
            fake.frame(fake.STDOUT, b"\xffout"), fake.frame(fake.STDERR, b"err"),
            fake.frame(fake.EXIT, {"status": 3}))})
        done = subprocess.run([VMCTL, "exec", "web", "cat", "-n"], input=b"x" * 200000, env=self.env,
                              capture_output=True, timeout=TIMEOUT, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (3, b"\xffout", b"err"))
        self.assertEqual(b"".join(data for _, data in daemon.got), b"x" * 200000)
        self.assertEqual(daemon.asked("vm.exec")[0].params["command"], ["cat", "-n"])

    def test_exec_signal_and_loss(self):
        daemon = self.serve({"vm.exec": self.exec_answer(fake.frame(fake.EXIT, {"signal": "KILL"}))})
        self.run_vmctl("exec", "web", "true", status=137)
        daemon.answers["vm.exec"] = self.exec_answer()
        _, err = self.run_vmctl("exec", "web", "true", status=255)
        self.assertIn("the connection to 'web' was lost", err)

    def test_exec_on_a_terminal(self):
        def answer(call):
            sock, rest = call.upgrade()
            sock.sendall(fake.frame(fake.STDOUT, b"$ "))
            for kind, data in fake.frames(sock, rest):
                call.connection.fake.got.append((kind, data))
                if kind == fake.WINDOW:
                    sock.sendall(fake.frame(fake.STDOUT, b"resized"))
                if data == b"\x03":
                    break
            sock.sendall(fake.frame(fake.EXIT, {"status": 7}))
        daemon = self.serve({"vm.exec": answer})
        daemon.got = []
        terminal = Terminal(self, "exec", "-t", "web", "sh", rows=30, columns=100)
        terminal.until(b"$ ")
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        terminal.until(b"resized")
        terminal.type(b"\x03")
        self.assertEqual(terminal.end(), 7)
        params = daemon.asked("vm.exec")[0].params
        self.assertEqual((params["tty"], params["columns"], params["rows"], params["term"]),
                         (True, 100, 30, "xterm"))
        self.assertIn((fake.WINDOW, b'{"columns": 120, "rows": 40}'), daemon.got)

    def console_answer(self, call):
        sock, rest = call.upgrade()
        sock.sendall(b"history\r\nlogin: ")
        daemon = call.connection.fake
        daemon.typed = rest
        try:
            while data := sock.recv(4096):
                daemon.typed += data
                sock.sendall(b"<" + data + b">")
        finally:
            daemon.left.set()

    def serve_console(self):
        daemon = self.serve({"vm.console": self.console_answer})
        daemon.left = threading.Event()
        return daemon

    def test_g80_console_is_raw_and_ctrl_bracket_leaves(self):
        daemon = self.serve_console()
        terminal = Terminal(self, "console", "web")
        terminal.until(b"login: ")
        self.assertIn(b"Ctrl-] leaves it", terminal.text)
        terminal.type(b"\x03")
        terminal.until(b"<\x03>")
        terminal.type(b"last\x1dnever")
        self.assertEqual(terminal.end(), 0)
        self.assertTrue(daemon.left.wait(TIMEOUT))
        self.assertEqual(daemon.typed, b"\x03last")

    def test_console_restores_the_terminal_when_killed(self):
        self.serve_console()
        terminal = Terminal(self, "console", "web")
        terminal.until(b"login: ")
        terminal.process.send_signal(signal.SIGTERM)
        self.assertEqual(terminal.end(), -signal.SIGTERM)

    def test_console_in_a_pipe(self):
        def answer(call):
            sock, rest = call.upgrade()
            while data := sock.recv(4096):
                rest += data
            sock.sendall(b"said " + rest)
        self.serve({"vm.console": answer})
        out, err = self.run_vmctl("console", "web", stdin=b"a\x1db")
        self.assertEqual(out, "said a\x1db")
        self.assertEqual(err, "vmctl: the console of 'web' was closed\n")

    def test_g84_console_of_a_stopped_machine(self):
        self.serve({"vm.console": fake.Error(-32002, "wrong_state", "'web' is stopped")})
        self.run_vmctl("console", "web", status=4)

    def log_answer(self, call):
        data = {"console": b"\xff\x1b[31mred\x1b[0m\n", "provision": b"step\n"}
        source = call.params["source"]
        result = {"name": "web", "source": source, "path": f"/p/{source}.log", "exists": True}
        if source == "console":
            return {**result, "base64": base64.b64encode(data[source]).decode()}
        return {**result, "text": data[source].decode()}

    def test_g82_log_is_bytes_in_a_pipe_and_text_on_a_terminal(self):
        self.serve({"vm.log": self.log_answer})
        done = subprocess.run([VMCTL, "log", "--console", "web"], env=self.env, timeout=TIMEOUT,
                              capture_output=True, check=True)
        self.assertEqual(done.stdout, b"\xff\x1b[31mred\x1b[0m\n")
        terminal = Terminal(self, "log", "--console", "web")
        self.assertEqual(terminal.end(), 0)
        self.assertEqual(terminal.text, b"?red\r\n")

    def test_log_of_both(self):
        daemon = self.serve({"vm.log": self.log_answer})
        out, _ = self.run_vmctl("log", "web", "-n", "5")
        self.assertEqual([line for line in out.splitlines() if "==>" in line],
                         ["==> console (/p/console.log)", "==> provision (/p/provision.log)"])
        self.assertEqual(daemon.calls[1].params["tail"], 5)
        self.run_vmctl("log", "web", "-f", "--console", "--provision", status=2)

    def test_log_follow(self):
        def answer(call):
            sock, _ = call.upgrade()
            sock.sendall(fake.frame(fake.STDOUT, b"one\n") + fake.frame(fake.STDOUT, b"two\n"))
            sock.sendall(fake.frame(fake.EXIT, {"status": 0}))
        daemon = self.serve({"vm.log": answer})
        self.assertEqual(self.run_vmctl("log", "-f", "web")[0], "one\ntwo\n")
        self.assertTrue(daemon.asked("vm.log")[0].params["follow"])

    def test_events(self):
        def answer(call):
            call.send(id=call.id, result={"seq": 2})
            for seq in (1, 2):
                call.notify("event", seq=seq, time="t", kind="state", vm="web", data={"a": seq})
            call.connection.upgraded = True
            call.connection.socket.recv(1)
        daemon = self.serve({"event.subscribe": answer})
        out, _ = self.run_vmctl("events", "--since", "0", "--count", "2")
        self.assertEqual(out, '1 t state web {"a":1}\n2 t state web {"a":2}\n')
        self.assertEqual(daemon.asked("event.subscribe")[0].params, {"since": 0, "replay": True})
        process = self.start("--json", "events", stdout=subprocess.PIPE)
        self.assertEqual(json.loads(process.stdout.readline())["seq"], 1)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(TIMEOUT), 130)
        process.stdout.close()


class Ssh(Case):
    SSH = """#!/bin/sh
printf '%s\\n' "$@" >"$HOME/argv"
for word; do
    case $word in
    UserKnownHostsFile=*) eval "cp ${word#*=} $HOME/hosts"; ls -ld "$(dirname "$(eval "echo ${word#*=}")")" ;;
    */key) cp "$word" "$HOME/key"; ls -l "$word" ;;
    esac
done
[ -z "$SSH_WAITS" ] || { echo ready; exec sleep 60; }
exit 7
"""
    INFO = {"name": "web", "id": "0123456789ab", "host": "127.0.0.1", "port": 40022, "user": "debian",
            "host_key": "ssh-ed25519 AAAA", "private_key": "PEM\n"}

    def setUp(self):
        super().setUp()
        folder = os.path.join(self.dir, "bin")
        os.mkdir(folder)
        self.write("bin/ssh", self.SSH, 0o755)
        self.env["PATH"] = folder + ":" + self.env["PATH"]

    def read(self, name):
        with open(os.path.join(self.dir, name), encoding="utf-8") as file:
            return file.read()

    def assert_nothing_left(self):
        self.assertEqual(os.listdir(self.env["XDG_RUNTIME_DIR"]), [])

    def test_verified_login_and_status(self):
        self.serve({"vm.ssh_info": self.INFO})
        out, _ = self.run_vmctl("ssh", "web", "--", "exit", "7", status=7)
        argv = self.read("argv").splitlines()
        self.assertEqual(argv[-4:], ["--", "127.0.0.1", "exit", "7"])
        for option in ("HostKeyAlias=0123456789ab", "-p", "40022", "-l",
                       "debian", "IdentitiesOnly=yes", "GlobalKnownHostsFile=/dev/null"):
            self.assertIn(option, argv)
        self.assertEqual([word for word in argv if word.startswith("StrictHostKeyChecking")],
                         ["StrictHostKeyChecking=yes"])
        self.assertEqual(self.read("hosts"), "0123456789ab ssh-ed25519 AAAA\n")
        self.assertEqual(self.read("key"), "PEM\n")
        self.assertRegex(out, r"(?m)^drwx------")
        self.assertRegex(out, r"(?m)^-rw-------")
        self.assert_nothing_left()

    def test_user_and_key_of_the_command_line(self):
        self.serve({"vm.ssh_info": self.INFO})
        self.write("mine", "k", 0o600)
        self.run_vmctl("ssh", "--user", "root", "--key", "mine", "web", status=7)
        argv = self.read("argv").splitlines()
        self.assertEqual(argv[argv.index("-l") + 1], "root")
        self.assertEqual(argv[argv.index("-i") + 1], os.path.join(self.dir, "mine"))

    def test_r07_usual_keys_in_order(self):
        info = {key: value for key, value in self.INFO.items() if key != "private_key"}
        self.serve({"vm.ssh_info": info})
        os.mkdir(os.path.join(self.dir, ".ssh"))
        for name in ("id_rsa", "id_ecdsa", "id_ed25519"):
            path = self.write(".ssh/" + name, "k", 0o600)
            self.run_vmctl("ssh", "web", status=7)
            argv = self.read("argv").splitlines()
            self.assertEqual(argv[argv.index("-i") + 1], path)

    def test_key_not_learnt_yet_is_remembered(self):
        info = {key: value for key, value in self.INFO.items() if key != "host_key"}
        self.serve({"vm.ssh_info": info})
        self.write("hosts", "")
        self.run_vmctl("ssh", "web", status=7)
        argv = self.read("argv").splitlines()
        self.assertIn("StrictHostKeyChecking=accept-new", argv)
        self.assertIn(f'UserKnownHostsFile="{self.dir}/.local/state/vmm/known_hosts"', argv)

    def test_r13_name_is_optional_for_a_single_machine(self):
        daemon = self.serve({"vm.ssh_info": self.INFO})
        self.write("VMFile.yaml", "vms: {only: {image: x}}")
        self.run_vmctl("ssh", status=7)
        self.assertEqual(daemon.asked("vm.ssh_info")[0].params["name"], "only")
        self.write("VMFile.yaml", "vms: {a: {image: x}, b: {image: x}}")
        _, err = self.run_vmctl("ssh", status=255)
        self.assertIn("name one of: a b", err)
        os.unlink(os.path.join(self.dir, "VMFile.yaml"))
        _, err = self.run_vmctl("ssh", status=255)
        self.assertIn("name the machine: vmctl ssh NAME", err)

    def test_killed_vmctl_leaves_no_key_behind(self):
        self.serve({"vm.ssh_info": self.INFO})
        self.env["SSH_WAITS"] = "1"
        process = self.start("ssh", "web", stdout=subprocess.PIPE)
        while process.stdout.readline() != b"ready\n":
            pass
        self.assertNotEqual(os.listdir(self.env["XDG_RUNTIME_DIR"]), [])
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(TIMEOUT), 128 + signal.SIGTERM)
        process.stdout.close()
        self.assert_nothing_left()


class Start(Case):
    """Starting a daemon: a copy of vmctl with the scripted vmmd beside it."""

    def setUp(self):
        super().setUp()
        self.bin = os.path.join(self.dir, "bin")
        os.mkdir(self.bin)
        self.vmctl = shutil.copy(VMCTL, os.path.join(self.bin, "vmctl"))
        vmmd = shutil.copy(os.path.join(TOP, "tests/fake/vmmd.py"), os.path.join(self.bin, "vmmd"))
        os.chmod(vmmd, 0o755)
        del self.env["VMCTL_NO_AUTOSTART"]
        self.folder = os.path.join(self.env["XDG_RUNTIME_DIR"], "vmm")
        self.addCleanup(self.stop)

    def command(self, *args, **env):
        return subprocess.run([self.vmctl, *args], capture_output=True, cwd=self.dir, text=True,
                              env={**self.env, **env}, timeout=TIMEOUT, check=False)

    def pids(self):
        try:
            with open(os.path.join(self.folder, "started"), encoding="ascii") as file:
                return [int(line) for line in file]
        except FileNotFoundError:
            return []

    def stop(self):
        """Ends the daemons, and those that lost a race and have not noticed yet."""
        ours = ("XDG_RUNTIME_DIR=" + self.env["XDG_RUNTIME_DIR"]).encode()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if ours not in file.read().split(b"\0"):
                        continue
                pidfd = os.pidfd_open(int(pid))
                os.kill(int(pid), signal.SIGKILL)
                select.select([pidfd], [], [], TIMEOUT)
                os.close(pidfd)
            except (OSError, ProcessLookupError):
                pass

    def test_started_detached_and_stopped(self):
        done = self.command("list")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "no machines\n", ""))
        pid, = self.pids()
        self.assertEqual(os.getsid(pid), pid)
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        log = os.path.join(self.dir, ".local/state/vmm/vmmd.log")
        self.assertEqual(os.readlink(f"/proc/{pid}/fd/2"), log)
        self.assertEqual(stat.S_IMODE(os.stat(log).st_mode), 0o600)
        self.assertEqual(self.command("list").returncode, 0)
        self.assertEqual(self.pids(), [pid])
        done = self.command("daemon", "status")
        self.assertIn(str(pid), done.stdout)
        done = self.command("daemon", "stop")
        self.assertEqual((done.returncode, done.stdout),
                         (0, "vmmd has ended; machines live on\n"))

    def test_many_at_once_start_one(self):
        processes = [subprocess.Popen([self.vmctl, "list"], env=self.env, stdout=subprocess.DEVNULL)
                     for _ in range(8)]
        self.assertEqual([process.wait(TIMEOUT) for process in processes], [0] * 8)
        self.assertEqual(len(self.pids()), 1)

    def test_failure_quotes_the_log(self):
        self.command("list", FAKE_COMPLAINT="vmmd: an old complaint")
        done = self.command("list", FAKE_COMPLAINT="vmmd: the disk is full")
        self.assertEqual(done.returncode, 5)
        self.assertIn("vmmd did not start; it said:\nvmmd: the disk is full", done.stderr)
        self.assertNotIn("old complaint", done.stderr)

    def test_not_when_forbidden_or_named(self):
        for args, env in ((["list"], {"VMCTL_NO_AUTOSTART": "1"}),
                          (["daemon", "status"], {}), (["daemon", "stop"], {}),
                          (["list"], {"VMCTL_SOCKET": self.dir + "/none"}),
                          (["--socket", self.dir + "/none", "list"], {})):
            self.assertEqual(self.command(*args, **env).returncode, 5)
        self.assertEqual(self.pids(), [])

    def test_none_to_start(self):
        os.unlink(os.path.join(self.bin, "vmmd"))
        done = self.command("list", PATH="/nonexistent")
        self.assertEqual(done.returncode, 5)
        self.assertIn("none was found to start", done.stderr)


class Completion(Case):
    def complete(self, *words):
        script = subprocess.run([VMCTL, "completion", "bash"], capture_output=True, text=True,
                                check=True).stdout
        quoted = " ".join(f"'{word}'" for word in words)
        script += f"""
COMP_WORDS=('{VMCTL}' {quoted}) COMP_CWORD={len(words)}
_vmctl 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=self.dir,
                              env=self.env, timeout=TIMEOUT, check=True)
        return sorted(done.stdout.split())

    def test_words(self):
        self.serve({"vm.list": {"vms": [ROW, dict(ROW, name="db")]}})
        self.write("x.yaml", "")
        self.assertEqual(self.complete("st"), ["start", "status", "stop"])
        self.assertEqual(self.complete("image", "p"), ["prune", "pull", "push"])
        self.assertEqual(self.complete("stop", "--f"), ["--force"])
        self.assertEqual(self.complete("up", "--backend", "no"), ["noop"])
        self.assertEqual(self.complete("--json", "start", ""), ["db", "web"])
        self.assertEqual(self.complete("up", "--file", "x"), ["x.yaml"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
