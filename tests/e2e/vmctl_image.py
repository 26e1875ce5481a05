#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""vmctl's verbs for images, against a scripted daemon.

    vmctl_image.py VMCTL TOP [unittest arguments]
"""

import base64
import datetime
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import unittest

from vmctl_case import TIMEOUT, VMCTL, Case, Terminal, fake

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
AGO = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=5)
IMAGE = {
    "name": "debian-12.qcow2", "names": ["debian:12"], "digest": DIGEST, "format": "qcow2",
    "virtual_bytes": 2 << 30, "file_bytes": 500 << 20, "disk_bytes": 400 << 20,
    "path": "/data/images/sha256-a", "source": "https://host.example/debian-12.qcow2",
    "created": AGO.strftime("%Y-%m-%dT%H:%M:%SZ"), "used_by": ["web", "db"], "users": 3,
}
GOT = {"image": IMAGE, "source": IMAGE["source"], "transferred_bytes": 400 << 20, "known": False}
ABSENT = fake.Error(-32001, "not_found", "there is no such thing")


def said(image):
    """Without what is false anyway."""
    return {key: value for key, value in image.items() if value is not False}


class Store(Case):
    def test_list(self):
        self.serve({"image.list": {"images": [
            IMAGE, dict(IMAGE, name="x\x1b[31m", names=[], digest=OTHER, used_by=[], users=0,
                        source="https://h.example/" + "long/" * 20 + "x")]}})
        out, _ = self.run_vmctl("image", "list")
        first = ["debian:12", "sha256:" + "a" * 12, "qcow2", "2 GiB", "400 MiB", "5h",
                 "web, db, 1 of others", "https://host.example/debian-12.qcow2"]
        lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]
        self.assertEqual(lines[0], ["NAME", "DIGEST", "FORMAT", "VIRTUAL", "SIZE", "AGE",
                                    "USED BY", "SOURCE"])
        self.assertEqual(lines[1], first)
        self.assertNotIn("\x1b", out)
        self.assertEqual(len(lines[2][-1]), 48)
        self.assertTrue(lines[2][-1].startswith("…"))
        self.assertEqual(json.loads(self.run_vmctl("--json", "image", "list")[0])["images"][0],
                         IMAGE)

    def test_status_tells_what_was_asked_for(self):
        daemon = self.serve({"vm.get": {"name": "web", "image": {"digest": DIGEST, "url": "a:1"}}})
        self.assertIn(f"Image:       a:1 ({DIGEST})\n", self.run_vmctl("status", "web")[0])
        daemon.answers["vm.get"] = {"name": "web", "image": {"digest": DIGEST, "name": "/x"}}
        self.assertIn(f"Image:       {DIGEST}\n", self.run_vmctl("status", "web")[0])

    def test_inspect_and_tag(self):
        daemon = self.serve({
            "image.inspect": dict(IMAGE, references=[{"name": "debian:12", "fetched": True,
                                                      "source": "https://x.example/y"}]),
            "image.tag": IMAGE})
        out, _ = self.run_vmctl("image", "inspect", "debian:12")
        for line in ("Digest:      " + DIGEST, "On disk:     400 MiB", "Used by:     web, db",
                     "Reference:   debian:12", "  source     https://x.example/y"):
            self.assertIn(line, out.splitlines())
        self.assertEqual(self.run_vmctl("image", "tag", "debian:12", "golden")[0],
                         f"'golden' is {DIGEST}\n")
        self.assertEqual(daemon.asked("image.tag")[0].params,
                         {"image": "debian:12", "name": "golden"})

    def test_rm_removes_all_that_can_be(self):
        def remove(call):
            if call.params["image"] == "used":
                raise fake.Error(-32003, "wrong_state", "image 'used' is in use by web", hint="end it")
            return {"digest": DIGEST, "untagged": call.params["image"] == "tag", "bytes": 1}
        self.serve({"image.rm": remove})
        out, err = self.run_vmctl("image", "rm", "a", "used", "tag", status=4)
        self.assertEqual(out, "removed 'a'\n"
                              "removed the name 'tag'; its image stays, others point at it\n")
        self.assertEqual(err, "vmctl: image 'used' is in use by web\nhint: end it\n")
        out, _ = self.run_vmctl("--json", "image", "rm", "a", "b")
        self.assertEqual([json.loads(line)["digest"] for line in out.splitlines()], [DIGEST] * 2)
        self.run_vmctl("image", "rm", status=2)

    def test_prune(self):
        daemon = self.serve({"image.prune": {"images": [IMAGE], "parts": 1, "bytes": 400 << 20}})
        out, _ = self.run_vmctl("image", "prune", "--dry-run")
        self.assertEqual(out.splitlines(), [
            f"would remove 'debian-12.qcow2' ({DIGEST})",
            "would remove 1 transfer that had broken off", "would free 400 MiB"])
        self.assertTrue(daemon.asked("image.prune")[0].params["dry_run"])
        out, _ = self.run_vmctl("image", "prune")
        self.assertEqual(out.splitlines()[-1], "freed 400 MiB")
        self.assertFalse(daemon.asked("image.prune")[1].params.get("dry_run", False))

    def test_verify(self):
        self.serve({"image.verify": {"images": [{"digest": DIGEST, "name": "a", "ok": True}]}})
        self.assertEqual(self.run_vmctl("image", "verify")[0], f"a ({DIGEST}): ok\n")


class Getting(Case):
    def test_pull_tells_bytes_and_notes(self):
        def pull(call):
            for done in (0, 300, 600):
                call.progress(operation="o", phase="fetch", state="progress", done=done << 20,
                              total=1 << 30, unit="bytes")
            call.progress(operation="o", phase="fetch", state="note",
                          message="try 2 in 1 s: \x1b]0;reset")
            call.progress(operation="o", phase="fetch", state="note", message="nobody\x07 answers")
            return dict(GOT, note="nobody\x07 answers")
        daemon = self.serve({"image.pull": pull})
        out, err = self.run_vmctl("image", "pull", "https://me:pw@h.example/x?a=b",
                                  "--name", "golden", "--sha256", "0" * 64, "--policy", "refresh",
                                  "--insecure-http")
        self.assertEqual(out, f"'debian-12.qcow2' is {DIGEST} (qcow2, 2 GiB, fetched 400 MiB)\n"
                              "  from https://host.example/debian-12.qcow2\n")
        self.assertEqual(err, "fetch: try 2 in 1 s: \\x1b]0;reset\n"
                              "fetch: nobody\\x07 answers\n")
        self.assertEqual(daemon.asked("image.pull")[0].params, {
            "image": {"url": "https://h.example/x?a=b", "sha256": "0" * 64, "insecure_http": True},
            "name": "golden", "policy": "refresh", "progress": True,
            "auth": {"hosts": [{"for": "h.example", "username": "me", "password": "pw"}]}})
        terminal = Terminal(self, "image", "pull", "debian:12")
        self.assertEqual(terminal.end(), 0)
        self.assertIn("fetch 58% of 1 GiB".encode(), terminal.text)
        self.assertNotIn(b"\x1b]0", terminal.text)
        self.assertEqual(daemon.asked("image.pull")[1].params["image"], {"url": "debian:12"})
        self.assertNotIn("auth", daemon.asked("image.pull")[1].params)

    def test_pull_of_a_file_names_the_other_verb(self):
        _, err = self.run_vmctl("image", "pull", "./x.qcow2", status=2)
        self.assertIn("vmctl image import", err)

    def test_cancel(self):
        def pull(call):
            call.progress(operation="o7", phase="fetch", state="progress", done=1, total=9,
                          unit="bytes")
            cancel = call.next_request()
            self.assertEqual((cancel.method, cancel.params), ("operation.cancel", {"id": "o7"}))
            cancel.send(id=cancel.id, result={})
            raise fake.Error(-32006, "cancelled", "cancelled")
        self.serve({"image.pull": pull})
        terminal = Terminal(self, "image", "pull", "debian:12")
        terminal.until(b"11% of 9 B")
        terminal.process.send_signal(signal.SIGINT)
        self.assertEqual(terminal.end(), 130)

    def test_credentials_of_registries_are_those_of_the_reference(self):
        os.makedirs(os.path.join(self.dir, ".docker"))
        pair = base64.b64encode(b"me:secret").decode()
        self.write(".docker/config.json", json.dumps({
            "auths": {"reg.example:5000": {"auth": pair}, "other.example": {"auth": pair}},
            "credHelpers": {"helped.example": "test"}}))
        self.write("docker-credential-test", "#!/bin/sh\nread server\ntouch \"$HOME/ran\"\n"
                   'echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"of $server\\"}"\n', 0o755)
        daemon = self.serve({"image.pull": GOT})
        self.env["PATH"] = self.dir + ":" + self.env["PATH"]
        self.run_vmctl("image", "pull", "oci://reg.example:5000/a/b:1")
        self.assertEqual(daemon.calls[-1].params["auth"], {"hosts": [
            {"for": "reg.example:5000", "username": "me", "password": "secret"}]})
        self.assertFalse(os.path.exists(os.path.join(self.dir, "ran")))
        self.run_vmctl("image", "pull", "oci://helped.example/a/b")
        self.assertEqual(daemon.calls[-1].params["auth"], {"hosts": [
            {"for": "helped.example", "username": "u", "password": "of helped.example"}]})
        self.run_vmctl("image", "pull", "oci://ghcr.io/a/b", GITHUB_TOKEN="t",
                       https_proxy="http://proxy.example:1")
        self.assertEqual(daemon.calls[-1].params["auth"], {
            "hosts": [{"for": "ghcr.io", "username": "_token", "password": "t"}],
            "https_proxy": "http://proxy.example:1"})

    def test_import(self):
        path = self.write("a.qcow2", "disk")
        def take(call):
            call.connection.fake.content = os.pread(call.fds[0], 9, 0)
            return dict(GOT, transferred_bytes=0, known=True, source=None)
        daemon = self.serve({"image.import": take})
        out, _ = self.run_vmctl("image", "import", "a.qcow2", "--format", "qcow2")
        self.assertEqual(out, f"'debian-12.qcow2' is {DIGEST} (qcow2, 2 GiB, was there)\n")
        self.assertEqual(daemon.calls[-1].params, {
            "image": {"fd": 0, "name": path, "format": "qcow2"}, "progress": True})
        self.assertEqual(daemon.content, b"disk")
        self.run_vmctl("image", "import", "a.qcow2", "--name", "golden")
        self.assertEqual(daemon.calls[-1].params["name"], "golden")
        self.assertEqual(daemon.calls[-1].params["image"]["name"], path)
        _, err = self.run_vmctl("image", "import", "none", status=2)
        self.assertIn("can not open", err)

    def test_create_takes_every_kind(self):
        self.write("plain", "disk")
        daemon = self.serve({"vm.create": {"id": "0123456789ab"}})
        for word, image in (("plain", {"fd": 0, "name": self.dir + "/plain"}),
                            ("debian:12", {"url": "debian:12"}), ("golden", {"url": "golden"}),
                            ("oci://reg.example/x:1", {"url": "oci://reg.example/x:1"}),
                            (DIGEST, {"url": DIGEST})):
            self.run_vmctl("create", "web", "--image", word)
            self.assertEqual(daemon.calls[-1].params["image"], image)
        self.run_vmctl("create", "web", "--image-url", "http://h.example/x", "--insecure-http")
        self.assertEqual(daemon.calls[-1].params["image"],
                         {"url": "http://h.example/x", "insecure_http": True})
        for word in ("ftp://h.example/x", "a b:1"):
            self.run_vmctl("create", "web", "--image", word, status=2)
        _, err = self.run_vmctl("create", "web", "--image", "none.qcow2", status=2)
        self.assertIn("can not open", err)


class Putting(Case):
    def test_push_decides_by_looking(self):
        done = {"image": IMAGE, "reference": "oci://r.example/a:1", "digest": OTHER,
                "uploaded": True}
        daemon = self.serve({"image.inspect": IMAGE, "vm.get": ABSENT, "image.push": done})
        out, _ = self.run_vmctl("image", "push", "golden", "oci://r.example/a:1")
        self.assertEqual(out, "pushed to 'oci://r.example/a:1'\n"
                              f"  manifest {OTHER}\n  image {DIGEST}\n")
        self.assertEqual(daemon.calls[-1].params, {
            "image": "golden", "reference": "oci://r.example/a:1", "progress": True})
        daemon.answers["vm.get"] = {"name": "golden"}
        _, err = self.run_vmctl("image", "push", "golden", "oci://r.example/a:1", status=2)
        self.assertIn("--image or --vm", err)
        self.run_vmctl("image", "push", "golden", "oci://r.example/a:1", "--vm")
        self.assertEqual(daemon.calls[-1].params["vm"], "golden")
        daemon.answers["image.inspect"] = ABSENT
        self.run_vmctl("image", "push", "golden", "oci://r.example/a:1")
        self.assertEqual(daemon.calls[-1].params["vm"], "golden")
        daemon.answers["vm.get"] = ABSENT
        out, err = self.run_vmctl("--json", "image", "push", "x", "oci://r.example/a:1", status=3)
        self.assertIn("no image and no machine 'x'", err)
        self.assertIn("no image and no machine 'x'", json.loads(out)["message"])
        self.run_vmctl("image", "push", "x", "https://r.example/a", status=2)

    def export(self, answer=None):
        def write(call):
            self.assertEqual(os.fstat(call.fds[0]).st_size, 0)
            os.pwrite(call.fds[0], b"whole", 0)
            self.assertEqual(os.pread(call.fds[0], 9, 0), b"whole")
            if answer:
                raise answer
            return {"digest": DIGEST, "format": "raw", "bytes": 5}
        return self.serve({"image.export": write})

    def test_export_appears_when_it_is_whole(self):
        daemon = self.export()
        path = os.path.join(self.dir, "out.raw")
        out, _ = self.run_vmctl("image", "export", "golden", "out.raw", "--format", "raw")
        self.assertEqual(out, f"wrote '{path}' (raw, 5 B)\n")
        self.assertEqual(daemon.calls[-1].params, {
            "image": "golden", "format": "raw", "progress": True, "file": {"fd": 0, "name": path}})
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"whole")
        mask = os.umask(0)
        os.umask(mask)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o666 & ~mask)
        asked = len(daemon.calls)
        _, err = self.run_vmctl("image", "export", "golden", "out.raw", status=1)
        self.assertIn("--force replaces it", err)
        self.assertEqual(len(daemon.calls), asked)
        self.write("out.raw", "older")
        self.run_vmctl("image", "export", "golden", "out.raw", "--force")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"whole")
        self.run_vmctl("image", "export", "golden", "-", status=2)
        self.assertEqual(sorted(os.listdir(self.dir)), ["out.raw", "run", "s"])

    def test_export_that_fails_leaves_nothing(self):
        self.export(fake.Error(-32015, "bad_image", "its bytes are others"))
        self.run_vmctl("image", "export", "golden", "out.raw", status=1)
        self.assertEqual(sorted(os.listdir(self.dir)), ["run", "s"])

    def test_export_replaces_nothing_that_came_meanwhile(self):
        self.serve({"image.export": lambda call: (self.write("out.raw", "theirs"), {"bytes": 0})[1]})
        _, err = self.run_vmctl("image", "export", "golden", "out.raw", status=1)
        self.assertIn("is there already", err)
        with open(os.path.join(self.dir, "out.raw"), encoding="ascii") as file:
            self.assertEqual(file.read(), "theirs")
        self.assertEqual(sorted(os.listdir(self.dir)), ["out.raw", "run", "s"])

    def test_commit(self):
        daemon = self.serve({"image.commit": {"image": IMAGE, "removed": ["/etc/machine-id"]}})
        out, _ = self.run_vmctl("image", "commit", "web", "golden", "--clean")
        self.assertEqual(out, f"'golden' is {DIGEST}\n  removed /etc/machine-id\n")
        self.assertEqual(daemon.calls[-1].params, {
            "vm": "web", "name": "golden", "clean": True, "progress": True})


class Locks(Case):
    """What a VMFile's images meant is kept beside it."""
    VMFILE = """vms:
  web: {image: "debian:12", backend: noop}
  web2: {image: "debian:12", backend: noop}
  db: {image: "https://me:pw@h.example/x.qcow2", backend: noop}
  cache: {image: "oci://r.example/a:1", backend: noop}
  golden: {image: golden, backend: noop}
  pinned: {image: "oci://r.example/b@%s", backend: noop}
  path: {image: ./a.img, backend: noop}
  sure: {image: {url: "https://h.example/y", sha256: "%s"}, backend: noop}
""" % (OTHER, "0" * 64)
    MEANS = {"debian:12": ("1", "https://d.example/12.qcow2"),
             "https://h.example/x.qcow2": ("2", "https://h.example/x.qcow2"),
             "oci://r.example/a:1": ("3", "oci://r.example/a@sha256:" + "c" * 64),
             "golden": ("4", "/some/file"), "https://h.example/y": ("5", "https://h.example/y")}

    def setUp(self):
        super().setUp()
        self.write("VMFile.yaml", self.VMFILE)
        self.write("a.img", "disk")
        self.rows, self.known, self.means = [], [], dict(self.MEANS)
        self.daemon = self.serve({
            "file.up": self.up, "file.reload": self.up, "file.plan": {"vms": [], "work": False},
            "vm.list": lambda call: {"vms": self.rows},
            "image.list": lambda call: {"images": [{"digest": digest} for digest in self.known]},
            "image.pull": self.pull})

    def meaning(self, image):
        digest, source = self.means.get(image.get("url"), ("9", None))
        return image.get("digest", "sha256:" + digest * 64), image.get("source", source)

    def up(self, call):
        self.rows = []
        for vm in call.params["vms"]:
            row = {"name": vm["name"], "project": call.params["project"]}
            for key in {"image", "cdrom"} & set(vm):
                digest, source = self.meaning(vm[key])
                row[key] = {"digest": digest, "source": source, "url": vm[key].get("url")}
            self.rows.append(row)
        return {"vms": []}

    def pull(self, call):
        digest, source = self.meaning(call.params["image"])
        return {"image": {"digest": digest}, "source": source, "known": False,
                "transferred_bytes": 1}

    def sent(self, method):
        return {vm["name"]: said(vm["image"])
                for vm in self.daemon.asked(method)[-1].params["vms"]}

    def lock(self):
        with open(os.path.join(self.dir, "VMFile.lock"), encoding="utf-8") as file:
            return file.read()

    def test_up_writes_and_follows(self):
        self.run_vmctl("up")
        lock = self.lock()
        for image in ("debian:12", "https://h.example/x.qcow2", "oci://r.example/a:1"):
            self.assertIn(image, lock)
        for absent in ("pw", "golden", "a.img", "r.example/b", "h.example/y"):
            self.assertNotIn(absent, lock)
        self.assertNotIn("digest", self.sent("file.up")["web"])
        self.means["debian:12"] = ("7", "https://d.example/12-new.qcow2")
        for verb, method in (("plan", "file.plan"), ("up", "file.up"), ("reload", "file.reload")):
            self.run_vmctl(verb)
            sent = self.sent(method)
            for name in ("web", "web2"):
                self.assertEqual(sent[name], {
                    "url": "debian:12", "digest": "sha256:" + "1" * 64,
                    "source": "https://d.example/12.qcow2"})
            self.assertEqual(sent["db"]["digest"], "sha256:" + "2" * 64)
            self.assertNotIn("digest", sent["sure"])
            self.assertNotIn("digest", sent["golden"])
        self.assertEqual(self.lock(), lock)

    def test_up_adds_and_changes_nothing(self):
        self.run_vmctl("up")
        self.write("VMFile.yaml", self.VMFILE + "  new: {image: 'ubuntu:24.04', backend: noop}\n")
        self.means["debian:12"] = ("7", "https://d.example/12-new.qcow2")
        self.means["ubuntu:24.04"] = ("8", "https://u.example/24.qcow2")
        self.run_vmctl("up")
        self.assertIn("8" * 64, self.lock())
        self.assertIn("1" * 64, self.lock())
        self.assertNotIn("7" * 64, self.lock())

    def test_up_keeps_what_others_wrote_meanwhile(self):
        def up(call):
            self.means["debian:12"] = ("7", "https://d.example/12-new.qcow2")
            self.run_vmctl("image", "update", "web")
            self.means["debian:12"] = self.MEANS["debian:12"]
            return self.up(call)
        self.daemon.answers["file.up"] = up
        self.run_vmctl("up")
        self.assertIn("7" * 64, self.lock())
        self.assertNotIn("1" * 64, self.lock())
        self.assertIn("2" * 64, self.lock())

    def test_update_keeps_what_others_wrote_meanwhile(self):
        def pull(call):
            self.run_vmctl("up")
            return self.pull(call)
        self.daemon.answers["image.pull"] = pull
        self.means["debian:12"] = ("7", "https://d.example/12-new.qcow2")
        self.run_vmctl("image", "update", "web")
        self.assertIn("2" * 64, self.lock())

    def test_machine_of_another_image_says_nothing(self):
        def up(call):
            self.up(call)
            self.rows[0]["image"]["url"] = self.rows[1]["image"]["url"] = "debian:11"
            return {"vms": []}
        self.daemon.answers["file.up"] = up
        self.run_vmctl("up")
        self.assertNotIn("debian", self.lock())

    def test_lock_that_can_not_be_written_is_a_warning(self):
        done = subprocess.run(
            [VMCTL, "up"], cwd=self.dir, env=self.env, capture_output=True, text=True, check=True,
            timeout=TIMEOUT, restore_signals=False,
            preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                                resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))))
        self.assertIn("vmctl: warning: what the images mean is not kept in", done.stderr)
        self.assertIn("File too large", done.stderr)
        self.assertEqual(sorted(os.listdir(self.dir)), ["VMFile.yaml", "a.img", "run", "s"])

    def test_wrong_lock_is_told_with_its_line(self):
        self.write("VMFile.lock", "images: [\n")
        for verb in ("up", "plan"):
            _, err = self.run_vmctl(verb, status=2)
            self.assertRegex(err, r"VMFile\.lock:\d+:\d+: ")
        self.run_vmctl("down", status=1)
        self.assertEqual(len(self.daemon.asked("file.down")), 1)

    def test_no_credentials_for_what_is_there(self):
        self.run_vmctl("up")
        auth = self.daemon.asked("file.up")[-1].params["auth"]
        self.assertEqual(auth, {"hosts": [{"for": "h.example", "username": "me",
                                           "password": "pw"}]})
        self.assertNotIn("auth", (self.run_vmctl("plan"),
                                  self.daemon.asked("file.plan")[-1])[1].params)
        self.known = ["sha256:" + digit * 64 for digit in "123"]
        self.run_vmctl("up")
        self.assertNotIn("auth", self.daemon.asked("file.up")[-1].params)

    def test_credentials_for_the_machines_of_the_call_alone(self):
        self.write("VMFile.yaml", "vms:\n  web: {image: 'debian:12', depends-on: [db]}\n"
                   "  db: {image: 'https://u:1@db.example/x'}\n"
                   "  other: {image: 'https://u:2@other.example/x'}\n")
        self.run_vmctl("up", "web")
        hosts = self.daemon.asked("file.up")[-1].params["auth"]["hosts"]
        self.assertEqual([host["for"] for host in hosts], ["db.example"])
        self.assertNotIn("u:", json.dumps(self.sent("file.up")))

    def test_update_moves(self):
        self.run_vmctl("up")
        self.means["debian:12"] = ("7", "https://d.example/12-new.qcow2")
        out, _ = self.run_vmctl("image", "update", "web")
        self.assertEqual(out, "debian:12: sha256:111111111111 -> sha256:777777777777\n")
        call, = self.daemon.asked("image.pull")
        self.assertEqual(said(call.params["image"]), {"url": "debian:12"})
        self.assertEqual(call.params["policy"], "refresh")
        self.assertIn("https://d.example/12-new.qcow2", self.lock())
        result = json.loads(self.run_vmctl("--json", "image", "update")[0])
        self.assertEqual([(row["image"], row["changed"]) for row in result["images"]], [
            ("debian:12", False), ("https://h.example/x.qcow2", False),
            ("oci://r.example/a:1", False)])
        self.assertEqual(result["lock"], os.path.realpath(self.dir) + "/VMFile.lock")

    def test_update_writes_what_was_never_used_and_drops_what_is_gone(self):
        out, err = self.run_vmctl("image", "update")
        self.assertIn("debian:12: is sha256:111111111111 now\n", out)
        self.assertIn("'golden' is a name of this host's store alone", err)
        self.write("VMFile.yaml", "vms:\n  db: {image: 'https://h.example/x.qcow2'}\n")
        out, _ = self.run_vmctl("image", "update")
        self.assertIn("debian:12: no longer in the VMFile\n", out)
        self.assertNotIn("debian", self.lock())
        self.assertIn("x.qcow2", self.lock())
        self.write("VMFile.yaml", "vms:\n  db: {image: ./a.img}\n")
        self.run_vmctl("image", "update")
        self.assertFalse(os.path.exists(os.path.join(self.dir, "VMFile.lock")))

    def test_cdrom_is_kept_as_an_image_is(self):
        disc = "https://h.example/install.iso"
        self.means[disc] = ("6", disc)
        self.write("VMFile.yaml", "vms:\n  new: {cdrom: '%s', disk: 1GiB}\n"
                   "  web: {image: 'debian:12', cdrom: '%s'}\n" % (disc, disc))
        self.run_vmctl("up")
        self.assertIn("6" * 64, self.lock())
        self.means[disc] = ("8", disc)
        self.run_vmctl("up")
        for vm in self.daemon.asked("file.up")[-1].params["vms"]:
            self.assertEqual(vm["cdrom"]["digest"], "sha256:" + "6" * 64)
        out, _ = self.run_vmctl("image", "update", "new")
        self.assertEqual(out, f"{disc}: sha256:666666666666 -> sha256:888888888888\n")
        self.assertIn("8" * 64, self.lock())
        self.assertIn("debian:12", self.lock())
        self.write("VMFile.yaml", "vms:\n  web: {image: 'debian:12'}\n")
        self.run_vmctl("image", "update")
        self.assertNotIn(disc, self.lock())

    def test_update_keeps_what_was_found_before_a_failure(self):
        self.run_vmctl("up")
        self.means["debian:12"] = ("7", "https://d.example/12-new.qcow2")
        def pull(call):
            if call.params["image"]["url"].startswith("https://"):
                raise fake.Error(-32006, "timed_out", "nobody answers")
            return self.pull(call)
        self.daemon.answers["image.pull"] = pull
        _, err = self.run_vmctl("image", "update", status=6)
        self.assertIn("https://h.example/x.qcow2: nobody answers", err)
        self.assertIn("7" * 64, self.lock())
        self.assertIn("2" * 64, self.lock())


class Catalogues(Case):
    OWN = """images:
  - name: mine
    version: "1"
    architecture: %s
    url: https://mine.example/mine-1.qcow2
    checksums: https://mine.example/SHA256SUMS
    format: qcow2
"""

    def setUp(self):
        super().setUp()
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
        os.makedirs(os.path.join(self.dir, ".config/vmm"))
        self.write(".config/vmm/catalogue.yaml", self.OWN % machine)
        self.meant = {"url": "https://mine.example/mine-1.qcow2", "name": "mine:1",
                      "checksums": "https://mine.example/SHA256SUMS", "format": "qcow2"}

    def test_own_names_are_told_in_full(self):
        daemon = self.serve({"image.pull": GOT, "vm.create": {"id": "0123456789ab"},
                             "file.up": {"vms": []}, "vm.list": {"vms": []}})
        self.run_vmctl("image", "pull", "mine:1")
        self.assertEqual(daemon.calls[-1].params["image"], self.meant)
        self.run_vmctl("image", "pull", "mine:1", "--sha256", "0" * 64)
        self.assertEqual(daemon.calls[-1].params["image"], {
            "url": self.meant["url"], "name": "mine:1", "format": "qcow2", "sha256": "0" * 64})
        self.run_vmctl("create", "web", "--image", "mine:1")
        self.assertEqual(daemon.calls[-1].params["image"], self.meant)
        self.write("VMFile.yaml", "vms:\n  web: {image: 'mine:1', backend: noop}\n")
        self.run_vmctl("up")
        self.assertEqual(said(daemon.asked("file.up")[0].params["vms"][0]["image"]), self.meant)
        self.run_vmctl("image", "pull", "debian:12")
        self.assertEqual(daemon.calls[-1].params["image"], {"url": "debian:12"})

    def test_lock_has_the_name_of_the_vmfile(self):
        row = {"digest": DIGEST, "source": self.meant["url"], "url": self.meant["url"]}
        daemon = self.serve({"file.up": {"vms": []}, "vm.list": lambda call: {"vms": [
            {"name": "web", "project": os.path.realpath(self.dir) + "/VMFile.yaml",
             "image": row}]}})
        self.write("VMFile.yaml", "vms:\n  web: {image: 'mine:1', backend: noop}\n")
        self.run_vmctl("up")
        with open(os.path.join(self.dir, "VMFile.lock"), encoding="utf-8") as file:
            self.assertIn("mine:1", file.read())
        daemon.answers["image.list"] = {"images": []}
        self.run_vmctl("up")
        self.assertEqual(said(daemon.asked("file.up")[1].params["vms"][0]["image"]), {
            "url": self.meant["url"], "name": "mine:1", "format": "qcow2", "digest": DIGEST,
            "source": self.meant["url"]})

    def test_catalogue_shows_both(self):
        theirs = {"name": "debian", "version": "12", "aliases": ["bookworm"],
                  "architecture": "amd64", "url": "https://d.example/12.qcow2",
                  "user": "debian", "firmware": "bios", "file": "/usr/share/vmm/catalogue.yaml"}
        daemon = self.serve({"image.catalogue": {"entries": [theirs], "architecture": "amd64"}})
        out, _ = self.run_vmctl("image", "catalogue")
        lines = [line.split() for line in out.splitlines()]
        self.assertEqual(lines[1], ["debian:12", "amd64", "bookworm", "debian", "bios",
                                    "https://d.example/12.qcow2"])
        self.assertEqual(lines[2][0], "mine:1")
        rows = json.loads(self.run_vmctl("--json", "image", "catalogue")[0])["entries"]
        self.assertEqual([row["name"] for row in rows], ["debian", "mine"])
        daemon.answers["image.catalogue"] = {"entries": [dict(
            theirs, name="mine", version="1", architecture=rows[1]["architecture"])]}
        rows = json.loads(self.run_vmctl("--json", "image", "catalogue")[0])["entries"]
        self.assertEqual([row["url"] for row in rows], [self.meant["url"]])

    def test_wrong_catalogue_is_told_with_its_line(self):
        self.serve({"image.pull": GOT})
        self.write(".config/vmm/catalogue.yaml", "images:\n  - nmae: x\n")
        _, err = self.run_vmctl("image", "pull", "mine:1", status=2)
        self.assertRegex(err, r"catalogue\.yaml:2:\d+: ")
        self.run_vmctl("image", "pull", "https://h.example/x")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
