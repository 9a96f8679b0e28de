/** ComfyUI: the view of FitDiff Stage. The settings stand in the node's own text widget, which the workflow saves. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const TYPE = "FitDiff_Stage";
const HEIGHT = 460;
const EMPTY = "Run the graph to see the head.";

/** The text widget that holds the settings, not shown. */
function settingsOf(node) {
    const widget = node.widgets?.find((w) => w.name === "settings");
    if (widget && !widget.fitdiffHidden) {
        widget.fitdiffHidden = true;
        widget.hidden = true;
        widget.options = { ...widget.options, hidden: true };
        widget.computeSize = () => [0, -4];
        if (widget.element) widget.element.style.display = "none";
    }
    return widget;
}

async function bytes(file) {
    const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder ?? "", type: file.type });
    const answer = await api.fetchApi(`/view?${query}`);
    if (!answer.ok) throw new Error(`${file.filename}: ${answer.status}`);
    return answer.arrayBuffer();
}

async function attach(node) {
    const settings = settingsOf(node);
    const root = document.createElement("div");
    root.style.cssText = "width:100%;height:100%;";
    const widget = node.addDOMWidget("stage", "FITDIFF_STAGE", root, {
        serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT, getValue: () => "", setValue: () => {},
    });
    widget.serialize = false;
    const { Stage } = await import("./stage/stage.mjs");
    if (node.fitdiffRemoved) return;
    const stage = new Stage(root, {
        changed: (text) => {
            settings.value = text;
            settings.callback?.(text);
            node.graph?.setDirtyCanvas?.(true, false);
            app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.checkState?.();
        },
    });
    stage.say(EMPTY);
    node.fitdiffStage = stage;
    if (node.fitdiffShown) await present(node, node.fitdiffShown);
}

/** Show what a run of the node gave: {glb, tables, panoramas}. The GLB is fetched only when it is another one. */
async function present(node, shown) {
    node.fitdiffShown = shown;
    const stage = node.fitdiffStage;
    if (!stage) return;
    const settings = settingsOf(node);
    const key = JSON.stringify([shown.glb, shown.tables.start]);
    if (node.fitdiffKey === key) { stage.set(settings.value); return; }
    try {
        const [glb, ...panoramas] = await Promise.all([shown.glb, ...Object.values(shown.panoramas ?? {})].map(bytes));
        const files = Object.fromEntries(Object.keys(shown.panoramas ?? {}).map((name, i) => [name, panoramas[i]]));
        await stage.show(glb, { ...shown.tables, files }, settings.value);
        node.fitdiffKey = key;
    } catch (error) {
        stage.say(`The head cannot be shown (${error.message}). Run the graph again.`);
        console.error("FitDiff Stage:", error);
    }
}

app.registerExtension({
    name: "FitDiff.Stage",
    nodeCreated(node) {
        if (node.comfyClass !== TYPE && node.constructor?.comfyClass !== TYPE) return;
        attach(node);
        node.setSize?.([Math.max(node.size[0], 520), Math.max(node.size[1], HEIGHT + 120)]);
        const { onExecuted, onRemoved, onConfigure } = node;
        node.onExecuted = function (output) {
            onExecuted?.apply(this, arguments);
            const [shown] = output?.fitdiff_stage ?? [];
            if (shown) present(this, shown);
        };
        node.onConfigure = function () {
            onConfigure?.apply(this, arguments);
            this.fitdiffStage?.set(settingsOf(this)?.value ?? "");
        };
        node.onRemoved = function () {
            onRemoved?.apply(this, arguments);
            this.fitdiffRemoved = true;
            this.fitdiffStage?.dispose();
            this.fitdiffStage = null;
        };
    },
});
