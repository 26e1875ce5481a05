# SPDX-License-Identifier: MPL-2.0
"""What the cases about images from servers share: a daemon that is told where its images are, and
what must be true of its store whatever happened."""

import hashlib
import os
import sys

from harness import TOP, Failure, Host, RpcError, check, contains, equal, wait_until

sys.path.insert(0, os.path.join(TOP, "tests", "fake"))

MIB = 1 << 20


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def noise(mib=1):
    """A raw image, a new one each time, that nothing can pack."""
    return os.urandom(int(mib * MIB))


class ImageHost(Host):
    """settings: lines of vmmd.yaml."""

    def __init__(self, settings="", **kwargs):
        super().__init__(**kwargs)
        self.images = os.path.join(self.data, "images")
        config = os.path.join(self.dir, "config", "vmm")
        os.makedirs(config, exist_ok=True)
        with open(os.path.join(config, "vmmd.yaml"), "w", encoding="utf-8") as f:
            f.write("fetch_attempts: 2\n" + settings)

    # -- asking --

    @staticmethod
    def want(image, more):
        """Parameters of image.pull: what begins with a capital letter is of the method."""
        if isinstance(image, str):
            image = {"url": image}
        if image.get("url", "").startswith("http://"):
            image.setdefault("insecure_http", True)
        return {"image": dict(image), **more}

    def pull(self, image, **more):
        return self.call("image.pull", **self.want(image, more))

    def begin_pull(self, image, **more):
        """A connection that waits for the answer; answer(1) gives it."""
        connection = self.rpc(120)
        connection.begin("image.pull", **self.want(image, more))
        return connection

    def refused(self, code, method, /, **params):
        try:
            result = self.call(method, **params)
        except RpcError as e:
            text = str(e.error)
            check(e.name in (code if isinstance(code, tuple) else (code,)),
                  f"{e.name}, and not {code}: {text}")
            check(not any(ord(c) < 32 and c not in "\n\t" or ord(c) == 127 for c in
                          str(e) + e.error["data"].get("hint", "")), f"steers a terminal: {text}")
            return e.error
        raise Failure(f"{method} {params} was taken: {result}")

    def pull_fails(self, code, image, *parts, **more):
        error = self.refused(code, "image.pull", **self.want(image, more))
        told = error["message"] + "\n" + error["data"].get("hint", "")
        for part in parts:
            contains(told, part)
        check(error["data"].get("hint"), f"nobody says what to do: {error}")
        return error

    # -- what there is --

    def rows(self):
        return {row["digest"]: row for row in self.call("image.list")["images"]}

    def files(self):
        return sorted(os.listdir(self.images))

    def parts(self):
        """What unfinished transfers have so far."""
        return [name for name in self.files() if name.startswith(".part-")]

    def whole(self, parts=False):
        """Each file is an image's that has its digest, or, where that may be, of a part."""
        rows = self.rows()
        equal([name for name in self.files() if not (parts and name.startswith(".part-"))],
              sorted(os.path.basename(row["path"]) for row in rows.values()), "files and rows")
        for digest, row in rows.items():
            with open(row["path"], "rb") as f:
                equal(sha256(f.read()), digest)
        for row in self.call("image.verify")["images"]:
            check(row["ok"], row)
        return set(rows)

    def settle(self):
        wait_until("operations to end", lambda: not self.running(), 60)

    def running(self):
        return [o for o in self.call("operation.list")["operations"]
                if o["state"] not in ("done", "failed", "cancelled")]

    def clear(self):
        self.settle()
        for name in self.names():
            self.call("vm.destroy", name=name, force=True)
        self.call("image.prune", all=True)
        equal(self.files(), [])
