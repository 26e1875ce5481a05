# SPDX-License-Identifier: MPL-2.0
"""Registries for tests: the real one (Debian's docker-registry) on loopback, open, with basic
authentication or with tokens, and one that does everything wrong.

    registry = Registry(auth="token", users={"me": "secret"})
    digest = registry.put_image("team/disk", "v1", data)
    registry.ref("team/disk:v1")                       # oci://127.0.0.1:PORT/team/disk:v1
"""

import base64
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import web

QCOW2_LAYER = "application/vnd.cloudnebula.qcow2.layer.v1"
OCTETS = "application/octet-stream"
TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = b"{}"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(data, media_type, **more):
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


def manifest(layers, config=EMPTY, config_type="application/vnd.oci.empty.v1+json", **more):
    """The bytes of a manifest; layers: (data, media type[, annotations])."""
    rows = [descriptor(row[0], row[1], **({"annotations": row[2]} if len(row) > 2 else {}))
            for row in layers]
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST,
                       "config": descriptor(config, config_type), "layers": rows,
                       **more}).encode()


def index(entries):
    """entries: (manifest, os, architecture[, annotations])."""
    rows = [descriptor(row[0], MANIFEST, platform={"os": row[1], "architecture": row[2]},
                       **({"annotations": row[3]} if len(row) > 3 else {})) for row in entries]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}).encode()


def container_disk(data, name="disk/disk.img", mode="w:gz"):
    """A layer of a KubeVirt containerDisk."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode=mode) as tar:
        folder = tarfile.TarInfo("disk/")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        info = tarfile.TarInfo(name)
        info.size, info.uid, info.gid = len(data), 107, 107
        tar.addfile(info, io.BytesIO(data))
    return layer.getvalue()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class TokenServer:
    """Gives bearer tokens, signed by a key that the registry trusts, to those who may have one."""

    def __init__(self, folder, service, users):
        self.service, self.users = service, users
        self.key, self.bundle = os.path.join(folder, "key"), os.path.join(folder, "bundle")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj",
                        "/CN=tokens", "-days", "1", "-keyout", self.key, "-out", self.bundle],
                       check=True, stderr=subprocess.DEVNULL)
        with open(self.bundle, encoding="ascii") as pem:
            self.chain = ["".join(pem.read().split("\n")[1:-2])]
        self.server = web.Server()
        self.server.on("/token", self.token)
        self.readers = None  # None: everybody who has an account; else those

    def token(self, request):
        query = urllib.parse.parse_qs(request.query)
        if request.method == "POST":
            query = urllib.parse.parse_qs(request.body.decode())
        user = request.basic()
        if user and self.users.get(user[0]) != user[1]:
            return web.Answer(401, [("Content-Type", "application/json")],
                              b'{"details": "incorrect username or password"}')
        access = []
        for scope in " ".join(query.get("scope", [])).split():
            kind, name, actions = scope.split(":")
            if user and (self.readers is None or user[0] in self.readers):
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        text = self.sign(user[0] if user else "", access)
        return web.Answer(200, [("Content-Type", "application/json")],
                          json.dumps({"token": text, "expires_in": 300}).encode())

    def sign(self, subject, access):
        now = int(time.time())
        parts = [{"typ": "JWT", "alg": "RS256", "x5c": self.chain},
                 {"iss": "tokens", "sub": subject, "aud": self.service, "exp": now + 300,
                  "nbf": now - 60, "iat": now - 60, "jti": secrets.token_hex(8), "access": access}]
        text = ".".join(self.base64(json.dumps(part).encode()) for part in parts)
        signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], check=True,
                                input=text.encode(), stdout=subprocess.PIPE).stdout
        return text + "." + self.base64(signed)

    @staticmethod
    def base64(data):
        return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Registry:
    """Debian's docker-registry on folders of its own; auth: None, "basic" or "token"."""

    def __init__(self, auth=None, users=None, redirect=False):
        self.users = users or {}
        self.dir = tempfile.mkdtemp(prefix="vmm-registry-")
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.tokens = TokenServer(self.dir, self.host, self.users) if auth == "token" else None
        config = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": False}, "level": "info"},
            "storage": {"filesystem": {"rootdirectory": os.path.join(self.dir, "data")},
                        "delete": {"enabled": True}, "redirect": {"disable": not redirect}},
            "http": {"addr": self.host, "secret": secrets.token_hex(16)},
        }
        if auth == "basic":
            config["auth"] = {"htpasswd": {"realm": "test", "path": self.htpasswd()}}
        elif auth == "token":
            config["auth"] = {"token": {
                "realm": self.tokens.server.url("/token"), "service": self.host,
                "issuer": "tokens", "rootcertbundle": self.tokens.bundle}}
        path = os.path.join(self.dir, "config.yml")
        with open(path, "w", encoding="ascii") as file:
            json.dump(config, file)  # every JSON text is a YAML text
        self.log_path = os.path.join(self.dir, "log")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", path], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("docker-registry does not listen: " + self.log()) from None
                time.sleep(0.02)

    def htpasswd(self):
        path = os.path.join(self.dir, "htpasswd")
        for number, (user, password) in enumerate(self.users.items()):
            subprocess.run(["htpasswd", "-iB" + ("c" if number == 0 else ""), "-C", "4", path,
                            user], input=password.encode(), check=True, stderr=subprocess.DEVNULL)
        return path

    def ref(self, name):
        return f"oci://{self.host}/{name}"

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def requests(self, method, path_part):
        """How many requests of that method were answered for paths with path_part in them."""
        return len(re.findall(rf'"{method} [^ "]*{re.escape(path_part)}[^ "]* HTTP', self.log()))

    # -- putting things there, by plain HTTP calls --

    def call(self, method, path, data=None, headers=(), actions="pull,push"):
        request = urllib.request.Request(f"http://{self.host}{path}" if path.startswith("/") else
                                         path, data=data, method=method)
        for name, value in headers:
            request.add_header(name, value)
        if self.tokens:
            repository = request.full_url.split("/v2/")[1].rsplit("/manifests/")[0]
            repository = repository.split("/blobs/")[0]
            access = [{"type": "repository", "name": repository, "actions": actions.split(",")}]
            request.add_header("Authorization", "Bearer " + self.tokens.sign("test", access))
        elif self.users:
            user, password = next(iter(self.users.items()))
            login = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_header("Authorization", "Basic " + login)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()

    def put_blob(self, repository, data):
        _, headers, _ = self.call("POST", f"/v2/{repository}/blobs/uploads/", b"")
        place = headers["Location"]
        place += ("&" if "?" in place else "?") + "digest=" + urllib.parse.quote(sha256(data))
        self.call("PUT", place, data, [("Content-Type", OCTETS)])
        return sha256(data)

    def put_manifest(self, repository, tag, text):
        media_type = json.loads(text)["mediaType"]
        self.call("PUT", f"/v2/{repository}/manifests/{tag}", text,
                  [("Content-Type", media_type)])
        return sha256(text)

    def put_image(self, repository, tag, data, media_type=QCOW2_LAYER, **more):
        """One disk as one layer; returns the manifest's digest."""
        self.put_blob(repository, EMPTY)
        self.put_blob(repository, data)
        return self.put_manifest(repository, tag, manifest([(data, media_type)], **more))

    def get(self, repository, what, kind="manifests"):
        _, _, body = self.call("GET", f"/v2/{repository}/{kind}/{what}", None,
                               [("Accept", f"{MANIFEST}, {INDEX}")])
        return body

    def close(self):
        self.process.terminate()
        self.process.wait()
        if self.tokens:
            self.tokens.server.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Hostile:
    """A registry in which each answer can be another lie: set what shall be served in `manifests`
    ((repository, reference) -> bytes or Answer) and `blobs` (digest -> bytes, File or Answer), or
    pages on `server` itself, which go first."""

    def __init__(self):
        self.server = web.Server()
        self.host = f"127.0.0.1:{self.server.port}"
        self.manifests, self.blobs = {}, {}
        self.server.on("/v2/", web.Answer(200, [("Content-Type", "application/json")], b"{}"))
        self.server.on("/v2/*", self.answer)

    def ref(self, name):
        return f"oci://{self.host}/{name}"

    def put_image(self, repository, tag, data, media_type=QCOW2_LAYER, text=None):
        text = text or manifest([(data, media_type)])
        self.manifests[repository, tag] = self.manifests[repository, sha256(text)] = text
        self.blobs[sha256(data)] = data
        self.blobs[sha256(EMPTY)] = EMPTY
        return sha256(text)

    def answer(self, request):
        repository, kind, name = request.path.removeprefix("/v2/").rsplit("/", 2)
        if kind == "manifests":
            found = self.manifests.get((repository, name))
            headers = [("Docker-Content-Digest", sha256(found)),
                       ("Content-Type", json.loads(found).get("mediaType", MANIFEST))] \
                if isinstance(found, bytes) and found[:1] == b"{" else []
        else:
            found = self.blobs.get(name)
            headers = [("Content-Type", OCTETS)]
        if found is None:
            text = {"errors": [{"code": kind.upper()[:-1] + "_UNKNOWN", "message": "not here"}]}
            return web.Answer(404, [("Content-Type", "application/json")],
                              json.dumps(text).encode())
        return found if isinstance(found, web.Answer) else web.Answer(200, headers, found)

    def close(self):
        self.server.close()
