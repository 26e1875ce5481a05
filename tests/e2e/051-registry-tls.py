#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""vmm-fetch against registries elsewhere: by TLS, through a proxy that leads back to this host."""

import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fake"))

import registry as fake
import tls
import web
from fetcher import fetch
from harness import check, contains, equal, run

DISK = b"QFI\xfb" + bytes(range(256)) * 3000
FAR, HUB, TOKENS, STORE = ("registry.test", "registry-1.docker.io", "tokens.test", "store.test")

folder = tempfile.TemporaryDirectory()
certificate = tls.make_certificate(folder.name, FAR, HUB, TOKENS, STORE)


class Far:
    """A registry, a token server and a store of blobs, each under its own name."""

    def __init__(self, name=FAR, login="me"):
        self.registry, self.tokens, self.store = (web.Server(certificate=certificate)
                                                  for _ in range(3))
        self.proxy = tls.Proxy({f"{name}:443": self.registry.port,
                                f"{TOKENS}:443": self.tokens.port,
                                f"{STORE}:443": self.store.port})
        self.realm, self.login = f"https://{TOKENS}/token", login
        text = fake.manifest([(DISK, fake.QCOW2_LAYER)])
        self.digest, self.blob = fake.sha256(text), fake.sha256(DISK)
        self.store.on("/blob", web.Answer(200, [], DISK))
        self.tokens.on("/token", self.token)
        self.guard("/v2/team/disk/manifests/v1", web.Answer(200, [], text))
        self.guard("/v2/team/disk/blobs/" + self.blob,
                   web.Answer(307, [("Location", f"https://{STORE}/blob")]))
        self.registry.on("/v2/", self.question)

    def question(self, _=None):
        return web.Answer(401, [("WWW-Authenticate", f'Bearer realm="{self.realm}",service="it"')])

    def guard(self, path, answer):
        self.registry.on(path, lambda request: answer if request["authorization"] == "Bearer good"
                         else self.question())

    def token(self, request):
        if self.login and request.basic() != (self.login, "secret"):
            return web.Answer(401)
        return web.Answer(200, [], json.dumps({"token": "good"}).encode())

    def fetch(self, host=FAR, auth=None, **order):
        return fetch(registry=host, repository="team/disk", env={"SSL_CERT_FILE": certificate[0]},
                     auth={"https_proxy": self.proxy.url, "http_proxy": self.proxy.url,
                           "hosts": [{"for": host, "username": "me", "password": "secret"}],
                           **(auth or {})}, **order)

    def close(self):
        for part in (self.proxy, self.registry, self.tokens, self.store):
            part.close()


def failed(got, error, *parts):
    equal(got.last.get("event"), "failed", got.events)
    equal(got.last["error"], error, got.last)
    for part in parts:
        contains(got.last["message"], part)


def with_far(case):
    def run_case():
        far = Far()
        try:
            case(far)
        finally:
            far.close()
    return run_case


@with_far
def test_a_pull_with_each_party_elsewhere(far):
    got = far.fetch(work="manifest", tag="v1")
    equal(got.last.get("manifest_digest"), far.digest, got.events)
    got = far.fetch(work="blob", digest=far.blob, blob_bytes=len(DISK))
    check(got.image == DISK, got.events)
    equal([r["authorization"] for r in far.store.requests], [None])
    check(all(r.basic() is None for r in far.registry.requests), "the password went to the registry")
    equal({r.basic() for r in far.tokens.requests}, {("me", "secret")})
    equal(far.tokens.requests[0].query, "service=it&scope=repository%3Ateam%2Fdisk%3Apull")


def test_docker_io_is_where_it_is():
    far = Far(HUB)
    got = far.fetch("index.docker.io", work="manifest", tag="v1")
    equal(got.last.get("manifest_digest"), far.digest, got.events)
    far.close()


@with_far
def test_realms_that_a_registry_elsewhere_can_not_name(far):
    local = web.Server()
    for realm in (f"http://{TOKENS}/token", f"http://{FAR}/token", local.url("/token"),
                  f"https://127.0.0.1:{local.port}/token", f"http://localhost:{local.port}/token",
                  f"http://[::1]:{local.port}/token"):
        far.realm = realm
        failed(far.fetch(work="manifest", tag="v1"), "permission_denied", "asks for a token of")
    equal(local.requests, [])
    equal(far.tokens.requests, [])
    check({place for _, place in far.proxy.asked} == {f"{FAR}:443"}, far.proxy.asked)
    local.close()


@with_far
def test_a_registry_elsewhere_can_not_lead_out_of_tls(far):
    local = web.Server()
    local.on("/blob", web.Answer(200, [], DISK))
    for place in (local.url("/blob"), f"http://{STORE}/blob"):
        far.guard("/v2/team/disk/blobs/" + far.blob, web.Answer(307, [("Location", place)]))
        failed(far.fetch(work="blob", digest=far.blob, blob_bytes=len(DISK)), "failed",
               "not encrypted")
    equal(local.requests, [])
    # Nor an upload.
    far.guard("/v2/team/disk/manifests/v1", web.Answer(404))
    far.guard("/v2/team/disk/blobs/" + far.blob, web.Answer(404))
    far.guard("/v2/team/disk/blobs/uploads/", web.Answer(202, [("Location", local.url("/up"))]))
    failed(far.fetch(image=DISK, work="push", tag="v1", media_type=fake.QCOW2_LAYER), "failed",
           "where to upload")
    equal(local.requests, [])
    local.close()


@with_far
def test_a_registry_that_can_not_prove_who_it_is(far):
    far.proxy.places["else.test:443"] = far.registry.port
    failed(far.fetch("else.test", work="manifest", tag="v1"), "failed", "prove who it is")
    equal(far.registry.requests, [])


run(globals())
