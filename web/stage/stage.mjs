/** The stage: a head that is turned, lit and posed by hand. ComfyUI's node and the offline page both show it. */
import { STYLE } from "./style.mjs";
import { World } from "./world.mjs";

const ICONS = {
    orbit: '<circle cx="8" cy="8" r="2.5"/><ellipse cx="8" cy="8" rx="7" ry="3.2" transform="rotate(-25 8 8)"/>',
    light: '<circle cx="8" cy="8" r="3"/><path d="M8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.4 1.4M11.6 11.6 13 13M3 13l1.4-1.4M11.6 4.4 13 3"/>',
    gaze: '<path d="M1 8s2.5-4.5 7-4.5S15 8 15 8s-2.5 4.5-7 4.5S1 8 1 8z"/><circle cx="8" cy="8" r="2"/>',
    reset: '<path d="M3 8a5 5 0 1 0 1.6-3.7"/><path d="M3 2v3h3"/>',
    shot: '<rect x="1.5" y="4" width="13" height="9.5" rx="2"/><circle cx="8" cy="8.8" r="2.6"/><path d="M5.5 4l1-1.8h3l1 1.8"/>',
    panel: '<path d="M2 4.5h5M11 4.5h3M2 11.5h3M9 11.5h5"/><circle cx="9" cy="4.5" r="1.8"/><circle cx="7" cy="11.5" r="1.8"/>',
};
const TOOLS = {
    orbit: "Turn (1): drag turns, wheel or pinch moves closer, right button or two fingers shift",
    light: "Light (2): drag moves the lamp",
    gaze: "Gaze (3): the eyes follow the pointer; press to hold them there",
};
const LABELS = { scene: "Photo's light", ambient: "Even light", below: "From below" };
const KEPT = 0.005;  // smaller weights are left out of the settings

const title = (name) => LABELS[name] ?? name.charAt(0).toUpperCase() + name.slice(1).replace(/_/g, " ");
/** "mouthSmileLeft" -> "Smile left" below the group "Mouth". */
function shapeLabel(name) {
    const words = name.replace(/([A-Z])/g, " $1").toLowerCase().split(" ");
    const short = words.length > 2 || /Left|Right/.test(name) ? words.slice(["brow", "jaw", "cheek", "nose", "mouth", "eye"].includes(words[0]) ? 1 : 0) : words;
    return title(short.join(" "));
}

function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
        else if (key === "html") element.innerHTML = value;
        else if (value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
}
const icon = (name) => `<svg viewBox="0 0 16 16" aria-hidden="true">${ICONS[name]}</svg>`;

export class Stage {
    /**
     * root: an element that this fills. changed(text): called with the settings as JSON when the user changed them.
     * saved(name, dataURL): takes a screenshot; by default the page downloads it.
     */
    constructor(root, { changed = () => {}, saved = download } = {}) {
        this.changed = changed;
        this.saved = saved;
        this.root = root;
        root.classList.add("fd-stage");
        root.dataset.tool = this.tool = "orbit";
        this.canvas = make("canvas", { tabindex: "0", "aria-label": "The head. Arrow keys turn it, plus and minus move closer." });
        this.note = make("div", { class: "fd-note" });
        root.replaceChildren(make("style", { html: STYLE }), this.canvas, this.note);
        this.world = new World(this.canvas, () => this.#camera());
        this.watch = new ResizeObserver(() => this.fit());
        this.watch.observe(root);
        this.#listen();
        this.fit();
    }

    /** Show a head. glb: ArrayBuffer. tables: of stage_payload. text: settings to start with, "" for the tables' start. */
    async show(glb, tables, text) {
        this.tables = tables;
        this.note.textContent = "";
        for (const [name, bytes] of Object.entries(tables.files ?? {})) this.world.addPanorama(name, bytes);
        await this.world.load(glb, tables);
        if (this.world.gone) return;
        this.#build();
        this.set(text);
        this.fit();
    }

    say(text) {
        this.note.textContent = text;
    }

    /** Settings as JSON; "" or text that cannot be read gives the start. Doesn't call `changed`. */
    set(text) {
        this.text = text;
        if (!this.tables) return;
        this.state = this.start();
        try {
            const given = JSON.parse(text || "{}");
            if (given.v === this.tables.version) merge(this.state, given);
        } catch { /* the start */ }
        if (!this.tables.environments[this.state.light.environment]) this.state.light = this.start().light;
        this.#refresh();
    }

    start() {
        const { start, environments } = this.tables;
        return {
            v: this.tables.version,
            camera: structuredClone(start.camera),
            light: { environment: start.environment, turn: 0, ambient: 1, exposure: 0, lamp: { ...environments[start.environment].lamp } },
            expression: { ...start.expression },
            gaze: [...start.gaze],
            view: { hair: true, detail: true, mode: "shaded" },
        };
    }

    fit() {
        const width = Math.max(this.root.clientWidth, 2), height = Math.max(this.root.clientHeight, 2);
        this.world.resize(width, height, window.devicePixelRatio || 1);
    }

    dispose() {
        this.watch.disconnect();
        clearTimeout(this.later);
        this.world.dispose();
        this.root.replaceChildren();
    }

    // --- what the user does ---------------------------------------------------------------------------------------

    #listen() {
        const canvas = this.canvas;
        let held = null;
        const at = (e) => {
            const box = canvas.getBoundingClientRect();
            return [((e.clientX - box.left) / box.width) * 2 - 1, 1 - ((e.clientY - box.top) / box.height) * 2];
        };
        canvas.addEventListener("pointerdown", (e) => {
            canvas.focus({ preventScroll: true });
            if (this.tool === "orbit" || !this.state) return;
            canvas.setPointerCapture(e.pointerId);
            held = [e.clientX, e.clientY];
            if (this.tool === "gaze") { this.#gaze(...at(e)); if (e.pointerType === "mouse") this.#tool("orbit"); }
        });
        canvas.addEventListener("pointermove", (e) => {
            if (this.tool === "gaze" && this.state) this.#gaze(...at(e));
            if (this.tool !== "light" || !held) return;
            this.#moveLamp((e.clientX - held[0]) * 0.45, (held[1] - e.clientY) * 0.45);
            held = [e.clientX, e.clientY];
        });
        for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => { held = null; });
        canvas.addEventListener("keydown", (e) => this.#key(e));
        for (const kind of ["pointerdown", "wheel", "contextmenu", "keydown", "dblclick", "touchstart"])
            this.root.addEventListener(kind, (e) => { e.stopPropagation(); if (kind === "contextmenu") e.preventDefault(); });
    }

    #key(e) {
        if (!this.state || e.ctrlKey || e.metaKey || e.altKey) return;
        const arrows = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] };
        const tools = Object.keys(TOOLS);
        if (arrows[e.key]) {
            const [x, y] = arrows[e.key];
            if (this.tool === "light") this.#moveLamp(x, y);
            else if (this.tool === "gaze") { this.state.gaze = [this.state.gaze[0] + x, this.state.gaze[1] + y].map((v) => Math.max(-35, Math.min(35, v))); this.#commit(); }
            else this.#orbit(x, y, 1);
        } else if (e.key === "+" || e.key === "=") this.#orbit(0, 0, 0.92);
        else if (e.key === "-") this.#orbit(0, 0, 1 / 0.92);
        else if (tools[e.key - 1]) this.#tool(tools[e.key - 1]);
        else if (e.key === "r") this.#reset();
        else if (e.key === "s") this.#shot();
        else if (e.key === "p") this.#toggle();
        else return;
        e.preventDefault();
    }

    #orbit(x, y, closer) {
        const { camera, controls } = this.world;
        const offset = camera.position.clone().sub(controls.target);
        const length = Math.max(0.25, Math.min(4, offset.length() * closer));
        const azimuth = Math.atan2(offset.x, offset.z) + (x * Math.PI) / 180;
        const elevation = Math.max(-1.4, Math.min(1.4, Math.asin(offset.y / offset.length()) + (y * Math.PI) / 180));
        offset.set(Math.sin(azimuth) * Math.cos(elevation), Math.sin(elevation), Math.cos(azimuth) * Math.cos(elevation));
        camera.position.copy(controls.target).addScaledVector(offset, length);
        controls.update();
        this.#camera();
    }

    #camera() {
        if (!this.state) return;
        this.state.camera = this.world.view();
        this.#save();
    }

    #moveLamp(x, y) {
        const lamp = this.state.light.lamp;
        if (!lamp.intensity) lamp.intensity = 2;
        lamp.azimuth = wrap(lamp.azimuth + x);
        lamp.elevation = Math.max(-90, Math.min(90, lamp.elevation + y));
        this.#commit();
    }

    #gaze(x, y) {
        this.state.gaze = this.world.gazeAt(x, y);
        this.#commit();
    }

    #tool(name) {
        this.root.dataset.tool = this.tool = name;
        this.world.controls.enabled = name === "orbit";
        for (const [key, button] of Object.entries(this.tools)) button.setAttribute("aria-pressed", key === name);
    }

    #reset() {
        this.state = this.start();
        this.#refresh();
        this.#save();
    }

    #toggle() {
        this.root.toggleAttribute("data-open");
        this.panelButton.setAttribute("aria-pressed", this.root.hasAttribute("data-open"));
    }

    #shot() {
        this.saved("fitdiff.png", this.world.screenshot());
    }

    /** The state has changed by the user: show it, and tell. */
    #commit() {
        this.#refresh();
        this.#save();
    }

    #save() {
        clearTimeout(this.later);
        this.later = setTimeout(() => this.flush(), 120);
    }

    flush() {
        clearTimeout(this.later);
        const state = structuredClone(this.state);
        for (const [name, w] of Object.entries(state.expression)) if (w < KEPT) delete state.expression[name];
        const text = JSON.stringify(state, (_, v) => (typeof v === "number" ? Number(v.toFixed(4)) : v));
        if (text !== this.text) this.changed((this.text = text));
    }

    // --- controls -------------------------------------------------------------------------------------------------

    #build() {
        for (const old of this.root.querySelectorAll(".fd-bar, .fd-panel")) old.remove();
        this.fresh = [];
        this.tools = {};
        const tools = make("div", { class: "fd-bar fd-tools", role: "toolbar", "aria-label": "What dragging does" });
        for (const [name, hint] of Object.entries(TOOLS)) {
            this.tools[name] = make("button", { title: hint, "aria-label": hint, html: icon(name), onclick: () => this.#tool(name) });
            tools.append(this.tools[name]);
        }
        const side = make("div", { class: "fd-bar fd-side" });
        const action = (name, hint, run) => make("button", { title: hint, "aria-label": hint, html: icon(name), onclick: run });
        this.panelButton = action("panel", "All controls (p)", () => this.#toggle());
        side.append(action("reset", "As at first (r)", () => this.#reset()), action("shot", "Save the picture (s)", () => this.#shot()), this.panelButton);
        this.root.append(this.#faces(), this.#panel(), tools, side);
        this.#tool(this.tool);
        this.panelButton.setAttribute("aria-pressed", this.root.hasAttribute("data-open"));
    }

    #faces() {
        const bar = make("div", { class: "fd-bar fd-faces", role: "toolbar", "aria-label": "Expressions" });
        for (const [name, weights] of Object.entries(this.tables.expressions)) {
            const button = make("button", { onclick: () => { this.state.expression = { ...weights }; this.#commit(); } }, title(name));
            this.fresh.push(() => button.setAttribute("aria-pressed", same(this.state.expression, weights)));
            bar.append(button);
        }
        return bar;
    }

    #panel() {
        const heading = (text) => make("h3", {}, text);
        const light = () => this.state.light;
        const environments = Object.keys(this.tables.environments);
        const panel = make("div", { class: "fd-panel" });
        panel.append(
            heading("Light"),
            this.#pad(),
            this.#slider("Lamp", 0, 8, 0.05, () => light().lamp.intensity, (v) => { light().lamp.intensity = v; }),
            this.#color("Lamp colour", () => light().lamp.color, (v) => { light().lamp.color = v; }),
            this.#choice("Surroundings", environments, () => light().environment, (name) => {
                Object.assign(light(), { environment: name, turn: 0, ambient: 1, lamp: { ...this.tables.environments[name].lamp } });
            }),
            this.#slider("Turn", -180, 180, 1, () => light().turn, (v) => {
                light().lamp.azimuth = wrap(light().lamp.azimuth + v - light().turn);
                light().turn = v;
            }),
            this.#slider("Fill", 0, 3, 0.02, () => light().ambient, (v) => { light().ambient = v; }),
            this.#slider("Exposure", -3, 3, 0.05, () => light().exposure, (v) => { light().exposure = v; }),
            heading("View"),
            this.#check("Hair", () => this.state.view.hair, (v) => { this.state.view.hair = v; }, this.tables.hair),
            this.#check("Fine detail", () => this.state.view.detail, (v) => { this.state.view.detail = v; }),
            this.#choice("Show", this.tables.modes, () => this.state.view.mode, (v) => { this.state.view.mode = v; }),
            heading("Eyes"),
            this.#slider("To the left", -35, 35, 0.5, () => this.state.gaze[0], (v) => { this.state.gaze[0] = v; }),
            this.#slider("Up", -35, 35, 0.5, () => this.state.gaze[1], (v) => { this.state.gaze[1] = v; }),
            heading("Face"),
        );
        for (const [group, names] of Object.entries(this.tables.groups)) {
            const rows = names.map((name) => this.#slider(
                shapeLabel(name), 0, 1, 0.01, () => this.state.expression[name] ?? 0,
                (v) => { this.state.expression[name] = v; }, name));
            panel.append(make("details", {}, make("summary", {}, group), ...rows));
        }
        return panel;
    }

    /** A disc for the lamp: the middle is in front of the face, the dashed ring beside it, the rim behind it. */
    #pad() {
        const dot = make("i");
        const pad = make("div", { class: "fd-pad", tabindex: "0", role: "slider", "aria-label": "Where the lamp stands; arrow keys move it", title: "Where the lamp stands: drag" }, dot);
        const put = (e) => {
            const box = pad.getBoundingClientRect();
            const x = ((e.clientX - box.left) / box.width) * 2 - 1, y = 1 - ((e.clientY - box.top) / box.height) * 2;
            const angle = Math.min(Math.hypot(x, y), 1) * Math.PI, size = Math.hypot(x, y) || 1;
            const way = [(x / size) * Math.sin(angle), (y / size) * Math.sin(angle), Math.cos(angle)];
            const lamp = this.state.light.lamp;
            if (!lamp.intensity) lamp.intensity = 2;
            lamp.azimuth = (Math.atan2(way[0], way[2]) * 180) / Math.PI;
            lamp.elevation = (Math.asin(Math.max(-1, Math.min(1, way[1]))) * 180) / Math.PI;
            this.#commit();
        };
        pad.addEventListener("pointerdown", (e) => { pad.setPointerCapture(e.pointerId); put(e); });
        pad.addEventListener("pointermove", (e) => { if (pad.hasPointerCapture(e.pointerId)) put(e); });
        pad.addEventListener("keydown", (e) => {
            const step = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] }[e.key];
            if (step) { this.#moveLamp(...step); e.preventDefault(); }
        });
        this.fresh.push(() => {
            const { azimuth, elevation, color } = this.state.light.lamp;
            const a = (azimuth * Math.PI) / 180, e = (elevation * Math.PI) / 180;
            const x = Math.sin(a) * Math.cos(e), y = Math.sin(e), z = Math.cos(a) * Math.cos(e);
            const radius = Math.acos(Math.max(-1, Math.min(1, z))) / Math.PI, size = Math.hypot(x, y) || 1;
            dot.style.left = `${50 + (50 * radius * x) / size}%`;
            dot.style.top = `${50 - (50 * radius * y) / size}%`;
            dot.style.background = dot.style.color = color;
            pad.setAttribute("aria-valuetext", `${Math.round(azimuth)} degrees left, ${Math.round(elevation)} up`);
        });
        return pad;
    }

    #slider(label, min, max, step, get, put, name) {
        const input = make("input", { type: "range", min, max, step, "aria-label": name ?? label, "data-name": name ?? label });
        const output = make("output");
        input.addEventListener("input", () => { put(Number(input.value)); this.#commit(); });
        input.addEventListener("dblclick", () => { put(min < 0 ? 0 : min); this.#commit(); });
        this.fresh.push(() => {
            const value = get();
            input.value = value;
            input.style.setProperty("--at", `${((value - min) / (max - min)) * 100}%`);
            output.textContent = step >= 1 ? Math.round(value) : value.toFixed(2);
        });
        return make("div", { class: "fd-row" }, make("label", { title: name ?? label }, label), input, output);
    }

    #color(label, get, put) {
        const input = make("input", { type: "color", "aria-label": label });
        input.addEventListener("input", () => { put(input.value); this.#commit(); });
        this.fresh.push(() => { input.value = get(); });
        return make("div", { class: "fd-row fd-wide" }, make("label", {}, label), input);
    }

    #choice(label, names, get, put) {
        const select = make("select", { "aria-label": label }, ...names.map((name) => make("option", { value: name }, title(name))));
        select.addEventListener("change", () => { put(select.value); this.#commit(); });
        this.fresh.push(() => { select.value = get(); });
        return make("div", { class: "fd-row fd-wide" }, make("label", {}, label), select);
    }

    #check(label, get, put, shown = true) {
        const input = make("input", { type: "checkbox" });
        input.addEventListener("change", () => { put(input.checked); this.#commit(); });
        this.fresh.push(() => { input.checked = get(); });
        return shown ? make("label", { class: "fd-check" }, input, label) : make("span");
    }

    #refresh() {
        for (const show of this.fresh ?? []) show();
        this.world.apply(this.state);
    }
}

const wrap = (degrees) => ((((degrees + 180) % 360) + 360) % 360) - 180;

function same(a, b) {
    const names = new Set([...Object.keys(a), ...Object.keys(b)]);
    return [...names].every((n) => Math.abs((a[n] ?? 0) - (b[n] ?? 0)) < KEPT);
}

/** Takes over the values of `given` whose kind is that of `into`. */
function merge(into, given) {
    for (const [key, value] of Object.entries(given ?? {})) {
        if (key === "expression") into[key] = { ...value };
        else if (Array.isArray(into[key])) { if (Array.isArray(value) && value.length === into[key].length && value.every(Number.isFinite)) into[key] = [...value]; }
        else if (into[key] && typeof into[key] === "object") { if (value && typeof value === "object") merge(into[key], value); }
        else if (typeof into[key] === typeof value && (typeof value !== "number" || Number.isFinite(value))) into[key] = value;
    }
}

function download(name, address) {
    make("a", { href: address, download: name }).click();
}
