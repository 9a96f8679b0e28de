"""Drive a ComfyUI over HTTP and its websocket, as the browser does."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import websocket

ENDS = ("execution_success", "execution_error", "execution_interrupted")


class Rejected(Exception):
    """The server refused a prompt before running it; str() is what the browser would show."""


@dataclass
class Run:
    """What happened to one prompt: the end event, all events in order, and each output node's output."""

    end: str
    events: list[tuple[str, dict]] = field(default_factory=list)
    outputs: dict[str, dict] = field(default_factory=dict)
    previews: int = 0

    @property
    def error(self) -> str:
        return next((d["exception_message"] for kind, d in self.events if kind == "execution_error"), "")

    def progress(self, node: str) -> list[tuple[int, int]]:
        """(value, max) of every step that `node` reported."""
        return [(d["value"], d["max"]) for kind, d in self.events if kind == "progress" and d["node"] == node]


class Client:
    def __init__(self, url: str):
        self.url, self.id = url, uuid.uuid4().hex

    def get(self, path: str, **query) -> bytes:
        query = f"?{urllib.parse.urlencode(query)}" if query else ""
        with urllib.request.urlopen(f"{self.url}{path}{query}", timeout=30) as r:
            return r.read()

    def get_json(self, path: str):
        return json.loads(self.get(path))

    def post(self, path: str, body: dict) -> dict:
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as r:
            return json.loads(r.read() or b"{}")

    def queue(self, prompt: dict) -> str:
        """Prompt id. Raises Rejected with the validation messages."""
        try:
            return self.post("/prompt", {"prompt": prompt, "client_id": self.id})["prompt_id"]
        except urllib.error.HTTPError as e:
            answer = json.loads(e.read())
            details = [
                f"{x['message']}: {x['details']}"
                for node in answer.get("node_errors", {}).values()
                for x in node["errors"]
            ]
            raise Rejected("; ".join(details) or str(answer)) from e

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def view(self, file: dict) -> bytes:
        """A file as an output node names it: {filename, subfolder, type}."""
        return self.get("/view", **file)

    def run(self, prompt: dict, timeout: float = 300, on_event: Callable[[str, dict], None] | None = None) -> Run:
        """Queue a prompt and wait for its end. `on_event(type, data)` sees each event as it comes."""
        address = self.url.replace("http", "ws", 1)
        socket = websocket.create_connection(f"{address}/ws?clientId={self.id}", timeout=timeout)
        try:
            socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
            prompt_id = self.queue(prompt)
            run = Run("timeout")
            deadline = time.monotonic() + timeout
            while time.monotonic() < deadline:
                message = socket.recv()
                if isinstance(message, bytes):
                    run.previews += 1
                    continue
                event = json.loads(message)
                kind, data = event["type"], event["data"]
                if data.get("prompt_id", prompt_id) != prompt_id:
                    continue
                run.events.append((kind, data))
                if on_event:
                    on_event(kind, data)
                if kind in ENDS:
                    run.end = kind
                    break
        finally:
            socket.close()
        if run.end == "execution_success":
            run.outputs = self.outputs(prompt_id)
        return run

    def outputs(self, prompt_id: str) -> dict[str, dict]:
        """From the history, which is written a moment after the end is announced."""
        for _ in range(200):
            if entry := self.get_json(f"/history/{prompt_id}").get(prompt_id):
                return entry["outputs"]
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt_id} never reached the history")
