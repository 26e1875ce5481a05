# SPDX-License-Identifier: MPL-2.0
"""As much of JSON Schema as rpc.discover uses: checking values, and making good and bad ones."""

import re

NUMBERS = (int, float)
KINDS = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, NUMBERS) and not isinstance(v, bool),
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}
CHECKED = {"type", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems",
           "maxItems", "items", "maxProperties", "propertyNames", "properties", "required",
           "additionalProperties", "allOf", "anyOf", "oneOf", "$ref"}
SAID = {"description", "default", "format", "contentEncoding", "writeOnly", "x-unit"}


class Schemas:
    def __init__(self, document):
        self.document = document

    def follow(self, schema):
        while "$ref" in schema:
            value = self.document
            for part in schema["$ref"].lstrip("#/").split("/"):
                value = value[part]
            schema = value
        return schema

    def problems(self, schema, value, path="it"):
        """What is wrong with the value: a list of texts."""
        schema = self.follow(schema)
        found = [f"{path}: unknown keyword {key}" for key in schema.keys() - CHECKED - SAID]
        kinds = schema.get("type", list(KINDS))
        if not any(KINDS[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
            return found + [f"{path}: {value!r:.80} is no {kinds}"]
        if "enum" in schema and value not in schema["enum"]:
            found.append(f"{path}: {value!r:.80} is none of {schema['enum']}")
        if KINDS["number"](value):
            if value < schema.get("minimum", value) or value > schema.get("maximum", value):
                found.append(f"{path}: {value} is out of bounds")
        elif isinstance(value, str):
            length = len(value)
            if length < schema.get("minLength", 0) or length > schema.get("maxLength", length):
                found.append(f"{path}: is {length} long")
            if "pattern" in schema and not re.search(schema["pattern"], value):
                found.append(f"{path}: {value!r:.80} is not {schema['pattern']}")
            if schema.get("contentEncoding") == "base64" and not re.fullmatch(
                    r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?", value):
                found.append(f"{path}: is not base64")
        elif isinstance(value, list):
            if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
                found.append(f"{path}: has {len(value)} items")
            for n, item in enumerate(value):
                found += self.problems(schema.get("items", {}), item, f"{path}[{n}]")
        elif isinstance(value, dict):
            found += self.member_problems(schema, value, path)
        for word, wanted in (("allOf", None), ("anyOf", 0), ("oneOf", 1)):
            if word in schema:
                fits = [not self.problems(s, value, path) for s in schema[word]]
                good = {None: all(fits), 0: any(fits), 1: sum(fits) == 1}[wanted]
                if not good:
                    found.append(f"{path}: {value!r:.80} fits {sum(fits)} of {word}")
        return found

    def member_problems(self, schema, value, path):
        found = [f"{path}: no member {key}" for key in schema.get("required", []) if key not in value]
        if len(value) > schema.get("maxProperties", len(value)):
            found.append(f"{path}: has {len(value)} members")
        known = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        for key, member in value.items():
            found += self.problems(schema.get("propertyNames", {}), key, f"the name {path}.{key}")
            if key in known:
                found += self.problems(known[key], member, f"{path}.{key}")
            elif others is False:
                found.append(f"{path}: unknown member {key}")
            elif isinstance(others, dict):
                found += self.problems(others, member, f"{path}.{key}")
        return found

    def undescribed(self, schema, value, path="it"):
        """Members, at any depth, that an object's schema says nothing of."""
        schema = self.follow(schema)
        found = []
        if isinstance(value, list) and "items" in schema:
            for item in value:
                found += self.undescribed(schema["items"], item, path + "[]")
        elif isinstance(value, dict) and "properties" in schema:
            for key, member in value.items():
                if key in schema["properties"]:
                    found += self.undescribed(schema["properties"][key], member, f"{path}.{key}")
                else:
                    found.append(f"{path}.{key}")
        return sorted(set(found))

    def good(self, schema):
        """A value that fits; as little of it as will do."""
        schema = self.follow(schema)
        for word in ("allOf", "anyOf", "oneOf"):
            if word in schema:
                return self.good(schema[word][0])
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type")
        if kind == "object":
            return {key: self.good(schema["properties"][key]) for key in schema.get("required", [])}
        if kind == "array":
            return [self.good(schema["items"])] * schema.get("minItems", 0)
        if kind == "string":
            return "a" * max(1, schema.get("minLength", 1))
        if kind == "boolean":
            return False
        return max(schema.get("minimum", 1), 1) if kind in ("integer", "number") else None

    def bad(self, schema):
        """Values that do not fit: of other types, out of bounds, and with a bad part within."""
        candidates = [True, 7, -1, 0.5, "", "no such thing", [], [1], [[]], {}, {"no_such": 1}]
        candidates += self.at_the_bounds(schema)
        return [value for value in candidates if self.problems(schema, value)]

    def at_the_bounds(self, schema):
        schema = self.follow(schema)
        found = []
        for word in ("allOf", "anyOf", "oneOf"):
            for part in schema.get(word, []):
                found += self.at_the_bounds(part)
        if "minimum" in schema:
            least = schema["minimum"]
            found += [least / 2 if isinstance(least, float) and least > 0 else least - 1]
        if schema.get("maximum", 2 ** 64) < 2 ** 64 - 1:
            found += [schema["maximum"] + 1, schema["maximum"] * 1e6, 2 ** 64 - 1]
        if "minLength" in schema and schema["minLength"] > 0:
            found.append("a" * (schema["minLength"] - 1))
        if "maxLength" in schema:
            found.append("a" * (schema["maxLength"] + 1))
        if schema.get("type") == "string":
            found += ["a\x07b", "a\x7fb"] if "enum" not in schema and "pattern" in schema else []
        if "items" in schema:
            found.append([self.good(schema["items"])] * (schema["maxItems"] + 1))
            found += [[value] for value in self.bad(schema["items"])]
        for key, member in schema.get("properties", {}).items():
            found += [dict(self.good(schema), **{key: value}) for value in self.bad(member)]
        if isinstance(schema.get("additionalProperties"), dict):
            found += [{"A": value} for value in self.bad(schema["additionalProperties"])]
            found += [{"0": "a"}, {"A=B": "a"}, {"": "a"}, {f"A{n}": "" for n in range(257)}]
        return found
