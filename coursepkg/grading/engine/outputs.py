"""A cell's outputs that came from the student's process, made sure of; and the one that says why it was stopped."""

from typing import Any

#: Outputs of one cell that are kept.
MOST = 2000


def cleaned(sent: Any, kept: int) -> list[dict]:
    """The outputs among what was sent, of at most `kept` characters, give or take an error's."""
    found, room = [], kept + 300_000
    for entry in sent[:MOST] if isinstance(sent, list) else []:
        output = _output(entry) if isinstance(entry, dict) else None
        if output is None:
            continue
        room -= len(repr(output))
        if room < 0:
            break
        found.append(output)
    return found


def _output(entry: dict) -> dict | None:
    kind = entry.get("output_type")
    if kind == "stream":
        name = "stderr" if entry.get("name") == "stderr" else "stdout"
        return {"output_type": kind, "name": name, "text": _text(entry.get("text"))}
    if kind == "error":
        lines = entry.get("traceback")
        traceback = [_text(line) for line in lines] if isinstance(lines, list) else []
        texts = {key: _text(entry.get(key)) for key in ("ename", "evalue")}
        return {"output_type": kind, **texts, "traceback": traceback}
    if kind not in ("display_data", "execute_result"):
        return None
    metadata = entry.get("metadata")
    output = {"output_type": kind, "data": _bundle(entry.get("data"))}
    output["metadata"] = metadata if isinstance(metadata, dict) else {}
    if kind == "execute_result":
        number = entry.get("execution_count")
        output["execution_count"] = number if type(number) is int else None
    return output


def _bundle(data: Any) -> dict:
    """Of each kind the text; JSON kinds may hold more than text."""
    if not isinstance(data, dict):
        return {}
    return {kind: value if kind.endswith("json") else _text(value) for kind, value in data.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def ended_with(outputs: list[dict], name: str, reason: str) -> list[dict]:
    """The outputs with an error in place of what the interruption left."""
    shown = [f"\x1b[0;31m{name}\x1b[0m: {reason}"]
    error = {"output_type": "error", "ename": name, "evalue": reason, "traceback": shown}
    return [output for output in outputs if output["output_type"] != "error"] + [error]
