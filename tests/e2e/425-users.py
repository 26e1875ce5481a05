#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Several users of the host's daemon: one store and one transfer for all, and nobody sees, moves or
removes what is another's.  It takes root to be several users."""

import os
import socket
import sys
import tempfile

from fetching import MIB, ImageHost, noise, sha256
from harness import Rpc, check, equal, run, wait_until

import registry as fake
import web

if os.geteuid() != 0:
    print("1..0 # SKIP only root can become others")
    sys.exit(0)

ALICE, BOB, GROUP = 64001, 64002, 65534
server = web.Server()
host = ImageHost(base=tempfile.mkdtemp(prefix="vmm-e2e-users-"))
os.chmod(host.dir, 0o755)
config = os.path.join(host.dir, "vmmd.yaml")
with open(config, "w", encoding="utf-8") as file:
    file.write("group: nogroup\nfetch_attempts: 2\n")


def start():
    host.start("--system", "--config", config)


class UserRpc(Rpc):
    """A connection that the daemon knows as the user's."""

    def __init__(self, uid):
        self.sock = connected(uid)
        self.sock.settimeout(60)
        self.buffer, self.last_id, self.notifications, self.answers = b"", 0, [], {}


def connected(uid):
    """Who connects is who is asked for, whoever has the socket afterwards."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(GROUP, GROUP, GROUP)
            os.setresuid(uid, uid, uid)
            client = socket.socket(socket.AF_UNIX)
            client.connect(host.socket)
            socket.send_fds(theirs, [b"x"], [client.fileno()])
            status = 0
        except OSError as e:
            print(f"# as {uid}: {e}", flush=True)
        finally:
            os._exit(status)
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    equal(os.waitpid(child, 0)[1], 0, "connecting as another user")
    return socket.socket(fileno=fds[0])


class User(ImageHost):
    """The same daemon, as it is for a user."""

    def __init__(self, uid):
        self.uid, self.images, self.data = uid, host.images, host.data

    def rpc(self, timeout=60):
        return UserRpc(self.uid)


alice, bob = User(ALICE), User(BOB)
start()


def login(page_server):
    return {"hosts": [{"for": page_server, "username": "alice", "password": "secret"}]}


def uids_of_fetchers():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                row = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        except OSError:
            continue
        if row["Name"] == "vmm-fetch" and row["PPid"] == str(host.process.pid):
            found.append(row["Uid"].split())
    return found


def clear():
    host.settle()
    for name in host.names():
        host.call("vm.destroy", name=name, force=True)
    host.call("image.prune", all=True)
    equal(host.files(), [])


def test_a_private_image_is_nobody_elses():
    page = server.put("/private.raw", noise(), login=("alice", "secret"))
    ref = {"url": page.url}
    row = alice.pull(ref, auth=login(f"{server.address}:{server.port}"), name="mine")["image"]
    equal((row["digest"], set(row["names"])), (sha256(page.data), {"mine", page.url}))
    equal(list(alice.rows()), [row["digest"]])
    equal(bob.rows(), {})
    for name in ("mine", page.url, row["digest"][7:20]):
        bob.refused("not_found", "image.inspect", image=name)
        bob.refused("not_found", "image.rm", image=name)
        bob.refused("not_found", "image.push", image=name, reference="oci://127.0.0.1:1/a/b:c")
        bob.refused(("not_found", "invalid_params"), "image.tag", image=name, name="stolen")
    for policy in ("missing", "revalidate", "refresh"):
        bob.pull_fails("permission_denied", ref, page.url, policy=policy)
    bob.refused("permission_denied", "vm.create", name="b", backend="noop", **bob.want(ref, {}))
    equal(bob.call("image.prune", all=True)["images"], [])
    equal(bob.rows(), {})
    equal(host.whole(), {row["digest"]})
    equal(alice.call("image.inspect", image="mine")["digest"], row["digest"])
    # With a login of their own it is theirs, too, and theirs alone to forget.
    bob.pull(ref, auth=login(f"{server.address}:{server.port}"))
    equal(list(bob.rows()), [row["digest"]])
    bob.refused("permission_denied", "image.rm", image=row["digest"])
    with open(host.log_path, encoding="utf-8", errors="replace") as f:
        check("secret" not in f.read(), "the log tells a password")
    clear()


def test_a_private_tag_is_nobody_elses():
    registry = fake.Registry(auth="basic", users={"alice": "secret"})
    try:
        data = noise()
        digest = registry.put_image("team/disk", "v1", data)
        refs = [registry.ref("team/disk:v1"), registry.ref(f"team/disk@{digest}")]
        for ref in refs:
            equal(alice.pull(ref, auth=login(registry.host))["image"]["digest"], sha256(data))
        for ref in refs:
            for policy in ("missing", "revalidate"):
                bob.pull_fails("permission_denied", ref, registry.host, policy=policy)
        equal(bob.rows(), {})
        # Who may read the manifest gets the image without another transfer.
        blob = "/blobs/" + sha256(data)
        before = registry.requests("GET", blob)
        got = bob.pull(refs[0], auth=login(registry.host))
        equal((got["image"]["digest"], got["transferred_bytes"]), (sha256(data), 0))
        equal(registry.requests("GET", blob), before)
    finally:
        registry.close()
    clear()


def test_one_transfer_for_all():
    page = server.put("/shared.raw", noise(8)).then(hold=MIB)
    waiting = []
    for number, user in enumerate((alice, bob, alice, bob)):
        connection = user.rpc()
        if number < 2:
            connection.begin("image.pull", **user.want(page.url, {}))
        else:
            connection.begin("vm.create", name=f"m{number}", backend="noop",
                             **user.want(page.url, {}))
        waiting.append(connection)
    check(page.held.wait(30), "the server was not asked")
    wait_until("all to wait", lambda: len(host.running()) == 4)
    rows = uids_of_fetchers()
    equal(len(rows), 1)
    check(len(set(rows[0])) == 1 and rows[0][0] in (str(ALICE), str(BOB)), rows)
    page.release()
    for connection in waiting:
        equal(connection.answer(1)["image"]["digest"], sha256(page.data))
        connection.close()
    equal(len(page.bodies), 1)
    equal(list(alice.rows()), list(bob.rows()))
    equal([vm["name"] for vm in alice.call("vm.list")["vms"]], ["m2"])
    # A machine of one keeps it from the other, whose own it is as well.
    alice.call("vm.destroy", name="m2")
    for user in (alice, bob):
        user.refused(("wrong_state", "permission_denied"), "image.rm", image=sha256(page.data))
        equal(user.call("image.prune", all=True)["images"], [])
    equal(host.whole(), {sha256(page.data)})
    clear()


def test_names_are_each_users_own():
    first, second = (server.put(f"/{n}.raw", noise()) for n in ("first", "second"))
    alice.pull(first.url, name="golden")
    bob.refused("not_found", "image.inspect", image="golden")
    bob.pull(second.url, name="golden")
    for user, page in ((alice, first), (bob, second)):
        equal(user.call("image.inspect", image="golden")["digest"], sha256(page.data))
        user.call("vm.create", name=f"u{user.uid}", backend="noop", image="golden")
        equal(user.call("vm.get", name=f"u{user.uid}")["image"]["digest"], sha256(page.data))
    host.kill()
    start()
    for user, page in ((alice, first), (bob, second)):
        equal(user.call("image.inspect", image="golden")["digest"], sha256(page.data))
    host.whole()
    clear()


def test_what_is_unfinished_is_its_users():
    page = server.put("/unfinished.raw", noise(16)).then(hold=8 * MIB)
    connection = alice.begin_pull(page.url)
    check(page.held.wait(30), "the server was not asked")
    wait_until("a part", lambda: any(os.stat(os.path.join(host.images, name)).st_size > 7 * MIB
                                     for name in host.parts()))
    host.kill()
    connection.close()
    page.release()
    start()
    equal(bob.call("image.prune")["parts"], 0)
    equal(alice.call("image.prune", dry_run=True)["parts"], 1)
    # Whose it is not begins anew; nothing of the other's is put into theirs.
    before = len(page.hits)
    equal(bob.pull(page.url)["image"]["digest"], sha256(page.data))
    check(all(r.status == 200 for r in page.hits[before:]), page.hits)
    equal(host.whole(parts=True), {sha256(page.data)})
    clear()


run(globals(), [host])
