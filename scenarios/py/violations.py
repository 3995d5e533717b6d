"""Every constraint of every served member, violated once: requests and the errors that they must get.

Made from the published models as the tables are (`crates/flint-wire/models`), and by a reading of the constraints of
its own, so that the two can disagree.
"""

import base64
import itertools
import json
import re
import urllib.parse
from pathlib import Path

MODELS = Path(__file__).parents[2] / "crates/flint-wire/models"
SERVICES = ("flint", "iam", "lambda", "logs", "sts")

# Longer values in messages are cut.
SHOWN = 1024
# What is longer than this can't be sent in the place where it belongs, or not within the operation's body limit.
LARGEST = {"body": 800_000, "querystring": 4_000, "uri": 4_000, "header": 4_000}

# Texts that patterns may ask for; the first that fits is taken.
SAMPLES = (
    "name", "1", "$LATEST", "ALL", "us-east-1", "/", "/a/", "arn:aws:iam::000000000000:role/r",
    "arn:aws:lambda:us-east-1:000000000000:function:f", "arn:aws:lambda:us-east-1:000000000000:layer:l:1",
    "arn:aws:logs:us-east-1:000000000000:log-group:g", "arn:aws:iam::aws:policy/ReadOnlyAccess",
)
# Texts that patterns may refuse.
MISFITS = ("a b", "!", "a b c!", "\u00e9", "*", "?", "12", "\t")

MISSING = object()


def load():
    overlay = json.loads((MODELS / "overlay.json").read_text())
    return [Service(name, json.loads((MODELS / f"{name}.json").read_text()), overlay[name]) for name in SERVICES]


class Case:
    """One request that breaks one rule."""

    def __init__(self, service, operation, what, request, status, code, message):
        self.service, self.operation, self.what = service, operation, what
        self.request = request  # (method, path, headers, body)
        self.status, self.code, self.message = status, code, message

    @property
    def id(self):
        return f"{self.service.name}.{self.operation} {self.what}"


class Service:
    def __init__(self, name, model, overlay):
        self.name, self.model, self.overlay = name, model, overlay
        self.shapes = model["shapes"]
        self.protocol = overlay["protocol"]

    @property
    def signing_name(self):
        metadata = self.model["metadata"]
        return metadata.get("signingName") or metadata["endpointPrefix"]

    def operations(self):
        """The operations whose shapes we carry."""
        return [name for name, o in sorted(self.model["operations"].items()) if "input" in o]

    # --- shapes

    def shape(self, name):
        """The shape with the overlay's changes."""
        shape = dict(self.shapes[name])
        shape["name"] = name
        shape.update(self.overlay.get("bounds", {}).get(name, {}))
        if name in self.overlay.get("free", []):
            shape.pop("enum", None)
        return shape

    def honours(self, structure, member):
        served = self.overlay.get("served", {}).get(structure, [])
        return served == "*" or member in served

    def member(self, reference):
        """The least value of a member that a request shows: an empty list in a query string is none."""
        value = self.valid(reference["shape"])
        if value == [] and reference.get("location") == "querystring":
            value = [self.valid(self.shapes[reference["shape"]]["member"]["shape"])]
        return value

    def valid(self, name):
        """The least value that satisfies a shape."""
        shape = self.shape(name)
        kind = shape["type"]
        if kind == "structure":
            required = sorted(m for m in shape.get("required", []) if self.honours(name, m))
            return {m: self.member(shape["members"][m]) for m in required}
        if kind == "list":
            return [self.valid(shape["member"]["shape"]) for _ in range(shape.get("min", 0))]
        if kind == "map":
            return {}
        if kind == "string":
            return self.text(shape)
        if kind in ("integer", "long", "double", "float"):
            return max(shape.get("min", 1), 0)
        if kind == "boolean":
            return False
        if kind == "timestamp":
            return 1_700_000_000
        assert kind == "blob", kind
        return b"PK"

    def text(self, shape, length=None):
        """A legal text, of `length` characters if that is possible and asked for."""
        if "enum" in shape:
            return shape["enum"][0]
        low = shape.get("min", 0)
        for sample in SAMPLES:
            for candidate in (sample, sample + "x" * (low - len(sample)), sample + "1" * (low - len(sample))):
                if low <= len(candidate) <= shape.get("max", 1 << 30) and fits(shape, candidate):
                    return candidate
        raise AssertionError(f"no sample for {shape}")

    # --- the rules

    def broken(self, shape, value):
        """The rules of a shape that a value breaks, in the order in which they are told."""
        found = []
        size = value if isinstance(value, (int, float)) else len(value)
        bounds = constraints_of_size(shape)
        if "max" in shape and size > shape["max"]:
            found.append(bounds[0])
        if "min" in shape and size < shape["min"]:
            found.append(bounds[-1])
        if isinstance(value, str):
            if not fits(shape, value):
                found.append(pattern_rule(shape))
            if "enum" in shape and value not in shape["enum"]:
                found.append(enum_rule(shape))
        return found

    def all_rules(self, shape):
        """Every rule of an item of a list or map."""
        rules = constraints_of_size(shape)
        if "pattern" in shape:
            rules.append(pattern_rule(shape))
        if "enum" in shape:
            rules.append(enum_rule(shape))
        return ", ".join(rules) or "Member must not be null"

    def bad_values(self, shape):
        """(what, value) for each rule of a scalar shape."""
        kind = shape["type"]
        if kind in ("integer", "long"):
            if "max" in shape:
                yield "above the maximum", shape["max"] + 1
            if "min" in shape:
                yield "below the minimum", shape["min"] - 1
        if kind == "string":
            if "max" in shape and "enum" not in shape:
                yield "too long", self.long_text(shape)
            if shape.get("min", 0) > 0 and "enum" not in shape:
                yield "too short", self.text({**shape, "min": 0})[: shape["min"] - 1]
            if "pattern" in shape:
                misfit = next((m for m in self.misfits(shape) if not fits(shape, m)), None)
                if misfit is not None:
                    yield "against the pattern", misfit
            if "enum" in shape:
                yield "not of the set", "NoneOfThese"
        if kind == "blob":
            if "max" in shape and shape["max"] < 100_000:
                yield "too long", b"x" * (shape["max"] + 1)
            if shape.get("min", 0) > 0:
                yield "too short", b""

    def long_text(self, shape):
        wanted = shape["max"] + 1
        base = self.text(shape)
        for filler in ("x", "1", "/"):
            longer = base + filler * (wanted - len(base))
            if fits(shape, longer):
                return longer
        return base + "x" * (wanted - len(base))

    def misfits(self, shape):
        low, high = shape.get("min", 0), shape.get("max", 1 << 30)
        for misfit in MISFITS:
            longer = misfit + "!" * (low - len(misfit))
            if len(longer) <= high:
                yield longer

    # --- cases

    def cases(self, operation):
        """Every case of an operation."""
        name = self.model["operations"][operation]["input"]["shape"]
        yield from self.of_structure(operation, name, [], name)

    def of_structure(self, operation, name, path, top):
        shape = self.shape(name)
        required = shape.get("required", [])
        for member, reference in sorted(shape["members"].items()):
            here = [*path, member]
            inner = self.shape(reference["shape"])
            if not self.honours(name, member):
                yield from self.refused(operation, here, inner, top)
                continue
            place = reference.get("location") or ("payload" if shape.get("payload") == member else "body")
            if member in required and place not in ("uri", "payload"):
                yield self.case(operation, here, "missing", MISSING, [("Value null", here, "Member must not be null")])
            if place == "body" and self.protocol != "query":
                yield from self.of_type(operation, here, inner)
            elif inner["type"] in ("integer", "long", "boolean") and all(isinstance(p, str) for p in here):
                yield from self.of_text(operation, here, inner)
            yield from self.of_value(operation, inner, here, place, top)

    def of_value(self, operation, shape, path, place, top):
        kind = shape["type"]
        for what, value in self.bad_values(shape):
            if not sendable(place, value):
                continue
            told = [(show(shape, value), path, rule) for rule in self.broken(shape, value)]
            yield self.case(operation, path, what, value, told)
        if kind == "structure":
            yield from self.of_structure(operation, shape["name"], path, top)
        elif kind == "list":
            yield from self.of_list(operation, shape, path, place, top)
        elif kind == "map":
            yield from self.of_map(operation, shape, path)

    def of_list(self, operation, shape, path, place, top):
        item = self.shape(shape["member"]["shape"])
        good = self.valid(item["name"])
        sensitive = {**shape, "sensitive": shape.get("sensitive") or item.get("sensitive")}
        for what, count in (("too many", shape.get("max", -2) + 1), ("too few", shape.get("min", 0) - 1)):
            if count >= 0 and (count or place == "body"):
                value = [good] * count
                if sendable(place, json.dumps(value, default=str)):
                    told = [(show(sensitive, value), path, rule) for rule in self.broken(shape, value)]
                    yield self.case(operation, path, what, value, told)
        if item["type"] == "structure":
            yield from self.of_structure(operation, item["name"], [*path, 1], top)
        elif item["type"] not in ("list", "map"):
            for what, bad in self.bad_values(item):
                value = [bad]
                rule = f"Member must satisfy constraint: [{self.all_rules(item)}]"
                if sendable(place, bad):
                    yield self.case(operation, path, f"an item {what}", value, [(show(sensitive, value), path, rule)])

    def of_map(self, operation, shape, path):
        key, value = self.shape(shape["key"]["shape"]), self.shape(shape["value"]["shape"])
        sensitive = {**shape, "sensitive": any(s.get("sensitive") for s in (shape, key, value))}
        good_key = self.text(key)
        if value["type"] in ("structure", "list", "map"):
            return
        good_value = self.valid(value["name"])
        if "max" in shape and shape["max"] < 10_000:
            pairs = {f"{good_key}{n}": good_value for n in range(shape["max"] + 1)}
            told = [(show(sensitive, pairs), path, rule) for rule in self.broken(shape, pairs)]
            yield self.case(operation, path, "too many entries", pairs, told)
        for what, bad in self.bad_values(key):
            rule = f"Map keys must satisfy constraint: [{self.all_rules(key)}]"
            pairs = {bad: good_value}
            yield self.case(operation, path, f"a key {what}", pairs, [(show(sensitive, pairs), path, rule)])
        for what, bad in self.bad_values(value):
            rule = f"Map value must satisfy constraint: [{self.all_rules(value)}]"
            pairs = {good_key: bad}
            yield self.case(operation, path, f"a value {what}", pairs, [(show(sensitive, pairs), path, rule)])

    def of_type(self, operation, path, shape):
        """A value of another JSON type."""
        names = {
            "string": "a String", "blob": "a Blob", "boolean": "a Boolean", "integer": "an Integer", "long": "a Long",
            "double": "a Double", "timestamp": "a Timestamp",
        }
        kind = shape["type"]
        if kind == "structure":
            bad, message = 5, "Unexpected value type in payload"
        elif kind in ("list", "map"):
            bad, message = 5, "Unexpected value type in payload"
        elif kind in ("string", "blob"):
            bad, message = 5, f"NUMBER_VALUE can not be converted to {names[kind]}"
        else:
            bad, message = "text", f"STRING_VALUE can not be converted to {names[kind]}"
        request = self.request(operation, self.placed(operation, path, bad))
        yield Case(self, operation, f"{dotted(path)} of another type", request, 400, "SerializationException", message)

    def of_text(self, operation, path, shape):
        """A text that is no number or truth, where values travel as text."""
        wanted = "a Boolean" if shape["type"] == "boolean" else "an Integer"
        code = self.overlay["malformed_code"] if self.protocol == "query" else "SerializationException"
        message = f"STRING_VALUE can not be converted to {wanted}"
        request = self.request(operation, self.placed(operation, path, "text"))
        yield Case(self, operation, f"{dotted(path)} of another type", request, 400, code, message)

    def refused(self, operation, path, shape, top):
        """A member that we do not honour, set to something that is no default."""
        names = [p for p in path if isinstance(p, str)]
        accepted = [v for values in self.overlay.get("accepts", {}).values() for v in values]
        value, deeper = self.telling(shape, set(accepted))
        if value is None:
            return
        message = f"not served: {self.name}.{operation}: {'.'.join([*names, *deeper])}"
        request = self.request(operation, self.placed(operation, path, value))
        yield Case(self, operation, f"{dotted(path)} is not served", request, 501, "NotImplemented", message)

    def telling(self, shape, accepted):
        """A value beyond any default, and the path below the member that is told for it."""
        kind = shape["type"]
        if kind == "structure":
            for member, reference in sorted(shape["members"].items()):
                value, deeper = self.telling(self.shape(reference["shape"]), accepted)
                if value is not None:
                    return {member: value}, [member, *deeper]
            return None, []
        if kind == "list":
            item = self.shape(shape["member"]["shape"])
            value, _ = self.telling(item, accepted)
            return (None, []) if value is None else ([value], [])
        if kind == "map":
            return None, []
        if kind == "string":
            for candidate in (*shape.get("enum", [])[::-1], "beyond-any-default"):
                if candidate not in accepted:
                    return candidate, []
        if kind in ("integer", "long"):
            return next(n for n in itertools.count(max(shape.get("min", 0), 1)) if str(n) not in accepted), []
        return {"boolean": True, "blob": b"x", "timestamp": 1}.get(kind), []

    def case(self, operation, path, what, value, told):
        noun = "error" if len(told) == 1 else "errors"
        lines = [f"{shown} at '{dotted(where)}' failed to satisfy constraint: {rule}" for shown, where, rule in told]
        assert lines, (operation, path, what, value)
        message = f"{len(lines)} validation {noun} detected: " + "; ".join(lines)
        request = self.request(operation, self.placed(operation, path, value))
        return Case(self, operation, f"{dotted(path)} {what}", request, 400, self.overlay["invalid_code"], message)

    # --- requests

    def placed(self, operation, path, value):
        """The least legal request with `value` at `path`; a number in the path is the only item of a list."""
        top = self.model["operations"][operation]["input"]["shape"]
        document = self.valid(top)
        here, name = document, top
        for step, after in zip(path[:-1], path[1:]):
            if step == 1:
                name = self.shapes[name]["member"]["shape"]
                here = here[0]
                continue
            name = self.shapes[name]["members"][step]["shape"]
            if not here.get(step):
                here[step] = [self.valid(self.shapes[name]["member"]["shape"])] if after == 1 else self.valid(name)
            here = here[step]
        if value is MISSING:
            here.pop(path[-1], None)
        else:
            here[path[-1]] = value
        return document

    def request(self, operation, document):
        return getattr(self, {"rest-json": "rest", "query": "form"}.get(self.protocol, "json"))(operation, document)

    def json(self, operation, document):
        version = self.protocol.removeprefix("json-")
        headers = {
            "Content-Type": f"application/x-amz-json-{version}",
            "X-Amz-Target": f"{self.model['metadata']['targetPrefix']}.{operation}",
        }
        return "POST", "/", headers, encode(document)

    def form(self, operation, document):
        pairs = [("Action", operation), ("Version", self.model["metadata"]["apiVersion"])]

        def add(prefix, value):
            if isinstance(value, dict):
                for name, inner in value.items():
                    add(f"{prefix}.{name}" if prefix else name, inner)
            elif isinstance(value, list):
                if not value:
                    pairs.append((prefix, ""))
                for number, inner in enumerate(value, 1):
                    add(f"{prefix}.member.{number}", inner)
            else:
                pairs.append((prefix, str(value).lower() if isinstance(value, bool) else value))

        add("", document)
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        return "POST", "/", headers, urllib.parse.urlencode(pairs).encode()

    def rest(self, operation, document):
        model = self.model["operations"][operation]
        shape = self.shapes[model["input"]["shape"]]
        uri, headers, body, query = model["http"]["requestUri"], {}, {}, []
        uri, _, literal = uri.partition("?")
        payload = b""
        for name, value in document.items():
            member = shape["members"][name]
            wire = member.get("locationName", name)
            match member.get("location"):
                case "uri":
                    uri = uri.replace("{%s}" % wire, urllib.parse.quote(str(value), safe=""))
                case "querystring":
                    query += [(wire, v) for v in (value if isinstance(value, list) else [value])]
                case "header":
                    headers[wire] = str(value)
                case _ if shape.get("payload") == name:
                    payload = value
                case _:
                    body[wire] = value
        text = "&".join(filter(None, [literal, urllib.parse.urlencode(query, quote_via=urllib.parse.quote)]))
        if body:
            payload = encode(body)
            headers["Content-Type"] = "application/json"
        elif model["http"]["method"] in ("POST", "PUT") and "payload" not in shape:
            payload = b"{}"
        return model["http"]["method"], uri + ("?" + text if text else ""), headers, payload


def encode(document):
    return json.dumps(document, default=lambda b: base64.b64encode(b).decode()).encode()


def sendable(place, value):
    place = "body" if place == "payload" else place
    if not isinstance(value, (str, bytes)):
        return True
    if len(value) > LARGEST[place]:
        return False
    # An empty label is another path, and an empty header is none; neither carries control characters.
    return place in ("body", "querystring") or (len(value) > 0 and str(value).isascii() and str(value).isprintable())


def fits(shape, text):
    pattern = shape.get("pattern")
    return pattern is None or re.fullmatch(python_pattern(pattern), text) is not None


def python_pattern(pattern):
    """The models are written for a Java engine."""
    text = pattern.replace(r"\p{L}\p{Z}\p{N}", r"\w \-").replace(r"\u10000-\u10FFFF", "")
    assert r"\p" not in text, pattern
    text = re.sub(r"\[a-zA-Z0-9-_", r"[a-zA-Z0-9\\-_", text)
    # Java's \w is ASCII.
    return "(?a)" + text if r"\p" not in pattern else text


def constraints_of_size(shape):
    what = "value" if shape["type"] in ("integer", "long", "double", "float") else "length"
    rules = []
    if "max" in shape:
        rules.append(f"Member must have {what} less than or equal to {shape['max']}")
    if "min" in shape:
        rules.append(f"Member must have {what} greater than or equal to {shape['min']}")
    return rules


def pattern_rule(shape):
    return f"Member must satisfy regular expression pattern: {shape['pattern']}"


def enum_rule(shape):
    return f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]"


def show(shape, value):
    if shape.get("sensitive") or shape["type"] == "blob":
        return "Value"
    text = plain(value)
    raw = text.encode()
    if len(raw) > SHOWN:
        text = raw[:SHOWN].decode(errors="ignore") + "..."
    return f"Value '{text}'"


def plain(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}={plain(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(plain(v) for v in value[:SHOWN]) + "]"
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def dotted(path):
    """`Tags.1.Key` as the messages say it: `tags.1.member.key`."""
    return ".".join(f"{p}.member" if isinstance(p, int) else p[:1].lower() + p[1:] for p in path)
