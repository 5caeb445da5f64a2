"""Validates what lethe printed against docs/reference/output.schema.json.

usage: validate_output.py SCHEMA <LINES

Each line of stdin is {"definition": NAME, "command": TEXT, "value": OBJECT}. The value has to be what the schema's
$defs/NAME describes, or a failure. Keys that the schema does not name are wrong here: a new key belongs in the schema.
Prints what is wrong, a line each, and which definitions no value was of.
"""

import json
import sys

import jsonschema_rs


def closed(schema):
    """The same, with objects that have no other keys than the named ones."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        result.setdefault("additionalProperties", False)
    return result


schema = json.load(open(sys.argv[1]))
jsonschema_rs.meta.validate(schema)
definitions = closed(schema["$defs"])
seen = set()
for line in sys.stdin:
    case = json.loads(line)
    name, value = case["definition"], case["value"]
    chosen = "failure" if name != "failure" and set(value) == {"status", "error"} else name
    seen.add(chosen)
    validator = jsonschema_rs.validator_for({"$ref": f"#/$defs/{chosen}", "$defs": definitions})
    for error in validator.iter_errors(value):
        print(f"{case['command']}: {'/'.join(map(str, error.instance_path))}: {error.message}")
parts = {"error", "left_out", "stopped", "set_aside", "refused", "unfit", "run_report", "job"}
for name in sorted(set(definitions) - seen - parts):
    print(f"no output of {name} was looked at")
