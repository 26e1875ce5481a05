#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The main job on real guests: two Debian machines from one VMFile, and what can happen to them.

The cases share the guests and run in order: each leaves what the next one needs.
"""

import hashlib
import os
import subprocess
import time

from harness import (VMCTL, Failure, Host, RpcError, check, contains, equal, guest_image,
                     process_exists, run, wait_until)

host = Host()
IMAGE = guest_image()
ALL_BYTES = bytes(range(256)) * 17
BIG = os.urandom(1 << 20) * 64

VMFILE = """vms:
  one:
    image: {image}
    vcpus: 1
    memory: {memory}
    cloud-init: {{hostname: first}}
    provision:
      - shell: {{inline: "echo $GREETING from $(hostname) >> ~/greeting", env: {{GREETING: "it's me"}}}}
      - file: {{source: files/empty, destination: /home/vm/empty, mode: "0600"}}
      - file: {{source: files/bytes, destination: /home/vm/bytes, mode: "0751"}}
      - file: {{source: files/big, destination: /var/tmp/big, mode: "0640", owner: "root:adm"}}
      - shell: {{script: files/setup.sh}}
      - shell: {{inline: "id -un > /root/who", as: root}}
{more}
  two:
    image: {image}
    memory: 384MiB
    disk: 4GiB
    cloud-init: {{}}
    ssh: {{user: tester}}
"""


def project(more="", memory="512MiB"):
    folder = host.project(VMFILE.format(image=IMAGE, more=more, memory=memory), "two words, 'quoted'")
    files = os.path.join(folder, "files")
    os.makedirs(files, exist_ok=True)
    for name, data in (("empty", b""), ("bytes", ALL_BYTES), ("big", BIG),
                       ("setup.sh", b"#!/bin/sh\ncat\necho set up > /home/vm/setup\n")):
        with open(os.path.join(files, name), "wb") as f:
            f.write(data)
    return folder


def inside(name, command, status=0, **kwargs):
    return host.vmctl("exec", name, "--", "sh", "-c", command, status=status, **kwargs).stdout


def event_within_a_second(vm, state, reason, act):
    """Runs act and sees the state's event and the row soon after it took effect."""
    connection = host.rpc()
    connection.call("event.subscribe")
    act()
    while True:
        params = connection.line()["params"]
        if params["kind"] == "state" and params["vm"] == vm and params["data"]["state"] == state:
            break
    equal(params["data"]["reason"], reason)
    row = host.vm(vm)
    equal((row["state"], row["reason"]), (state, reason))
    connection.close()
    contains(host.vmctl("status", vm).stdout, reason)


def test_g55_up_brings_two_machines_side_by_side():
    host.start()
    begin = time.monotonic()
    result = host.json("up", cwd=project())
    took = time.monotonic() - begin
    equal({vm["name"]: vm["action"] for vm in result["vms"]}, {"one": "created", "two": "created"})
    alone = sum(p["ms"] for vm in result["vms"] for p in vm["phases"]) / 1000
    check(took < alone, f"side by side: {took} s, one after the other {alone} s")
    for name in ("one", "two"):
        row = host.vm(name)
        equal((row["state"], row["cloud_init"], row["ssh"]["host_key"], row["ssh"]["reachable"]),
              ("running", "done", "injected", True), name)
    equal(host.vm("one")["provision"]["state"], "done")


def test_g63_up_again_does_nothing():
    begin = time.monotonic()
    result = host.json("up", cwd=project())
    equal({vm["action"] for vm in result["vms"]}, {"unchanged"})
    print(f"# a second up took {time.monotonic() - begin:.3f} s")
    equal(host.vmctl("plan", cwd=project()).returncode, 0)
    equal(inside("one", "wc -l < greeting").strip(), "1")


def test_g62_r20_files_arrive_exactly():
    equal(inside("one", "cat greeting"), "it's me from first\n")
    for path, data, facts in (("/home/vm/empty", b"", "600 vm vm"),
                              ("/home/vm/bytes", ALL_BYTES, "751 vm vm"),
                              ("/var/tmp/big", BIG, "640 root adm")):
        equal(inside("one", f"sudo sha256sum < {path}").split()[0],
              hashlib.sha256(data).hexdigest(), path)
        equal(inside("one", f"sudo stat -c '%a %U %G' {path}").strip(), facts, path)
    equal(inside("one", "cat setup"), "set up\n")
    equal(inside("one", "sudo cat /root/who"), "root\n")
    equal(inside("one", "ls -A /tmp | grep -c vmm || :").strip(), "0", "nothing left in /tmp")


def test_r09_r14_exec_passes_everything_on():
    equal(inside("one", "cat", input="over there\n"), "over there\n")
    equal(inside("one", "exit 7", status=7), "")
    equal(host.vmctl("exec", "one", "--", "sh", "-c", "kill -9 $$", status=None).returncode, 137)
    done = host.vmctl("exec", "one", "--", "sh", "-c", "head -c 52428800 /dev/zero >&2; echo out",
                      text=False)
    equal((done.stdout, len(done.stderr)), (b"out\n", 52428800))
    equal(inside("two", "id -un; hostname; df --output=size -B1M / | tail -1").split()[:2],
          ["tester", "two"])
    check(int(inside("two", "df --output=size -B1M / | tail -1")) > 3000, "the root has grown")


def test_r13_g66_ssh_is_verified_and_passes_the_status():
    equal(host.vmctl("ssh", "one", "--", "echo hello; exit 5", status=5).stdout, "hello\n")
    done = host.vmctl("ssh", "nope", status=255, cwd=host.dir)
    contains(done.stderr, "nope")


def test_r10_g81_console_shares_and_keeps():
    clients = [subprocess.Popen([VMCTL, "console", "one"], env=host.env, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
               for _ in range(2)]
    try:
        clients[0].stdin.write(b"\n")
        clients[0].stdin.flush()
        for client in clients:
            os.set_blocking(client.stdout.fileno(), False)
            seen = b""

            def prompt():
                nonlocal seen
                seen += client.stdout.read() or b""
                return b"login:" in seen

            wait_until("a login prompt on each console", prompt)
    finally:
        for client in clients:
            client.stdin.close()
            client.kill()
            client.wait()
    contains(host.vmctl("log", "--console", "--tail", "5", "one").stdout, "login:")
    contains(host.vmctl("log", "--provision", "one").stdout, "step 1")


def test_a_failing_step_stops_the_list():
    folder = project("""      - shell: {inline: "echo before; echo why >&2; exit 3"}
      - shell: {inline: "touch /home/vm/after"}
""")
    done = host.vmctl("up", cwd=folder, status=1)
    contains(done.stderr, "step 7")
    contains(done.stderr, "3")
    contains(done.stderr + done.stdout, "why")
    equal(host.vm("one")["provision"]["state"], "failed")
    inside("one", "test ! -e after")
    # done steps are not done again (G-63)
    equal(inside("one", "wc -l < greeting").strip(), "1")


def test_g59_a_step_killed_by_a_signal_fails():
    folder = project("""      - shell: {inline: "kill -9 $$"}\n""")
    contains(host.vmctl("up", cwd=folder, status=1).stderr, "KILL")


def test_g60_a_step_may_time_out_and_one_that_reads_ends():
    folder = project("""      - shell: {inline: "cat > got; wc -c < got"}
      - shell: {inline: "sleep 600", timeout: 2s}\n""")
    done = host.vmctl("up", cwd=folder, status=None)
    check(done.returncode in (1, 6), done.returncode)
    contains(done.stderr, "step 8")
    equal(inside("one", "cat got"), "")


def test_kill_9_of_vmmd_while_provisioning():
    folder = project("""      - shell: {inline: "echo begun >> begun; sleep 20; echo ended >> ended"}\n""")
    up = subprocess.Popen([VMCTL, "up"], cwd=folder, env=host.env, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL)
    other = host.rpc()  # another session, which must not be needed for anything
    wait_until("the step to run", lambda: host.vm("one")["provision"]["state"] == "running" and
               host.vmctl("exec", "one", "--", "test", "-e", "begun", status=None).returncode == 0)
    before = {n: host.vm(n) for n in ("one", "two")}
    host.kill()
    other.close()
    check(up.wait(60) != 0, "the interrupted up does not claim success")
    for name, row in before.items():
        check(process_exists(row["pid"]), f"{name} lives on")
    host.start()
    for name, row in before.items():
        after = wait_until("the machine to be adopted", lambda: host.vm(name))
        equal((after["state"], after["pid"]), ("running", row["pid"]), name)
    equal(host.vm("one")["provision"]["state"], "interrupted")
    interrupted = [o for o in host.call("operation.list", all=True)["operations"]
                   if o["state"] == "interrupted"]
    check({"file.up", "vm.provision"} <= {o["kind"] for o in interrupted}, interrupted)
    host.vmctl("up", cwd=folder)
    equal(host.vm("one")["provision"]["state"], "done")
    contains(inside("one", "cat ended"), "ended")


def test_g56_another_host_key_is_refused():
    inside("two", "sudo rm /etc/ssh/ssh_host_ed25519_key*; "
                  "sudo ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; "
                  "sudo systemctl restart ssh")
    done = host.vmctl("exec", "two", "--", "true", status=255)
    contains(done.stderr, "host key")
    try:
        host.call("vm.provision", name="two")
        raise Failure("a stranger was provisioned")
    except RpcError as e:
        equal(e.name, "host_key_mismatch")
    check(host.vmctl("ssh", "two", "--", "true", status=None).returncode == 255, "ssh refuses too")


def test_guest_panic():
    event_within_a_second("one", "failed", "guest-panic", lambda: host.vmctl(
        "exec", "one", "--", "sudo", "sh", "-c",
        "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger", status=None, timeout=60))


def test_down_and_up_keep_the_disk():
    folder = project()
    result = host.json("down", cwd=folder)
    equal({vm["name"]: vm["action"] for vm in result["vms"]}["two"], "stopped")
    host.vmctl("up", "--name", "one", cwd=folder)
    equal(inside("one", "wc -l < greeting").strip(), "1")
    row = host.vm("one")
    equal((row["ssh"]["host_key"], row["cloud_init"]), ("injected", "done"))


def test_g65_changed_memory_is_told():
    folder = project(memory="640MiB")
    done = host.vmctl("up", "--name", "one", cwd=folder)
    contains(done.stdout, "memory: 512 MiB -> 640 MiB")
    equal(host.vm("one")["memory_mib"], 512)


def test_guest_power_off():
    event_within_a_second("one", "stopped", "guest-shutdown", lambda: host.vmctl(
        "exec", "one", "--", "sudo", "systemctl", "poweroff", status=None, timeout=60))


def test_kill_9_of_qemu():
    row = host.call("vm.start", name="one")
    event_within_a_second("one", "failed", "killed-signal-9", lambda: os.kill(row["pid"], 9))
    # what a dead machine left does not keep it from starting
    equal(host.call("vm.start", name="one")["state"], "running")
    equal(host.call("vm.stop", name="one", force=True)["how"], "terminated")


def test_suspend_and_resume():
    host.call("vm.start", name="one")
    equal(host.call("vm.suspend", name="one")["state"], "suspended")
    equal(host.call("vm.resume", name="one")["state"], "running")
    host.call("vm.suspend", name="one")
    # G-22: a suspended machine is woken to hear that it shall stop
    begin = time.monotonic()
    equal(host.call("vm.stop", name="one", timeout=2)["state"], "stopped")
    check(time.monotonic() - begin < 30, "it does not hang")


def test_down_destroy_leaves_nothing():
    folder = project()
    host.vmctl("down", "--destroy", cwd=folder)
    equal(host.names(), [])
    equal(os.listdir(os.path.join(host.data, "vms")), [])
    equal(os.listdir(os.path.join(host.runtime, "vm")), [])
    images = host.call("image.list")["images"]
    equal(len(images), 1)
    host.vmctl("image", "rm", images[0]["digest"])
    equal(os.listdir(os.path.join(host.data, "images")), [])


run(globals(), [host])
