#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""vmctl and vmmd together, on machines that run nothing.

    vmctl_noop.py VMCTL TOP VMMD [unittest arguments]
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

from vmctl_case import TIMEOUT, VMCTL, Case

VMMD = os.path.abspath(sys.argv[3])


class Noop(Case):
    def setUp(self):
        super().setUp()
        self.env["VMCTL_SOCKET"] = self.socket
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.addCleanup(self.log.close)
        self.start_vmmd()

    def start_vmmd(self):
        self.vmmd = subprocess.Popen([VMMD, "--socket", self.socket], env=self.env, cwd="/",
                                     stderr=self.log)
        self.addCleanup(self.stop_vmmd, self.vmmd)
        deadline = time.monotonic() + TIMEOUT
        while subprocess.run([VMCTL, "daemon", "status"], env=self.env, capture_output=True,
                             check=False).returncode != 0:
            self.assertLess(time.monotonic(), deadline, "vmmd does not answer")
            self.assertIsNone(self.vmmd.poll())

    def stop_vmmd(self, process):
        process.kill()
        process.wait()

    def json(self, *args, status=0):
        return json.loads(self.run_vmctl("--json", *args, status=status)[0])

    def states(self):
        return {vm["name"]: vm["state"] for vm in self.json("list")["vms"]}


class Life(Noop):
    def test_one_machine(self):
        out, _ = self.run_vmctl("create", "--name", "web", "--backend", "noop", "--memory", "64")
        self.assertRegex(out, r"^created 'web' \([0-9a-f]{12}\)\n$")
        self.assertEqual(self.states(), {"web": "prepared"})
        for verb, state in (("start", "running"), ("suspend", "suspended"), ("resume", "running"),
                            ("stop", "stopped"), ("start", "running")):
            out, _ = self.run_vmctl(verb, "web")
            self.assertIn("'web'", out)
            self.assertEqual(self.states(), {"web": state})
        self.assertEqual(self.run_vmctl("wait", "web", "--for", "running")[0],
                         "'web' is running\n")
        out, _ = self.run_vmctl("status", "web")
        for line in ("Name:        web", "Backend:     noop", "State:       running",
                     "vCPUs:       1", "Memory:      64 MiB", "Network:     user"):
            self.assertIn(line, out.splitlines())
        self.assertEqual(self.json("destroy", "web", "--force")["state"], "destroyed")
        self.assertEqual(self.run_vmctl("list")[0], "no machines\n")

    def test_errors(self):
        self.run_vmctl("create", "web", "--backend", "noop")
        _, err = self.run_vmctl("start", "wbe", status=3)
        self.assertIn("did you mean 'web'?", err)
        _, err = self.run_vmctl("stop", "web", status=4)
        self.assertIn("prepared", err)
        self.run_vmctl("create", "web", "--backend", "noop", status=1)
        self.run_vmctl("console", "web", status=4)
        self.run_vmctl("exec", "web", "true", status=255)
        self.run_vmctl("ssh", "web", status=255)
        self.run_vmctl("image", "rm", "none", status=3)
        self.run_vmctl("wait", "none", status=3)
        self.run_vmctl("wait", "web", "--for", "stopped")
        _, err = self.run_vmctl("wait", "web", "--for", "running", "--timeout", "50ms", status=4)
        self.assertIn("it will not be running", err)

    def test_log_of_a_machine_that_said_nothing(self):
        self.run_vmctl("create", "web", "--backend", "noop")
        out, err = self.run_vmctl("log", "web", "--console")
        self.assertEqual((out, err), ("", "vmctl: there is no console log yet\n"))

    def test_events_tell_what_happened(self):
        self.run_vmctl("create", "web", "--backend", "noop", "--start")
        out, _ = self.run_vmctl("--json", "events", "--since", "0", "--count", "6")
        events = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([event["seq"] for event in events], list(range(1, 7)))
        states = [event["data"]["state"] for event in events if event["kind"] == "state"]
        self.assertEqual(states[:2], ["prepared", "starting"])

    def test_daemon_stop_spares_machines(self):
        self.run_vmctl("create", "web", "--backend", "noop", "--start")
        self.assertEqual(self.run_vmctl("daemon", "stop")[0], "vmmd has ended; machines live on\n")
        self.assertEqual(self.vmmd.wait(TIMEOUT), 0)
        self.run_vmctl("list", status=5)
        self.start_vmmd()
        self.assertEqual(self.states(), {"web": "running"})

    def test_rpc_discover_names_what_is_there(self):
        names = {method["name"] for method in self.json("rpc", "rpc.discover")["methods"]}
        self.assertLessEqual({"vm.list", "file.up", "rpc.discover"}, names)


class Projects(Noop):
    VMFILE = """vms:
  web:
    backend: noop
    memory: 64
    provision:
      - shell: "uname -a"
      - shell: {script: setup.sh, run: always}
    depends-on: [db]
  db: {backend: noop}
"""

    def setUp(self):
        super().setUp()
        self.write("VMFile.yaml", self.VMFILE)
        self.write("setup.sh", "echo\n")

    def actions(self, *args, status=0):
        return {vm["name"]: vm["action"] for vm in self.json(*args, status=status)["vms"]}

    def test_up_is_done_once(self):
        self.assertEqual(self.actions("plan", status=10), {"web": "create", "db": "create"})
        self.assertEqual(self.actions("up"), {"web": "created", "db": "created"})
        self.assertEqual(self.states(), {"web": "running", "db": "running"})
        self.assertEqual(self.actions("plan"), {"web": "none", "db": "none"})
        self.assertEqual(self.actions("up"), {"web": "unchanged", "db": "unchanged"})

    def test_names_bring_what_they_stand_on(self):
        self.assertEqual(self.actions("up", "db"), {"db": "created"})
        self.assertEqual(self.actions("up", "--name", "web"), {"web": "created", "db": "unchanged"})

    def test_a_change_is_told_and_not_ignored(self):
        self.run_vmctl("up")
        self.write("VMFile.yaml", self.VMFILE.replace("memory: 64", "memory: 128"))
        out, _ = self.run_vmctl("plan", status=10)
        self.assertRegex(out, r"(?m)^web: changed$")
        self.assertRegex(out, r"(?m)^web:   memory: 64 MiB -> 128 MiB")
        out, _ = self.run_vmctl("up")
        self.assertRegex(out, r"(?m)^web:   memory: 64 MiB -> 128 MiB")
        self.assertEqual(self.json("status", "web")["memory_mib"], 64)
        self.run_vmctl("reload", "web")
        self.assertEqual(self.json("status", "web")["memory_mib"], 128)

    def test_provision_again(self):
        self.run_vmctl("up")
        out, _ = self.run_vmctl("provision")
        self.assertEqual(out, "web: 1 of 2 steps ran\n")
        out, _ = self.run_vmctl("provision", "--force", "web")
        self.assertEqual(out, "web: 2 of 2 steps ran\n")

    def test_another_vmfile_can_not_touch_them(self):
        self.run_vmctl("up")
        os.mkdir(os.path.join(self.dir, "other"))
        other = self.write("other/VMFile.yaml", "vms: {db: {backend: noop}}")
        for verb in ("up", "down", "reload"):
            _, err = self.run_vmctl(verb, "--file", other, status=4)
            self.assertIn("belongs to", err)
        self.run_vmctl("create", "own", "--backend", "noop")
        self.write("other/VMFile.yaml", "vms: {own: {backend: noop}}")
        self.run_vmctl("up", "--file", other, status=4)
        self.assertEqual(self.states()["db"], "running")

    def test_orphans_are_told_and_removed_only_when_asked(self):
        self.run_vmctl("up")
        self.write("VMFile.yaml", "vms: {db: {backend: noop}}")
        _, err = self.run_vmctl("up")
        self.assertIn("machine 'web' is of this VMFile's project", err)
        self.run_vmctl("down", "--destroy")
        self.assertEqual(list(self.states()), ["web"])
        self.run_vmctl("down", "--destroy", "--orphans")
        self.assertEqual(self.states(), {})

    def test_reload_checks_before_it_destroys(self):
        self.run_vmctl("up")
        before = self.json("status", "web")["id"]
        self.write("VMFile.yaml", self.VMFILE.replace("setup.sh", "gone.sh"))
        self.run_vmctl("reload", status=2)
        self.write("VMFile.yaml", self.VMFILE.replace("64", "lots"))
        self.run_vmctl("reload", status=2)
        self.assertEqual(self.json("status", "web")["id"], before)

    def test_down_and_up_keep_the_machine(self):
        self.run_vmctl("up")
        before = self.json("status", "web")["id"]
        self.run_vmctl("down")
        self.assertEqual(self.states(), {"web": "stopped", "db": "stopped"})
        self.assertEqual(self.actions("up")["web"], "started")
        self.assertEqual(self.json("status", "web")["id"], before)

    def test_many_files_at_once(self):
        steps = ""
        for i in range(600):
            self.write(f"s{i}", f"echo {i}\n" if i % 2 else "x" * 20000)
            steps += f"      - file: {{source: s{i}, destination: /d{i}}}\n"
        self.write("VMFile.yaml", "vms:\n  web:\n    backend: noop\n    provision:\n" + steps)
        self.assertEqual(self.actions("up"), {"web": "created"})
        self.assertEqual(self.json("status", "web")["provision"]["done"], 600)


class Started(Case):
    """vmctl starts the vmmd beside it."""

    def test_first_use(self):
        folder = os.path.join(self.dir, "bin")
        os.mkdir(folder)
        vmctl = shutil.copy(VMCTL, folder)
        os.symlink(VMMD, os.path.join(folder, "vmmd"))
        del self.env["VMCTL_NO_AUTOSTART"]
        done = subprocess.run([vmctl, "list"], env=self.env, capture_output=True, text=True,
                              timeout=TIMEOUT, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, "no machines\n"), done.stderr)
        done = subprocess.run([vmctl, "daemon", "status", "--json"], env=self.env, text=True,
                              capture_output=True, timeout=TIMEOUT, check=True)
        pid = json.loads(done.stdout)["pid"]
        try:
            subprocess.run([vmctl, "daemon", "stop"], env=self.env, timeout=TIMEOUT, check=True,
                           capture_output=True)
        except subprocess.SubprocessError:
            os.kill(pid, signal.SIGKILL)
            raise


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=1)
