"""Tokens in a file name prefix that ComfyUI's frontend replaces for core's save nodes, and only for them.

`%date:yyyy-MM-dd%` and `%Node.widget%`. Core's backend itself replaces `%year%`, `%month%`, `%day%`, `%hour%`,
`%minute%`, `%second%`, `%width%` and `%height%` for every node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .files import bad_prefix

TOKEN = re.compile(r"%([^%]+)%")
DATE = re.compile(r"yyyy|yyy|yy|dd?|MM?|hh?|mm?|ss?")
NO_FILE_NAME = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')  # what the frontend replaces in the value of a widget
FIELDS = {"d": "day", "M": "month", "h": "hour", "m": "minute", "s": "second"}


def bad_template(prefix: str) -> str | None:
    """What is wrong with a prefix whose tokens are not replaced yet, or None; as `bad_prefix`."""
    return bad_prefix(TOKEN.sub("token", prefix))


def replace_tokens(
    prefix: str, prompt: Mapping[str, Any] | None = None, workflow: Mapping[str, Any] | None = None, now=None
) -> str:
    """The prefix with dates and values of widgets filled in. A token that names nothing stays as it is.

    prompt: ComfyUI's prompt, node id -> {"class_type", "inputs"}; default none
    workflow: the frontend's graph, for the nodes' titles; default none. A prompt by itself has them in `_meta`
    now: `datetime`; default the local time
    """
    now = now or datetime.now()

    def value(match: re.Match) -> str:
        text = match[1]
        if text.startswith("date:"):
            return format_date(text.removeprefix("date:"), now)
        name, dot, widget = text.partition(".")
        found = _inputs_of(name, prompt or {}, workflow or {}) if dot and "." not in widget else None
        if found is None or widget not in found or isinstance(found[widget], list):  # a list is a link
            return match[0]
        return NO_FILE_NAME.sub("_", _as_javascript(found[widget]))

    return TOKEN.sub(value, prefix)


def format_date(form: str, now: datetime) -> str:
    """A date as the frontend writes it: d, M, h, m, s with one or two digits at least, yy and yyyy."""

    def part(match: re.Match) -> str:
        token = match[0]
        if token[0] == "y":
            return {"yy": f"{now.year % 100:02}", "yyyy": str(now.year)}.get(token, token)
        return str(getattr(now, FIELDS[token[0]])).zfill(len(token))

    return DATE.sub(part, form)


def _inputs_of(name: str, prompt: Mapping[str, Any], workflow: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Inputs of the first node with that "Node name for S&R", else with that title, else of that class."""
    nodes = [n for n in workflow.get("nodes", ()) if isinstance(n, Mapping)]
    ids = [str(n.get("id")) for n in nodes if (n.get("properties") or {}).get("Node name for S&R") == name]
    ids += [str(n.get("id")) for n in nodes if n.get("title") == name]
    ids += [str(k) for k, n in prompt.items() if (n.get("_meta") or {}).get("title") == name]
    ids += [str(k) for k, n in prompt.items() if n.get("class_type") == name]
    return next((prompt[i].get("inputs", {}) for i in ids if i in prompt), None)


def _as_javascript(value: Any) -> str:
    """A JSON value as text, as JavaScript writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
