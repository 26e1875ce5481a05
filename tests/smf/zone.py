#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""A zone as vmmd configures it, from its installation to the end of its server.

    zone.py SOURCE_TOP SHELL...

zonecfg and propolis-server are the project's fakes, which are strict: what the boot hook makes of
zonecfg's words, and the command line that init calls the server by, are what they understand.
"""

import http.client
import os
import subprocess
import sys
import time

from brand import Host, ZONE, read, write
from tap import Cases

ADDRESS, PORT = "127.79.3.9", 12400
WAIT_S = 20
SCRIPT = """create -b
set brand=vmm
set zonepath="{zonepath}"
set autoboot=false
set ip-type=exclusive
add net
set physical=vm0123456789ab_c0
end
add device
set match="/dev/zvol/rdsk/rpool/vmm/machines/0123456789ab"
end
add attr
set name=vmm-machine
set type=string
set value="11111111-2222-4333-8444-555555555555"
end
add attr
set name=vmm-address
set type=string
set value="none"
end
add attr
set name=vmm-port
set type=string
set value="{port}"
end
add attr
set name=vmm-link
set type=string
set value="vm0123456789ab_c0"
end
add attr
set name=vmm-server
set type=string
set value="{server}"
end
add attr
set name=vmm-bootrom
set type=string
set value="{bootrom}"
end
add attr
set name=vmm-vnc
set type=string
set value="5900"
end
verify
commit
"""


class Zone(Host):
    def __init__(self, top, shell):
        super().__init__(top, shell)
        self.fake = os.path.join(top, "tests", "fake")
        self.server = os.path.join(self.fake, "propolis-server")
        self.state = os.path.join(self.folder, "fake")
        self.bootrom = os.path.join(self.folder, "rom.fd")
        os.mkdir(self.state)
        write(self.bootrom, "")
        self.env = {"VMM_FAKE_DIR": self.state, "VMM_FAKE_ZONE": ZONE,
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self.stub("zonecfg", f"VMM_FAKE_DIR='{self.state}' exec '{self.fake}/bin/zonecfg' \"$@\"")
        self.stub("ifconfig", "")

    def configure(self, script):
        path = os.path.join(self.folder, "script")
        write(path, script)
        done = subprocess.run([self.fake + "/bin/zonecfg", "-z", ZONE, "-f", path], env=self.env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
        assert done.returncode == 0, done.stdout

    def boot(self):
        """Its first process, with what the fakes want to know besides."""
        process = subprocess.Popen([self.shell, self.brand + "/init"], env=self.env)
        end = time.monotonic() + WAIT_S
        while not os.path.exists(self.log) or "listening on" not in read(self.log):
            assert process.poll() is None and time.monotonic() < end, read(self.log)
            time.sleep(0.02)
        return process


def answer(path):
    connection = http.client.HTTPConnection(ADDRESS, PORT, timeout=WAIT_S)
    connection.request("GET", path, headers={"api-version": "1.0.0"})
    return connection.getresponse().status


def life(top, shell):
    zone = Zone(top, shell)
    zone.configure(SCRIPT.format(zonepath=zone.zonepath, port=PORT, server=zone.server,
                                 bootrom=zone.bootrom))
    zone.good("install")
    zone.stub("ipmgmtd", "", zone.root + "/lib/inet/ipmgmtd")
    # Stands for what the zone's configuration mounts.
    for path in (zone.server, zone.bootrom):
        write(zone.root + path, "")
    zone.bad("boot", "vmctl start")
    zone.configure(f'select attr name=vmm-address\nset value="{ADDRESS}/16"\nend\ncommit\n')
    zone.good("boot")

    process = zone.boot()
    try:
        assert answer("/instance") == 424, "not the server of a machine that was never ensured"
        assert f"listening on {ADDRESS}:{PORT}, VNC on {ADDRESS}:5900" in read(zone.log)
        assert int(read(zone.root + "/var/run/vmm.pid")) == process.pid
        done = zone.run("shutdown")
        assert (done.returncode, done.stdout) == (0, ""), done
        assert process.wait(WAIT_S) == -15
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    zone.good("halt")
    zone.good("uninstall")
    assert os.listdir(os.path.dirname(zone.zonepath)) == []
    zone.done()


def main():
    cases = Cases()
    for shell in sys.argv[2:]:
        cases.run(f"G-90, G-93: {os.path.basename(shell)}: a zone ends in a server that answers at "
                  "the machine's own address", life, sys.argv[1], shell)
    cases.end()


if __name__ == "__main__":
    main()
