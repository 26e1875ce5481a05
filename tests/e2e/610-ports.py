#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Ports of the host that lead to machines, with real emulators whose guests have nothing to boot."""

import os
import signal
import socket
import subprocess
import threading

from harness import VMMD, Failure, Host, RpcError, check, contains, equal, run, wait_until

host = Host().start()
DISK = os.path.join(host.dir, "disk.raw")
with open(DISK, "wb") as f:
    f.truncate(4 << 20)


def refused(wanted, method, /, **params):
    try:
        host.call(method, **params)
    except RpcError as e:
        equal(e.name, wanted, f"{method}: {e}")
        return e.error
    raise Failure(f"{method} was not refused")


def create(name, *ports, start=True, **more):
    return host.call("vm.create", name=name, image=DISK, memory=32, ports=list(ports), start=start,
                     **more)


def destroy(*names):
    for name in names:
        host.call("vm.destroy", name=name, force=True)


def holder(kind=socket.SOCK_STREAM, port=0, address="127.0.0.1"):
    """A socket that has a port of the host, and that port."""
    s = socket.socket(socket.AF_INET, kind)
    if kind == socket.SOCK_STREAM:  # whatever connections of before have left
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    if kind == socket.SOCK_STREAM:
        s.listen()
    return s, s.getsockname()[1]


def free_port(kind=socket.SOCK_STREAM):
    s, port = holder(kind)
    s.close()
    return port


def listens(port, protocol="tcp", address="127.0.0.1"):
    """Is the port of the host somebody's?  Asked of the kernel, not of the daemon."""
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    try:
        s.bind((address, port))
        return False
    except OSError:
        return True
    finally:
        s.close()


def ports_of(name):
    """(host, host_port, guest_port, protocol) of what the person asked for."""
    return [(p["host"], p.get("host_port"), p["guest_port"], p["protocol"])
            for p in host.vm(name)["ports"] if not p.get("ssh")]


def active(name):
    return all(p["active"] for p in host.vm(name)["ports"])


def test_g34_several_forwards_of_a_machine():
    one, two = free_port(), free_port(socket.SOCK_DGRAM)
    row = create("web", f"{one}:80", f"127.0.0.1:{two}:53/udp", "0:22", "127.0.0.2::8443")
    ports = row["ports"]
    equal([(p["host"], p["guest_port"], p["protocol"], p["active"]) for p in ports],
          [("127.0.0.1", 80, "tcp", True), ("127.0.0.1", 53, "udp", True),
           ("127.0.0.1", 22, "tcp", True), ("127.0.0.2", 8443, "tcp", True),
           ("127.0.0.1", 22, "tcp", True)])
    equal([p["host_port"] for p in ports[:2]], [one, two])
    equal([bool(p.get("ssh")) for p in ports], [False] * 4 + [True])
    equal(ports[4]["host_port"], row["ssh"]["port"])
    check(ports[2]["host_port"] not in (0, row["ssh"]["port"]), ports)
    for p in ports:
        check(listens(p["host_port"], p["protocol"], p["host"]), f"nobody listens: {p}")
    shown = host.vmctl("status", "web").stdout
    contains(shown, f"127.0.0.1:{one} -> 80, 127.0.0.1:{two} -> 53/udp, ")
    equal(host.call("vm.port_list", name="web"), {"name": "web", "ports": ports})
    equal(host.json("port", "list", "web")["ports"], ports)
    contains(host.vmctl("port", "list", "web").stdout, f"127.0.0.1:{one}")
    destroy("web")
    check(not listens(one) and not listens(two, "udp"), "the ports are free again")


def test_added_and_removed_while_it_runs():
    connection = host.rpc()
    connection.call("event.subscribe")
    create("hot")
    ssh = host.vm("hot")["ssh"]["port"]
    pid = host.vm("hot")["pid"]
    one, two = free_port(), free_port(socket.SOCK_DGRAM)
    result = host.json("port", "add", "hot", f"{one}:80", f"{two}:53/udp")
    equal([p["host_port"] for p in result["ports"]], [one, two, ssh])
    check(listens(one) and listens(two, "udp"), "they are there")
    contains(host.vmctl("port", "add", "hot", "443").stdout, "443")
    chosen = ports_of("hot")[2][1]
    check(listens(chosen), "the kernel's choice")
    told = []
    while len(told) < 2:
        params = connection.line()["params"]
        if params["kind"] == "ports":
            told.append([p["guest_port"] for p in params["data"]["ports"]])
    equal(told, [[80, 53, 22], [80, 53, 443, 22]])
    connection.close()
    # by its own words, and by the port that it has
    host.vmctl("port", "rm", "hot", f"127.0.0.1:{one}:80/tcp", f"{chosen}:443")
    equal(ports_of("hot"), [("127.0.0.1", two, 53, "udp")])
    check(not listens(one) and not listens(chosen) and listens(two, "udp"), "two are gone")
    row = host.vm("hot")
    equal((row["pid"], row["ssh"]["port"]), (pid, ssh), "nothing was started anew")
    # remembered over a stop and a start
    host.call("vm.stop", name="hot", force=True)
    check(not listens(two, "udp"), "stopped")
    equal([(p["host_port"], p["active"]) for p in host.vm("hot")["ports"]], [(two, False)])
    host.call("vm.port_add", name="hot", ports=[f"{one}:80"])  # of a machine that does not run
    check(not listens(one), "not yet")
    host.call("vm.start", name="hot")
    check(listens(one) and listens(two, "udp") and active("hot"), "there again")
    destroy("hot")


def test_what_can_not_be_added_or_removed():
    create("odd", "80")
    ssh = host.vm("odd")["ssh"]["port"]
    before = host.vm("odd")["ports"]
    error = refused("invalid_params", "vm.port_add", name="odd", ports=["8080:80", "x:1"])
    contains(error["message"], "'x:1'")
    error = refused("invalid_params", "vm.port_add", name="odd", ports=["0:80"])
    contains(error["message"], "'0:80'")
    error = refused("unsupported", "vm.port_add", name="odd", ports=["[::1]:8443:443"])
    contains(error["message"], "IPv4")
    error = refused("invalid_params", "vm.port_add", name="odd", ports=["192.0.2.1:8080:80"])
    contains(error["message"], "no address 192.0.2.1")
    refused("not_found", "vm.port_remove", name="odd", ports=["8080:80"])
    contains(refused("wrong_state", "vm.port_remove", name="odd", ports=[f"{ssh}:22"])["message"],
             "SSH")
    refused("not_found", "vm.port_add", name="nobody", ports=["80"])
    equal(host.vmctl("port", "add", "odd", "x", status=2).stdout, "")
    equal(host.vm("odd")["ports"], before)
    destroy("odd")
    error = refused("invalid_params", "vm.create", name="alone", image=DISK, network="none",
                    ports=["8080:80"])
    contains(error["message"], "network type user")
    equal(host.names(), [])


def test_a_taken_port_is_refused_with_its_holder():
    s, port = holder()
    u, datagram = holder(socket.SOCK_DGRAM)
    me = f"(process {os.getpid()})"
    create("late", f"{port}:80", start=False)
    error = refused("conflict", "vm.start", name="late")
    contains(error["message"], f"127.0.0.1:{port} (tcp)")
    contains(error["message"], me)
    equal(host.vm("late")["state"], "prepared")
    # two sockets of datagrams could share it in silence
    host.call("vm.port_remove", name="late", ports=[f"{port}:80"])
    host.call("vm.port_add", name="late", ports=[f"{datagram}:53/udp"])
    error = refused("conflict", "vm.start", name="late")
    contains(error["message"], f"127.0.0.1:{datagram} (udp)")
    contains(error["message"], me)
    host.call("vm.port_remove", name="late", ports=[f"{datagram}:53/udp"])
    host.call("vm.start", name="late")
    error = refused("conflict", "vm.port_add", name="late", ports=["81", f"{port}:80"])
    contains(error["message"], me)
    equal(ports_of("late"), [], "nothing of a change that failed stays")
    contains(host.vmctl("port", "add", "late", f"{datagram}:53/udp", status=4).stderr, me)
    s.close()
    u.close()
    host.call("vm.port_add", name="late", ports=[f"{port}:80", f"{datagram}:53/udp"])
    check(active("late"))
    # a machine of ours, by its name; also by the port that the kernel chose for it
    for taken in (port, host.vm("late")["ssh"]["port"]):
        create("other", f"{taken}:80", start=False)
        contains(refused("conflict", "vm.start", name="other")["message"], "machine 'late'")
        destroy("other")
    contains(refused("conflict", "vm.create", name="other", image=DISK, start=True,
                     ports=[f"0.0.0.0:{port}:80"])["message"], "machine 'late'")
    equal(host.names(), ["late"])
    destroy("late")


def test_ports_of_root_say_so():
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        first = int(f.read())
    if os.geteuid() != 0 or first <= 7:
        print("# NOT CHECKED: a daemon without rights (needs root to become another)")
        return
    other = Host(env={"PATH": os.environ["PATH"]})
    os.chmod(other.dir, 0o777)
    log = open(other.log_path, "ab")
    other.process = subprocess.Popen(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", VMMD, "--user",
         "--data-dir", other.data, "--runtime-dir", other.runtime],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=other.env)
    log.close()
    try:
        wait_until("vmmd to listen", other.listening, 60)
        other.vmctl("create", "low", "--image", DISK, "--memory", "32", "--port", "7:80")
        try:
            other.call("vm.start", name="low")
            raise Failure("it started")
        except RpcError as e:
            equal(e.name, "permission_denied")
            contains(str(e), f"those below {first} are root's")
    finally:
        other.close()


def test_r24_r25_eight_machines_at_once():
    names = [f"m{i}" for i in range(8)]
    for name in names:
        create(name, "80", "443", "53/udp", start=False, display="vnc")
    threads = [threading.Thread(target=host.call, args=("vm.start",), kwargs={"name": n})
               for n in names]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    rows = [host.vm(name) for name in names]
    equal({row["state"] for row in rows}, {"running"})
    tcp = [p["host_port"] for row in rows for p in row["ports"] if p["protocol"] == "tcp"]
    udp = [p["host_port"] for row in rows for p in row["ports"] if p["protocol"] == "udp"]
    equal((len(set(tcp)), len(set(udp))), (24, 8), "distinct ports")
    equal(len({row["mac"] for row in rows}), 8)
    equal(len({row["ssh"]["port"] for row in rows}), 8)
    equal(len({row["vnc"] for row in rows}), 8, "displays")
    check(all(os.path.exists(row["vnc"]) for row in rows))
    check(all(listens(p) for p in tcp) and all(listens(p, "udp") for p in udp))
    destroy(*names)


def test_r25_a_port_stolen_between_create_and_start():
    create("slow", "80")
    before = host.vm("slow")
    host.call("vm.stop", name="slow", force=True)
    thieves = [holder(port=p["host_port"])[0] for p in before["ports"]]
    host.call("vm.start", name="slow")
    after = host.vm("slow")
    check(active("slow") and after["ssh"]["port"] != before["ssh"]["port"])
    check(after["ports"][0]["host_port"] != before["ports"][0]["host_port"])
    for thief in thieves:
        thief.close()
    destroy("slow")


def test_two_that_start_at_once_do_not_share_a_port():
    port = free_port()
    for name in ("a", "b"):
        create(name, f"{port}:80", start=False)
    answers = []

    def start(name):
        try:
            answers.append(host.call("vm.start", name=name)["state"])
        except RpcError as e:
            answers.append(e.name)
    threads = [threading.Thread(target=start, args=(name,)) for name in ("a", "b")]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(sorted(answers), ["conflict", "running"])
    destroy("a", "b")


def test_a_killed_daemon_finds_them_again():
    one = free_port()
    create("kept", f"{one}:80", "22", "443")
    before = host.vm("kept")
    host.restart("kill")
    wait_until("the adoption", lambda: active("kept"))
    after = host.vm("kept")
    equal((after["ports"], after["ssh"]["port"], after["pid"]),
          (before["ports"], before["ssh"]["port"], before["pid"]))
    two = free_port()
    host.call("vm.port_add", name="kept", ports=[f"{two}:81"])
    host.call("vm.port_remove", name="kept", ports=[f"{one}:80", "443"])
    check(listens(two) and not listens(one))
    host.restart("kill")
    wait_until("the adoption", lambda: active("kept"))
    equal(ports_of("kept")[1:], [("127.0.0.1", two, 81, "tcp")])
    equal(host.vm("kept")["ssh"]["port"], before["ssh"]["port"])
    destroy("kept")


def test_a_change_that_was_cut_off_is_finished():
    one, two = free_port(), free_port()
    create("cut", f"{one}:80")
    pid = host.vm("cut")["pid"]
    for method, port in (("vm.port_add", f"{two}:81"), ("vm.port_remove", f"{one}:80")):
        os.kill(pid, signal.SIGSTOP)  # its monitor hears, and does not answer
        connection = host.rpc()
        connection.begin(method, name="cut", ports=[port])
        wait_until("the change", lambda: [o for o in host.call("operation.list")["operations"]
                                          if o["phase"] == "forward"])
        host.kill()
        connection.close()
        os.kill(pid, signal.SIGCONT)
        host.start()
        wait_until("the adoption", lambda: active("cut"))
        wait_until(method, lambda: listens(two) and listens(one) == (method == "vm.port_add"))
    equal((ports_of("cut"), host.vm("cut")["pid"]), ([("127.0.0.1", two, 81, "tcp")], pid))
    destroy("cut")


def test_a_change_that_is_not_answered_leaves_no_trace():
    one = free_port()
    create("mute")
    pid = host.vm("mute")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        error = refused("unresponsive", "vm.port_add", name="mute", ports=[f"{one}:80"])
        contains(error["message"], "does not answer")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until("its answers", lambda: host.vm("mute")["responsive"])
    # What was asked for may have been done when nobody waited for the answer any more.
    wait_until("the port to be free", lambda: not listens(one))
    equal((ports_of("mute"), host.vm("mute")["pid"]), ([], pid))
    destroy("mute")


VMFILE = "vms:\n  site:\n    image: {image}\n    memory: 32\n    ports: [{ports}]\n{more}"


def project(*ports, more=""):
    return host.project(VMFILE.format(image=DISK, ports=", ".join(f'"{p}"' for p in ports), more=more))


def test_up_changes_ports_without_a_restart():
    one, two = free_port(), free_port()
    host.vmctl("up", cwd=project(f"{one}:80"))
    pid = host.vm("site")["pid"]
    equal(host.vmctl("plan", cwd=project(f"127.0.0.1:{one}:80/tcp")).returncode, 0)
    folder = project(f"{two}:80", "53/udp")
    plan = host.json("plan", cwd=folder, status=10)["vms"][0]
    equal((plan["action"], [(c["field"], c["when"]) for c in plan["changes"]]),
          ("ports", [("ports", "now")]))
    equal(host.json("up", cwd=folder)["vms"][0]["action"], "updated")
    check(listens(two) and not listens(one))
    equal((host.vm("site")["pid"], len(ports_of("site"))), (pid, 2))
    equal(host.vmctl("plan", cwd=folder).returncode, 0)
    # what is in the way is told, and what was there stays
    s, port = holder()
    failed = host.json("up", cwd=project(f"{port}:80"), status=None)["vms"][0]
    contains(failed["error"]["message"], f"(process {os.getpid()})")
    check(listens(two) and active("site"))
    s.close()
    equal(host.json("up", cwd=project())["vms"][0]["action"], "updated")
    equal(ports_of("site"), [])
    host.vmctl("down", "--destroy", cwd=project())


def test_a_vmfile_says_where_a_port_is_wrong():
    done = host.vmctl("plan", cwd=project("8080:80", "8080:81"), status=2)
    contains(done.stderr, "ports[1]")
    contains(done.stderr, "VMFile.yaml:5:")
    twin = f"  twin:\n    image: {DISK}\n    ports: [\"8080:80\"]\n"
    done = host.vmctl("plan", cwd=project("0.0.0.0:8080:80", more=twin), status=2)
    contains(done.stderr, "'site' and 'twin'")
    port = free_port()
    create("first", f"{port}:80")
    done = host.vmctl("plan", cwd=project(f"{port}:80"), status=10)
    contains(done.stderr, "warning: site:")
    contains(done.stderr, "machine 'first'")
    destroy("first")


if __name__ == "__main__":
    run(globals(), [host])
