"""A real browser in front of the test host: load a workflow as a person would, queue it, look at the page."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from .install import find_browser

FLAGS = [  # WebGL on the CPU, and no traffic of the browser's own
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
READY = (
    "() => window.app?.graph && window.app?.canvas && window.app?.extensionManager"
    " && LiteGraph.registered_node_types['{}']"
)
SETTINGS = """async (vue) => {
    const setting = app.extensionManager.setting;
    await setting.set('Comfy.TutorialCompleted', true);
    await setting.set('Comfy.VueNodes.Enabled', vue);
    await setting.set('LiteGraph.Canvas.MinFontSizeForLOD', 0);  // text stays readable when zoomed out
}"""
QUEUE = """(ms) => new Promise(async (resolve) => {
    const api = app.api ?? window.comfyAPI.api.api;
    const late = setTimeout(() => resolve('timeout'), ms);
    const errors = () => Object.values(app.lastNodeErrors ?? {});
    const done = (text) => {
        clearTimeout(late);
        resolve((errors().length ? 'rejected: ' + JSON.stringify(errors()) + '; ' : '') + text);
    };
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
        api.addEventListener(kind, (e) =>
            done(kind + (e.detail?.exception_message ? ': ' + e.detail.exception_message : '')));
    await app.queuePrompt(0, 1);
    const queue = await (await api.fetchApi('/queue')).json();
    if (errors().length && !queue.queue_running.length && !queue.queue_pending.length) done('nothing runs');
})"""
ALERTS = """() => [...document.querySelectorAll(
    '.p-toast-message, .comfy-missing-nodes, .p-dialog, [data-testid="error-overlay"]')].map(e => e.innerText)"""
VIEWER = """() => {
    const boxes = [...document.querySelectorAll('canvas')].map(c => c.getBoundingClientRect());
    const [box] = boxes.filter(b => b.width > 50 && b.height > 50 && b.width < innerWidth / 2)
        .sort((a, b) => b.width - a.width);
    return box && {x: box.x, y: box.y, width: box.width, height: box.height};
}"""
BOXES = """() => Object.fromEntries(app.graph.nodes.map(n => {
    const vue = document.querySelector(`[data-node-id="${n.id}"]`);
    const [x, y] = n.pos, [w, h] = vue ? [vue.offsetWidth, vue.offsetHeight - 30] : n.size;
    return [n.id, [x, y - 30, x + w, y + h]];
}))"""
PROMPT = "async () => JSON.stringify((await app.graphToPrompt()).output)"


@dataclass
class Tab:
    """One page with ComfyUI in it. `problems`: what the console complained about."""

    page: Page
    problems: list[str] = field(default_factory=list)

    def load(self, workflow: dict) -> None:
        """A UI workflow, or a headless one (which then has no layout)."""
        how = "loadGraphData(w)" if "nodes" in workflow else "loadApiJson(w, 'workflow')"
        self.page.evaluate(f"async (w) => {{ await app.{how}; }}", workflow)
        self.page.keyboard.press("Escape")

    def load_file(self, path: Path) -> None:
        """Hand a file to the same code that a drop on the canvas runs."""
        self.page.evaluate(
            "async ([name, text]) => app.handleFile(new File([text], name, {type: 'application/json'}))",
            [path.name, path.read_text()],
        )

    def queue(self, timeout: float) -> str:
        """How it ended: `execution_success`, or what went wrong.

        ComfyUI may reject one branch of a graph and run another. This waits for the end of that one too: its previews
        would otherwise reach nodes of the same numbers in the next graph.
        """
        return self.page.evaluate(QUEUE, timeout * 1000)

    def alerts(self) -> list[str]:
        """Texts of toasts and dialogs on the page."""
        return self.page.evaluate(ALERTS)

    def viewer(self) -> np.ndarray:
        """What the 3D view (the only canvas that is not the page itself) shows, `[H, W, 3]` in 0..1."""
        png = self.page.screenshot(clip=self.page.evaluate(VIEWER), timeout=120_000)
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) / 255.0

    def prompt(self) -> dict:
        """What the page would queue: node id -> class_type, inputs."""
        return json.loads(self.page.evaluate(PROMPT))

    def serialize(self) -> dict:
        return json.loads(self.page.evaluate("() => JSON.stringify(app.graph.serialize())"))

    def boxes(self) -> dict[str, list[float]]:
        """Node id -> left, top, right, bottom on the graph as it is drawn, title included."""
        return self.page.evaluate(BOXES)

    def picture(self, path: Path, settle: float = 3.0) -> None:
        """The whole graph, once images and the 3D view had time to appear."""
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(int(settle * 1000))
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, timeout=120_000)


@contextmanager
def open_tab(
    url: str, size: tuple[int, int] = (1920, 1080), ready: str = "FitDiff_Sampler", vue: bool = False, scale: float = 1
) -> Iterator[Tab]:
    """A fresh browser profile on the ComfyUI at `url`, once the node type `ready` is known to it.

    vue: nodes drawn as page elements (newer frontends call it Nodes 2.0) in place of on one canvas.
    scale: screen pixels of a page's pixel.
    """
    with sync_playwright() as p, tempfile.TemporaryDirectory() as profile:
        context = p.chromium.launch_persistent_context(
            profile,
            executable_path=find_browser(),
            headless=True,
            args=FLAGS,
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=scale,
            # --disable-api-nodes sends a policy that forbids blob: too, and with it every texture inside a GLB
            bypass_csp=True,
        )
        try:
            context.route(lambda address: not address.startswith((url, "blob:", "data:")), lambda route: route.abort())
            context.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
            page = context.pages[0] if context.pages else context.new_page()
            tab = Tab(page)
            page.on("console", lambda m: tab.problems.append(m.text[:300]) if m.type == "error" else None)
            page.on("pageerror", lambda e: tab.problems.append(str(e)[:300]))
            page.goto(url, wait_until="domcontentloaded")
            page.wait_for_function(READY.format(ready), timeout=120_000)
            page.evaluate(SETTINGS, vue)
            yield tab
        finally:
            context.close()
