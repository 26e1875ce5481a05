#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Checks recorded exchanges with a propolis-server against its own description of the API.

    openapi.py EXCHANGES.jsonl...

The description is the OpenAPI file of the api-version that the request carried, from
$VMM_SHARED/propolis (default: ../shared beside the tree).  Without that folder nothing is checked,
and said so.  Rows of our own (exchange_rows.py) need no such files.
"""

import json
import os
import re
import sys
import urllib.parse

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
BITS = {"uint8": 8, "uint32": 32, "uint64": 64, "uint": 64}
KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
# What the files have; another word means that this program does not know what it reads.
CHECKED = {"type", "properties", "required", "additionalProperties", "items", "minItems",
           "maxItems", "uniqueItems", "enum", "minimum", "format", "nullable", "allOf", "anyOf",
           "oneOf", "$ref"}
SAID = {"description", "title", "default"}
NOT_CHECKED = "NOT CHECKED: schema"


def shared():
    return os.environ.get("VMM_SHARED") or os.path.join(os.path.dirname(TREE), "shared")


class Document:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.document = json.load(file)

    def follow(self, value):
        while "$ref" in value:
            found = self.document
            for part in value["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            value = found
        return value

    # Values

    def problems(self, schema, value, at="it"):
        schema = self.follow(schema)
        found = [f"{at}: the schema says {name}" for name in schema.keys() - CHECKED - SAID]
        if value is None and (schema.get("nullable") or None in schema.get("enum", ())):
            return found
        for part in schema.get("allOf", ()):
            found += self.problems(part, value, at)
        # The kinds of a key (a UUID or a name) overlap: one of them is at least one of them.
        choices = schema.get("oneOf") or schema.get("anyOf")
        if choices:
            found += self.choose(choices, value, at)
        kind = schema.get("type")
        if kind and (not isinstance(value, KINDS[kind])
                     or (kind == "integer" and isinstance(value, bool))):
            return found + [f"{at}: {value!r:.60} is no {kind}"]
        if "enum" in schema and value not in schema["enum"]:
            found.append(f"{at}: {value!r:.60} is none of {schema['enum']}")
        return found + getattr(self, f"of_{kind}", self.of_nothing)(schema, value, at)

    def choose(self, choices, value, at):
        """The problems of the choice that was meant, by its members with one possible value."""
        tried = [(choice, self.problems(choice, value, at)) for choice in choices]
        if any(not found for _, found in tried):
            return []
        for choice, found in tried:
            rows = self.follow(choice).get("properties", {})
            tags = [name for name, row in rows.items() if len(row.get("enum", ())) == 1]
            if tags and isinstance(value, dict) and all(
                    value.get(name) in rows[name]["enum"] for name in tags):
                return found
        return [f"{at}: {value!r:.60} is none of {len(tried)} choices"]

    @staticmethod
    def of_nothing(*_):
        return []

    def of_object(self, schema, value, at):
        rows = schema.get("properties", {})
        found = [f"{at}.{name}: missing" for name in schema.get("required", ())
                 if name not in value]
        more = schema.get("additionalProperties", {})
        for name, member in value.items():
            if name in rows:
                found += self.problems(rows[name], member, f"{at}.{name}")
            elif more is False:
                found.append(f"{at}.{name}: unknown")
            elif more:
                found += self.problems(more, member, f"{at}.{name}")
        return found

    def of_array(self, schema, value, at):
        found = []
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{at}: has {len(value)} items")
        if schema.get("uniqueItems") and len({json.dumps(item) for item in value}) < len(value):
            found.append(f"{at}: has an item twice")
        for n, item in enumerate(value):
            found += self.problems(schema.get("items", {}), item, f"{at}[{n}]")
        return found

    @staticmethod
    def of_integer(schema, value, at):
        bits = BITS.get(schema.get("format"))
        if value < schema.get("minimum", value) or (bits and not 0 <= value < 1 << bits):
            return [f"{at}: {value} is out of bounds"]
        return []

    @staticmethod
    def of_string(schema, value, at):
        if schema.get("format") == "uuid" and not UUID.fullmatch(value):
            return [f"{at}: {value!r:.60} is no UUID"]
        return []

    # Exchanges

    def operation(self, method, path):
        """Returns it and the values in the path, or None."""
        for pattern, methods in self.document["paths"].items():
            names = re.findall(r"\{(\w+)\}", pattern)
            match = re.fullmatch(re.sub(r"\{\w+\}", "([^/]+)", pattern), path)
            if match and method.lower() in methods:
                return methods[method.lower()], dict(zip(names, match.groups()))
        return None

    def request_problems(self, exchange):
        url = urllib.parse.urlsplit(exchange["path"])
        found = self.operation(exchange["method"], url.path)
        if not found:
            return [f"{exchange['method']} {url.path}: not in the API"]
        operation, values = found
        problems = []
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        for row in operation.get("parameters", ()):
            value = (values if row["in"] == "path" else query).pop(row["name"], None)
            if value is None:
                problems += [f"{row['name']}: missing"] if row.get("required") else []
                continue
            if self.follow(row["schema"])["type"] == "integer":
                value = int(value) if re.fullmatch("[0-9]+", value) else value
            problems += self.problems(row["schema"], value, row["name"])
        problems += [f"{name}: unknown in the query" for name in query]
        if "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            problems += self.problems(body, exchange["request"], "request")
        elif exchange["request"] is not None:
            problems.append("request: a body where none belongs")
        return problems

    def reply_problems(self, exchange):
        url = urllib.parse.urlsplit(exchange["path"])
        found = self.operation(exchange["method"], url.path)
        status = str(exchange["status"])
        if not found:
            rows = {"4XX": {"$ref": "#/components/responses/Error"}}
        else:
            rows = found[0]["responses"]
        row = rows.get(status) or rows.get(status[0] + "XX") or rows.get("default")
        if row is None:
            return [f"status {status} is not in the API"]
        content = self.follow(row).get("content", {})
        if "*/*" in content:
            return []  # before 4.0.0 nothing is said of a WebSocket's answers
        if "application/json" not in content:
            return [] if exchange["reply"] is None else ["reply: a body where none belongs"]
        return self.problems(content["application/json"]["schema"], exchange["reply"], "reply")


class Api:
    """The files of a folder, each read once."""

    def __init__(self, folder):
        self.folder, self.documents, self.unknown = folder, {}, set()

    def of(self, version):
        if version not in self.documents:
            path = os.path.join(self.folder, f"propolis-server-{version}.openapi.json")
            known = re.fullmatch(r"[0-9.]+", version or "") and os.path.exists(path)
            self.documents[version] = Document(path) if known else None
        return self.documents[version]

    def problems(self, exchange):
        """(of the request, of the reply); None: there is no file for its version."""
        document = self.of(exchange["api_version"])
        if not document:
            self.unknown.add(exchange["api_version"])
            return None
        reply = [] if not exchange["status"] or "fault" in exchange else (
            document.reply_problems(exchange))
        return document.request_problems(exchange), reply


def api():
    """None, and a line that says so, when there are no files."""
    folder = os.path.join(shared(), "propolis")
    if os.path.isdir(folder):
        return Api(folder)
    print(f"# {NOT_CHECKED}")
    return None


def verify(path):
    """The problems of all exchanges in a file, as text."""
    description = api()
    found = []
    if description:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                exchange = json.loads(line)
                both = description.problems(exchange)
                if both is None:
                    both = [f"no file for api-version {exchange['api_version']}"], []
                found += [f"{path}:{number}: {exchange['method']} {exchange['path']}: {problem}"
                          for problem in both[0] + both[1]]
    return found


def main():
    problems = [problem for path in sys.argv[1:] for problem in verify(path)]
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
