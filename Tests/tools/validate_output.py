"""Validates lethe's output against docs/reference/output.schema.json.

usage: validate_output.py SCHEMA <LINES

Each line of stdin is {"definition": NAME, "command": TEXT, "value": OBJECT}. The value must match the schema's
$defs/NAME, or $defs/failure if its only keys are status and error. A key that the schema does not contain is an error,
because a new key must be added to the schema.
Prints each error on a line, and each definition for which there was no value.
"""

import json
import sys

import jsonschema_rs


def closed(schema):
    """Returns the schema with additionalProperties set to false for each object that names its keys."""
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
    print(f"there was no output of {name}")
