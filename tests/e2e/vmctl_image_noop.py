#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""vmctl's verbs for images with a real daemon, a web server and a registry on loopback.

    vmctl_image_noop.py VMCTL TOP VMMD [unittest arguments]
"""

import base64
import hashlib
import json
import os
import shutil
import sys
import unittest

from vmctl_case import Case, Terminal
from vmctl_noop import Noop

import registry  # the path is set by vmctl_case
import web

MIB = 1 << 20


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Images(Noop):
    def setUp(self):
        super().setUp()
        self.web = web.Server()
        self.addCleanup(self.web.close)
        self.data = os.urandom(MIB)
        self.page = self.web.put("/disk.raw", self.data)

    def pull(self, reference, *args):
        return self.json("image", "pull", reference, "--insecure-http", *args)

    def rows(self):
        return {row["digest"]: row for row in self.json("image", "list")["images"]}


class Verbs(Images):
    def test_pull_and_pull_again(self):
        out, _ = self.run_vmctl("image", "pull", self.page.url, "--insecure-http")
        self.assertIn(f"is {digest(self.data)} (raw, 1 MiB, fetched 1 MiB)", out)
        self.assertIn(f"from {self.page.url}", out)
        got = self.pull(self.page.url)
        self.assertEqual((got["known"], got["transferred_bytes"]), (True, 0))
        self.assertEqual(len(self.page.bodies), 1)
        self.assertEqual(list(self.rows()), [digest(self.data)])

    def test_http_needs_a_checksum_or_a_word(self):
        _, err = self.run_vmctl("image", "pull", "http://192.0.2.1/disk.raw", status=2)
        self.assertIn("--insecure-http", err)
        self.run_vmctl("image", "pull", self.page.url, "--sha256", digest(self.data)[7:])
        _, err = self.run_vmctl("image", "pull", self.page.url, "--sha256", "0" * 64, status=1)
        self.assertEqual(list(self.rows()), [digest(self.data)])

    def test_names(self):
        self.pull(self.page.url, "--name", "golden")
        self.run_vmctl("image", "tag", "golden", "other:1")
        row = self.json("image", "inspect", "other:1")
        self.assertLessEqual({"golden", "other:1"}, set(row["names"]))
        out, _ = self.run_vmctl("image", "rm", "golden")
        self.assertIn("removed the name 'golden'", out)
        self.run_vmctl("image", "inspect", "golden", status=3)
        self.run_vmctl("image", "tag", "other:1", "../x", status=2)
        self.run_vmctl("create", "web", "--backend", "noop", "--image", "other:1")
        self.run_vmctl("image", "rm", digest(self.data), status=4)
        self.run_vmctl("destroy", "web")
        self.run_vmctl("image", "rm", digest(self.data))
        self.assertEqual(self.rows(), {})

    def test_import_export_prune_verify(self):
        path = self.write("a.raw", self.data)
        got = self.json("image", "import", path)
        self.assertEqual(got["image"]["digest"], digest(self.data))
        self.run_vmctl("image", "import", path, "--name", "golden")
        self.assertIn("golden", self.json("image", "inspect", "golden")["names"])
        self.run_vmctl("image", "export", "golden", "out.raw")
        with open(os.path.join(self.dir, "out.raw"), "rb") as file:
            self.assertEqual(file.read(), self.data)
        self.run_vmctl("image", "export", "golden", "out.raw", status=1)
        out, _ = self.run_vmctl("image", "verify")
        self.assertIn(f"({digest(self.data)}): ok", out)
        self.pull(self.web.put("/other.raw", os.urandom(MIB)).url)
        self.assertEqual(len(self.rows()), 2)
        self.run_vmctl("image", "prune", "--dry-run")
        self.assertEqual(len(self.rows()), 2)
        self.run_vmctl("image", "prune")
        self.assertEqual(list(self.rows()), [digest(self.data)])

    def test_verify_finds_a_changed_byte(self):
        self.pull(self.page.url)
        path = self.rows()[digest(self.data)]["path"]
        os.chmod(path, 0o600)
        with open(path, "r+b") as file:
            file.write(b"\0\1\2\3")
        _, err = self.run_vmctl("image", "verify", status=1)
        self.assertIn("sha256", err)

    def test_ctrl_c_ends_the_transfer_and_leaves_nothing(self):
        self.page.always(hold=MIB // 2)
        terminal = Terminal(self, "image", "pull", self.page.url)
        terminal.until(b"% of 1 MiB")
        terminal.type(b"\x03")
        self.assertEqual(terminal.end(), 130)
        self.assertIn(b"cancelling", terminal.text)
        self.assertEqual(self.rows(), {})
        folder = os.path.join(self.dir, ".local/share/vmm/images")
        self.assertEqual(os.listdir(folder), [])

    def test_create_from_a_url(self):
        self.run_vmctl("create", "web", "--backend", "noop", "--image", self.page.url,
                       "--insecure-http")
        image = self.json("status", "web")["image"]
        self.assertEqual((image["digest"], image["url"]), (digest(self.data), self.page.url))

    def test_login_of_a_url_and_of_netrc(self):
        page = self.web.put("/secret.raw", self.data, login=("me", "s3cret"))
        self.run_vmctl("image", "pull", page.url, "--insecure-http", status=1)
        self.write(".netrc", "machine 127.0.0.1 login me password s3cret\n", 0o600)
        self.pull(page.url)
        os.unlink(os.path.join(self.dir, ".netrc"))
        page.replace(os.urandom(MIB))
        got = self.pull(page.url.replace("://", "://me:s3cret@"), "--policy", "refresh")
        self.assertEqual(got["image"]["digest"], digest(page.data))
        self.assertNotIn("s3cret", json.dumps([got, self.json("image", "list")]))
        self.log.flush()
        for folder, _, names in os.walk(self.dir):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        self.assertNotIn(b"s3cret", file.read(), path)


class Locks(Images):
    def setUp(self):
        super().setUp()
        self.vmfile()

    def vmfile(self, *names):
        self.write("VMFile.yaml", "vms:\n" + "".join(
            f"  {name}: {{backend: noop, image: {{url: '{self.page.url}', insecure-http: true}}}}\n"
            for name in ("web", *names)))

    def lock(self):
        with open(os.path.join(self.dir, "VMFile.lock"), encoding="utf-8") as file:
            return file.read()

    def images(self):
        return {vm["name"]: vm["image"]["digest"] for vm in self.json("list")["vms"]}

    def test_up_keeps_to_what_it_meant_and_update_moves_it(self):
        first = digest(self.data)
        self.run_vmctl("up")
        self.assertIn(first, self.lock())
        self.page.replace(os.urandom(MIB))
        second = digest(self.page.data)
        asked = len(self.page.hits)
        self.vmfile("db")
        self.run_vmctl("up")
        self.assertEqual(self.images(), {"web": first, "db": first})
        self.assertEqual(len(self.page.hits), asked)
        self.run_vmctl("plan")
        out, _ = self.run_vmctl("image", "update")
        self.assertEqual(out, f"{self.page.url}: {first[:19]} -> {second[:19]}\n")
        self.assertIn(second, self.lock())
        self.assertIn("image", self.run_vmctl("plan", status=10)[0])
        self.run_vmctl("reload")
        self.assertEqual(self.images(), {"web": second, "db": second})

    def test_lock_holds_on_another_host(self):
        self.run_vmctl("up")
        self.run_vmctl("down", "--destroy")
        self.run_vmctl("image", "rm", digest(self.data))
        good, self.page.data, self.page.etag = self.data, os.urandom(MIB), '"three"'
        _, err = self.run_vmctl("up", status=1)
        self.assertIn(digest(good)[:19], err)
        self.page.replace(good)
        self.run_vmctl("up")
        self.assertEqual(self.images(), {"web": digest(good)})


class Catalogues(Images):
    def test_own_entry(self):
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        os.makedirs(os.path.join(self.dir, "mine/vmm/catalogue.d"))
        self.env["XDG_CONFIG_HOME"] = os.path.join(self.dir, "mine")  # the daemon has another
        self.write("mine/vmm/catalogue.d/a.yaml", f"""images:
  - name: mine
    version: "1"
    architecture: {machine}
    url: {self.page.url}
    sha256: {digest(self.data)[7:]}
""")
        got = self.json("image", "pull", "mine:1")
        self.assertEqual(got["image"]["digest"], digest(self.data))
        names = {f"{row['name']}:{row['version']}"
                 for row in self.json("image", "catalogue")["entries"]}
        self.assertLessEqual({"mine:1", "debian:12"}, names)
        self.run_vmctl("create", "web", "--backend", "noop", "--image", "mine")  # no folder


@unittest.skipUnless(shutil.which("docker-registry"), "needs docker-registry")
class Registries(Images):
    def login(self, server):
        """A credential helper that counts how often it is asked."""
        os.makedirs(os.path.join(self.dir, ".docker"), exist_ok=True)
        self.write(".docker/config.json", json.dumps({"credHelpers": {server.host: "count"}}))
        self.write("docker-credential-count", "#!/bin/sh\nread server\necho >>$HOME/asked\n"
                   'echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"s3cret\\"}"\n', 0o755)
        self.env["PATH"] = self.dir + ":" + self.env["PATH"]

    def asked(self):
        try:
            with open(os.path.join(self.dir, "asked"), encoding="ascii") as file:
                return len(file.read())
        except FileNotFoundError:
            return 0

    def test_up_of_a_private_tag_that_moves(self):
        server = registry.Registry(auth="basic", users={"me": "s3cret"})
        self.addCleanup(server.close)
        reference = server.ref("team/disk:stable")
        self.pull(self.page.url, "--name", "first")
        self.login(server)
        self.run_vmctl("image", "push", "first", reference)
        self.run_vmctl("image", "prune", "--all")
        self.write("VMFile.yaml", f"vms:\n  web: {{backend: noop, image: '{reference}'}}\n")
        self.run_vmctl("up")
        asked = self.asked()
        with open(os.path.join(self.dir, "VMFile.lock"), encoding="utf-8") as file:
            lock = file.read()
        self.assertIn(digest(self.data), lock)
        self.assertRegex(lock, r"source: oci://[0-9.:]+/team/disk@sha256:[0-9a-f]{64}\n")
        self.run_vmctl("up")
        self.run_vmctl("plan")
        self.assertEqual(self.asked(), asked)

        self.page.replace(os.urandom(MIB))
        self.pull(self.page.url, "--name", "second")
        self.run_vmctl("image", "push", "second", reference)
        self.run_vmctl("down", "--destroy")
        self.run_vmctl("image", "prune", "--all")
        self.run_vmctl("up")
        self.assertEqual(self.json("status", "web")["image"]["digest"], digest(self.data))
        self.run_vmctl("image", "update")
        self.run_vmctl("plan", status=10)
        self.run_vmctl("reload")
        self.assertEqual(self.json("status", "web")["image"]["digest"], digest(self.page.data))

    def test_push_and_pull_with_the_files_of_container_tools(self):
        server = registry.Registry(auth="basic", users={"me": "s3cret"})
        self.addCleanup(server.close)
        reference = server.ref("team/disk:v1")
        self.pull(self.page.url, "--name", "golden")
        self.run_vmctl("image", "push", "golden", reference, status=1)
        os.makedirs(os.path.join(self.dir, ".docker"))
        self.write(".docker/config.json", json.dumps({"auths": {
            server.host: {"auth": base64.b64encode(b"me:s3cret").decode()}}}), 0o600)
        pushed = self.json("image", "push", "golden", reference)
        self.assertTrue(pushed["uploaded"])
        self.run_vmctl("image", "rm", digest(self.data))
        got = self.json("image", "pull", reference)
        self.assertEqual(got["image"]["digest"], digest(self.data))
        self.assertEqual(got["source"], server.ref(f"team/disk@{pushed['digest']}"))


del Case, Noop  # they have no tests of their own

if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=1)
