"""JSON as every reader takes it: Python's own writes NaN and Infinity, which are no JSON."""

import json
import math

WHY = "null_because"
REASONS = {"nan": "not a number", "inf": "infinite", "-inf": "infinite, below zero"}


def json_text(values: dict, indent: int | None = None, reasons: dict[str, str] | None = None) -> str:
    """The values as JSON text, with null for each number that is not finite, and under WHY the place and the reason.

    Args:
        reasons: texts in place of some of REASONS.
    """
    found: dict[str, str] = {}
    known = REASONS | (reasons or {})

    def plain(value, place: tuple[str, ...]):
        if isinstance(value, dict):
            return {key: plain(each, (*place, str(key))) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each, (*place, str(number))) for number, each in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            found[".".join(place)] = known[str(float(value))]
            return None
        return value

    values = plain(values, ())
    return json.dumps({**values, WHY: found} if found else values, indent=indent, allow_nan=False)
