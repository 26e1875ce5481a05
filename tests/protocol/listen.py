#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The socket's place, mode and owner, and what a service manager passes."""

import contextlib
import grp
import os
import socket
import stat
import subprocess
import sys
import tempfile

from wire import SECONDS, Client, Server, equal, failed, run

NOBODY = 65534


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def stays_away(path, *words):
    """The server does not start there, says why, and leaves what is there as it is."""
    before = os.lstat(path) if os.path.lexists(path) else None
    done = subprocess.run([sys.argv[1], path], capture_output=True, text=True, timeout=SECONDS,
                          check=False)
    equal(done.returncode, 1)
    for word in words:
        assert word in done.stderr, done.stderr
    if before:
        now = os.lstat(path)
        equal((now.st_ino, now.st_mode, now.st_size), (before.st_ino, before.st_mode,
                                                      before.st_size))


@contextlib.contextmanager
def folder(bits=0o700):
    with tempfile.TemporaryDirectory(prefix="vmm-wire-") as name:
        os.chmod(name, bits)
        yield name


def as_nobody(work):
    """Runs work() as a user without rights; returns its text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        text = "failed"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            text = work()
        except Exception as problem:  # pylint: disable=broad-except
            text = repr(problem)
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def listen__user_mode__0600():
    with Server() as server:
        equal(mode(server.path), 0o600)
        assert stat.S_ISSOCK(os.lstat(server.path).st_mode)


def listen__system_mode__0660_of_the_group():
    group = grp.getgrgid(os.getgid()).gr_name
    with Server("--system", group) as server:
        equal(mode(server.path), 0o660)
        equal(os.lstat(server.path).st_gid, os.getgid())


def listen__group_that_is_not_there__told_and_nothing_left():
    with folder() as name:
        path = name + "/s"
        done = subprocess.run([sys.argv[1], path, "--system", "no-such-group"],
                              capture_output=True, text=True, timeout=SECONDS, check=False)
        equal(done.returncode, 1)
        assert "no-such-group" in done.stderr, done.stderr
        equal(os.listdir(name), [])


def listen__at_the_end__removes_its_socket():
    with Server() as server:
        server.process.terminate()
        server.process.wait(SECONDS)
        equal(os.listdir(server.folder), [])


def listen__socket_of_another_in_its_place__left_alone():
    with Server() as server:
        os.unlink(server.path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(server.path)
            server.process.terminate()
            server.process.wait(SECONDS)
            assert os.path.exists(server.path)


def listen__stale_socket__replaced():
    with folder() as name:
        path = name + "/s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
            dead.listen()
        with Server(path=path) as server, server.client() as client:
            equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def listen__after_a_kill__starts_again():
    with folder() as name:
        path = name + "/s"
        first = Server(path=path)
        first.process = subprocess.Popen([sys.argv[1], path], stdout=subprocess.PIPE)
        equal(first.process.stdout.readline(), b"ready\n")
        first.process.kill()
        first.process.wait()
        first.process.stdout.close()
        assert os.path.exists(path)
        with Server(path=path) as server, server.client() as client:
            equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def listen__live_server_there__refused():
    with Server() as server:
        stays_away(server.path, "already_exists", "another vmmd listens there")
        with server.client() as client:
            equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def listen__ten_at_once_over_a_stale_socket__one_wins():
    with folder() as name:
        path = name + "/s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        racers = [subprocess.Popen([sys.argv[1], path], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL) for _ in range(10)]
        said = [racer.stdout.readline() for racer in racers]
        equal(said.count(b"ready\n"), 1)
        equal(said.count(b""), 9)
        with Client(path) as client:
            client.call("system.shutdown")
        for racer in racers:
            racer.wait(SECONDS)
            racer.stdout.close()


def listen__not_a_socket_there__refused():
    with folder() as name:
        with open(name + "/file", "w", encoding="ascii") as file:
            file.write("precious")
        os.mkdir(name + "/dir")
        os.symlink(name + "/elsewhere", name + "/link")
        os.mkfifo(name + "/fifo")
        stays_away(name + "/file", "not a socket")
        stays_away(name + "/dir", "not a socket")
        stays_away(name + "/fifo", "not a socket")
        stays_away(name + "/link", "symbolic link")
        assert not os.path.lexists(name + "/elsewhere")


def listen__folder_open_to_all__refused():
    with folder(0o777) as name:
        stays_away(name + "/s", "permission_denied", "open to all")
        equal(os.listdir(name), [])
    with folder(0o1777) as name, Server(path=name + "/s"):
        pass


def listen__folder_that_is_not_there__told():
    with folder() as name:
        stays_away(name + "/none/s", "can not open the folder")


def listen__path_too_long__told():
    with folder() as name:
        path = name + "/" + "x" * 107
        stays_away(path, "too long for a socket", "107")


def listen__longest_path__works():
    with folder() as name:
        path = name + "/" + "x" * (107 - len(name) - 1)
        with Server(path=path) as server, server.client() as client:
            equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def activation__passed_socket__served_and_not_removed():
    with folder() as name:
        path = name + "/s"
        with socket.socket(socket.AF_UNIX) as ours:
            ours.bind(path)
            ours.listen()
            command = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&%d' % ours.fileno(),
                       "sh", sys.argv[1], path, "--listen-fd"]
            with kept(ours), Server(path=path, command=command) as server:
                with server.client() as client:
                    equal(client.call("vm.get", ["a"])["result"]["name"], "a")
            assert os.path.exists(path)


@contextlib.contextmanager
def kept(sock):
    """The next program that is started inherits the socket."""
    original = subprocess.Popen

    def popen(*args, **kwargs):
        return original(*args, pass_fds=[sock.fileno()], **kwargs)

    subprocess.Popen = popen
    try:
        yield
    finally:
        subprocess.Popen = original


def activation__for_another_process__makes_its_own():
    with folder() as name:
        path = name + "/s"
        with Server("--listen-fd", path=path, env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}) as server:
            with server.client() as client:
                equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def activation__not_a_socket__told():
    with folder() as name:
        done = subprocess.run(
            ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3</dev/null', "sh", sys.argv[1],
             name + "/s", "--listen-fd"], capture_output=True, text=True, timeout=SECONDS,
            check=False)
        equal(done.returncode, 1)
        assert "not a listening UNIX stream socket" in done.stderr, done.stderr


def notify__ready__told_once_it_listens():
    with folder() as name, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name + "/notify")
        manager.settimeout(SECONDS)
        with Server(path=name + "/s", env={"NOTIFY_SOCKET": name + "/notify"}):
            equal(manager.recv(1000), b"READY=1")


def notify__abstract_socket__told():
    with folder() as name, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = f"vmm-wire-{os.getpid()}"
        manager.bind("\0" + address)
        manager.settimeout(SECONDS)
        with Server(path=name + "/s", env={"NOTIFY_SOCKET": "@" + address}):
            equal(manager.recv(1000), b"READY=1")


def notify__nobody_there__no_harm():
    for where in ("/nowhere/at/all", "relative", "", "/" + "x" * 200):
        with Server(env={"NOTIFY_SOCKET": where}) as server, server.client() as client:
            equal(client.call("vm.get", ["a"])["result"]["name"], "a")


def peer__another_user_in_user_mode__turned_away():
    """Also when the file's mode would let them in."""
    with folder(0o755) as name, Server(path=name + "/s") as server:
        os.chmod(server.path, 0o666)

        def ask():
            with Client(server.path) as client:
                return client.answer()["error"]["data"]["name"]

        equal(as_nobody(ask), "permission_denied")


def peer__another_user_in_system_mode__may_not_administer():
    with folder(0o755) as name, Server("--system", "", path=name + "/s") as server:
        os.chmod(server.path, 0o666)

        def ask():
            with Client(server.path) as client:
                seen = client.call("vm.get", ["a"])["result"]["name"]
                failed(client.call("system.shutdown"), "permission_denied")
                # Not allowed comes before wrong: nothing is learnt about parameters.
                failed(client.call("system.shutdown", {"bad": 1}), "permission_denied")
                return seen

        equal(as_nobody(ask), "a")
        with server.client() as client:
            equal(client.call("system.shutdown")["result"], {})
        server.process.wait(SECONDS)


def peer__too_many_connections_of_a_user__others_still_served():
    with folder(0o755) as name, Server("--system", "", "--per-uid", "3",
                                       path=name + "/s") as server:
        os.chmod(server.path, 0o666)

        def ask():
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(Client(server.path)) for _ in range(4)]
                for client in clients[:3]:
                    client.call("vm.get", ["a"])
                failed(clients[3].answer(), "limit_exceeded")
                return "told"

        equal(as_nobody(ask), "told")
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(server.client()).call("vm.get", ["a"])


if os.geteuid() != 0:
    # Only root can be somebody else.
    for case in [key for key in globals() if key.startswith("peer__")]:
        del globals()[case]
run(globals())
