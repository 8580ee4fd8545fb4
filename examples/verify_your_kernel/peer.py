"""Two operators in plain Python, for the cases of moe-kernels: calls come from standard input, answers go to standard output."""

import base64
import json
import math
import struct
import sys

LETTERS = {"f32": "f", "i32": "i", "u8": "B", "f16": "e", "bf16": "H"}


def values_of(array):
    data = base64.b64decode(array["data"])
    letter = LETTERS[array["dtype"]]
    return list(struct.unpack(f"<{len(data) // struct.calcsize(letter)}{letter}", data))


def permute(inputs):
    """rows[r] = x[tokenOfRow[r]], or zeros where that is -1."""
    x, width = values_of(inputs["x"]), inputs["x"]["shape"][1]
    rows = []
    for token in values_of(inputs["tokenOfRow"]):
        rows += x[token * width : (token + 1) * width] if token >= 0 else [0] * width
    letter = LETTERS[inputs["outputs"]["rows"]["dtype"]]
    return {"rows": base64.b64encode(struct.pack(f"<{len(rows)}{letter}", *rows)).decode()}


def sgd(inputs):
    """One step of stochastic gradient descent with momentum."""
    if "copy" in inputs["outputs"]:
        return None
    parameter, velocity = values_of(inputs["parameter"]), values_of(inputs["velocity"])
    factor = 1
    if "squaredNorm" in inputs:
        factor = min(1, inputs["maxNorm"] / (math.sqrt(values_of(inputs["squaredNorm"])[0]) + 1e-6))
    for i, gradient in enumerate(values_of(inputs["gradient"])):
        step = factor * gradient + inputs["weightDecay"] * parameter[i]
        if velocity:
            velocity[i] = inputs["momentum"] * velocity[i] + step
            step = step + inputs["momentum"] * velocity[i] if inputs["nesterov"] else velocity[i]
        parameter[i] -= inputs["learningRate"] * step
    return {"parameter": parameter, "velocity": velocity}  # lists of numbers instead of bytes


OPERATORS = {"permute": permute, "sgd": sgd}
print(json.dumps({"name": "plain Python", "operators": list(OPERATORS)}), flush=True)
for line in sys.stdin:
    call = json.loads(line)
    try:
        outputs = OPERATORS[call["operator"]](call["inputs"])
        answer = {"unsupported": "copies"} if outputs is None else {"outputs": outputs}
    except Exception as error:
        answer = {"error": repr(error)}
    print(json.dumps({"id": call["id"], **answer}), flush=True)
