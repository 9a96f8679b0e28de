/** The picture: one head, its lights and its camera. Draws when something has changed, and never else. */
import * as THREE from "./three.min.mjs";
import { backdropMaterial, patch, plainRoughness, roughRim, skyMaterial, useFilm, wallMaterial } from "./materials.mjs";

const LAMPS = 4;  // the movable one, and those of an environment
const REACH = 0.3;  // metres: half the side of a lamp's shadow map
const CENTRE = new THREE.Vector3(0, -0.03, 0);
/** Values at the vertices that tables.attributes may have: name, numbers a vertex, signed, the value where it has none. */
const ATTRIBUTES = [["occlusion", 1, false, 255], ["roughness", 1, false, 0], ["along", 3, true, 0], ["gloss", 1, false, 128]];
const LOOK = 30;  // degrees an eye turns at weight 1 of an eyeLook shape; as LOOK_ANGLE in export/blendshapes.py
const rad = THREE.MathUtils.degToRad;

/** Unit vector towards angles in degrees: 0, 0 is in front of the face, azimuth to the subject's left (+x). */
export function toward(azimuth, elevation) {
    const a = rad(azimuth), e = rad(elevation);
    return new THREE.Vector3(Math.sin(a) * Math.cos(e), Math.sin(e), Math.cos(a) * Math.cos(e));
}

/** "#rrggbb" -> linear RGB times `scale`. */
function linear(hex, scale) {
    const c = new THREE.Color(hex);  // three.js keeps colours linear
    return [c.r * scale, c.g * scale, c.b * scale];
}

export class World {
    /** canvas: to draw on. changed: called after the camera moved. */
    constructor(canvas, changed) {
        useFilm();
        this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, preserveDrawingBuffer: true });
        this.renderer.toneMapping = THREE.CustomToneMapping;
        this.renderer.shadowMap.enabled = true;
        this.renderer.shadowMap.type = THREE.PCFShadowMap;
        this.renderer.shadowMap.autoUpdate = false;
        this.pmrem = new THREE.PMREMGenerator(this.renderer);
        this.scene = new THREE.Scene();
        this.camera = new THREE.PerspectiveCamera(20, 1, 0.05, 20);
        this.controls = new THREE.OrbitControls(this.camera, canvas);
        Object.assign(this.controls, { enableDamping: false, minDistance: 0.25, maxDistance: 4, zoomSpeed: 0.7 });
        this.controls.addEventListener("change", () => { this.draw(); if (!this.still) changed(); });
        this.parts = {};
        this.dim = { value: 1 };
        this.panoramas = {};
        this.#furnish();
    }

    #furnish() {
        this.backdrop = new THREE.Mesh(new THREE.PlaneGeometry(2, 2), backdropMaterial());
        Object.assign(this.backdrop, { frustumCulled: false, renderOrder: -10 });
        this.wall = new THREE.Mesh(new THREE.PlaneGeometry(6, 6), wallMaterial());
        this.wall.receiveShadow = true;
        this.scene.add(this.backdrop, this.wall);
        this.lamps = Array.from({ length: LAMPS }, (_, i) => {
            const lamp = new THREE.DirectionalLight(0xffffff, 0);
            const side = i ? 512 : 1024;
            lamp.castShadow = true;
            lamp.shadow.mapSize.set(side, side);
            Object.assign(lamp.shadow.camera, { left: -REACH, right: REACH, bottom: -REACH, top: REACH, near: 0.05, far: i ? 1.75 : 4 });  // only the movable lamp reaches the wall
            Object.assign(lamp.shadow, { radius: i ? 4 : 6, normalBias: 0.003, bias: -0.0004 });
            lamp.target.position.copy(CENTRE);
            this.scene.add(lamp, lamp.target);
            return lamp;
        });
    }

    /** Show a GLB. tables: `attributes`, `slit`, as stage_payload in fitdiff_core/stage.py gives. */
    async load(buffer, tables) {
        const gltf = await new THREE.GLTFLoader().parseAsync(buffer, "");
        if (this.gone) return;
        this.unload();
        this.tables = tables;
        this.model = gltf.scene;
        gltf.scene.traverse((o) => { if (o.isMesh) this.#prepare(o); });
        this.scene.add(gltf.scene);
    }

    #prepare(mesh) {
        const name = mesh.name.replace(/_\d+$/, "");
        this.parts[mesh.name] = mesh;
        plainRoughness(mesh.material);
        mesh.castShadow = mesh.receiveShadow = true;
        mesh.frustumCulled = false;  // morph targets move it
        for (const [attribute, size, signed, fill] of ATTRIBUTES) {
            const count = size * mesh.geometry.attributes.position.count;
            const bytes = this.tables?.attributes?.[mesh.name]?.[attribute];
            const found = Uint8Array.from(atob(bytes ?? ""), (c) => c.charCodeAt(0));
            const rough = attribute === "roughness" ? mesh.material.roughness * 255 : fill;
            const values = found.length === count ? found : new Uint8Array(count).fill(rough);
            const typed = signed ? new Int8Array(values.buffer) : values;
            mesh.geometry.setAttribute(attribute, new THREE.BufferAttribute(typed, size, true));
        }
        const from = mesh.material;
        const material = from.isMeshPhysicalMaterial ? from : new THREE.MeshPhysicalMaterial().copy(from);
        material.envMapIntensity = 1;
        const eye = name.startsWith("Eye"), hair = name === "Hair";
        if (!hair) roughRim(material);
        if (eye) Object.assign(material, { clearcoat: 1, clearcoatRoughness: 0.03, specularIntensity: 0 });
        if (hair) Object.assign(material, { alphaToCoverage: true, specularIntensity: 0.12, shadowSide: THREE.FrontSide });
        patch(material, { dim: name === "Teeth" ? this.dim : { value: 1 } }, hair ? "hair" : eye ? "eye" : "skin");
        for (const map of [material.map, material.normalMap, material.specularColorMap])
            if (map) map.anisotropy = Math.min(8, this.renderer.capabilities.getMaxAnisotropy());
        mesh.userData.shaded = mesh.material = material;
        mesh.userData.flat = {};
        mesh.userData.scale = material.normalScale.clone();
    }

    unload() {
        if (!this.model) return;
        this.scene.remove(this.model);
        for (const mesh of Object.values(this.parts)) {
            mesh.geometry.dispose();
            for (const material of [mesh.userData.shaded, ...Object.values(mesh.userData.flat)]) {
                for (const value of Object.values(material)) if (value?.isTexture) { value.dispose(); value.source?.data?.close?.(); }
                material.dispose();
            }
            mesh.skeleton?.dispose?.();
        }
        this.parts = {};
        this.model = null;
        this.renderer.renderLists.dispose();
    }

    /** Everything of `state`, see stage.mjs. */
    apply(state) {
        this.state = state;
        this.#pose(state);
        this.#light(state.light);
        this.#show(state.view);
        this.look(state.camera);
    }

    /** camera: {position, target, fov} in metres and degrees. */
    look(camera) {
        this.still = true;  // not a move of the user's
        this.camera.position.fromArray(camera.position);
        this.controls.target.fromArray(camera.target);
        this.camera.fov = camera.fov;
        this.camera.updateProjectionMatrix();
        this.controls.update();
        this.still = false;
        this.draw();
    }

    view() {
        const round = (v) => v.toArray().map((x) => Number(x.toFixed(4)));
        return { position: round(this.camera.position), target: round(this.controls.target), fov: Number(this.camera.fov.toFixed(3)) };
    }

    #pose({ expression: weights, gaze }) {
        const w = (name) => weights[name] ?? 0;
        for (const [name, mesh] of Object.entries(this.parts)) {
            if (name.startsWith("Eye")) continue;
            for (const [shape, i] of Object.entries(mesh.morphTargetDictionary ?? {})) mesh.morphTargetInfluences[i] = w(shape);
        }
        const yaw = gaze[0] + LOOK / 2 * (w("eyeLookOutLeft") - w("eyeLookInLeft") + w("eyeLookInRight") - w("eyeLookOutRight"));
        const pitch = gaze[1] + LOOK / 2 * (w("eyeLookUpLeft") + w("eyeLookUpRight") - w("eyeLookDownLeft") - w("eyeLookDownRight"));
        const turn = new THREE.Quaternion().setFromEuler(new THREE.Euler(-rad(pitch), rad(yaw), 0, "YXZ"));
        for (const name of ["Eye_L", "Eye_R"]) this.parts[name]?.quaternion.copy(turn);
        const { slit } = this.tables ?? {};
        if (slit) {  // the share of the sky that a slit shows, as light_at in head/model.py
            const open = Math.max(0, Object.entries(slit.by).reduce((sum, [name, by]) => sum + w(name) * by, slit.closed));
            this.dim.value = open / Math.hypot(open, 2 * slit.behind);
        }
        this.renderer.shadowMap.needsUpdate = true;
    }

    #light(light) {
        const table = this.tables?.environments?.[light.environment];
        if (!table) return;
        if (this.sky !== light.environment) this.#sky(light.environment, table);
        this.scene.environmentIntensity = light.ambient;
        this.scene.environmentRotation.y = rad(light.turn);
        const { azimuth, elevation, intensity, color } = light.lamp;
        this.#lamp(0, toward(azimuth, elevation), linear(color, intensity));
        for (let i = 1; i < LAMPS; i++) {
            const lamp = table.lamps[i - 1];
            const way = new THREE.Vector3(...(lamp?.direction ?? [0, 1, 0])).applyAxisAngle(new THREE.Vector3(0, 1, 0), rad(light.turn));
            this.#lamp(i, way, (lamp?.color ?? [0, 0, 0]).map((c) => c * light.ambient));
        }
        this.renderer.toneMappingExposure = 2 ** light.exposure;
        this.renderer.shadowMap.needsUpdate = true;
    }

    #lamp(i, way, [r, g, b]) {
        this.lamps[i].position.copy(CENTRE).addScaledVector(way, 1.5);
        this.lamps[i].color.setRGB(r, g, b);
        this.lamps[i].intensity = 1;
        this.lamps[i].castShadow = i === 0 || r + g + b > 0;
    }

    #sky(name, table) {
        const panorama = table.panorama && this.panoramas[table.panorama] ? { ...table, texture: this.panoramas[table.panorama] } : null;
        const room = new THREE.Scene();
        const shell = new THREE.Mesh(new THREE.SphereGeometry(5, 48, 24), skyMaterial(table.sh, panorama));
        room.add(shell);
        this.light?.dispose();
        this.light = this.pmrem.fromScene(room, 0, 0.1, 20);
        shell.geometry.dispose();
        shell.material.dispose();
        this.scene.environment = this.light.texture;
        this.sky = name;
    }

    /** A panorama of `tables.panoramas`, as the bytes of a .hdr file. */
    addPanorama(name, buffer) {
        const { data, width, height, type } = new THREE.HDRLoader().parse(buffer);
        const texture = new THREE.DataTexture(data, width, height, THREE.RGBAFormat, type);
        const filters = { magFilter: THREE.LinearFilter, minFilter: THREE.LinearFilter };
        Object.assign(texture, filters, { flipY: true, wrapS: THREE.RepeatWrapping, needsUpdate: true });
        this.panoramas[name]?.dispose();
        this.panoramas[name] = texture;
        this.sky = null;
    }

    #show({ hair, detail, mode }) {
        for (const [name, mesh] of Object.entries(this.parts)) {
            const shaded = mesh.userData.shaded;
            if (name === "Hair") mesh.visible = hair;
            shaded.normalScale.copy(mesh.userData.scale).multiplyScalar(detail ? 1 : 0);
            mesh.material = mode === "shaded" ? shaded : (mesh.userData.flat[mode] ??= flat(shaded, mode));
        }
        const bare = mode !== "shaded" && mode !== "clay";
        this.wall.visible = !bare;
        this.renderer.toneMapping = bare ? THREE.NoToneMapping : THREE.CustomToneMapping;
        this.renderer.shadowMap.needsUpdate = true;
    }

    resize(width, height, ratio) {
        this.renderer.setPixelRatio(Math.min(ratio, 2));
        this.renderer.setSize(width, height, false);
        this.camera.aspect = width / height;
        this.camera.updateProjectionMatrix();
        this.backdrop.material.uniforms.aspect.value = width / height;
        this.draw();
    }

    /** Draw with the page's next picture. */
    draw() {
        this.waiting ??= requestAnimationFrame(() => this.drawNow());
    }

    drawNow() {
        if (this.waiting) cancelAnimationFrame(this.waiting);
        this.waiting = null;
        if (this.gone) return;
        const away = this.camera.position.clone().sub(this.controls.target).normalize();
        this.wall.position.copy(this.controls.target).addScaledVector(away, -0.3);
        this.wall.quaternion.copy(this.camera.quaternion);
        this.renderer.render(this.scene, this.camera);
        this.frames = (this.frames ?? 0) + 1;
    }

    /** What the pointer at (x, y) in -1..1 makes the eyes look at: [yaw, pitch] in degrees. */
    gazeAt(x, y) {
        const eyes = new THREE.Vector3(0, 0, 0.05);
        const near = this.camera.position.distanceTo(eyes);
        const ray = new THREE.Vector3(x, y, 0.5).unproject(this.camera).sub(this.camera.position).normalize();
        const point = this.camera.position.clone().addScaledVector(ray, near * 0.55);
        const way = point.sub(eyes).normalize();
        const clamp = (v, limit) => Math.max(-limit, Math.min(limit, v));
        const yaw = THREE.MathUtils.radToDeg(Math.atan2(way.x, way.z));
        const pitch = THREE.MathUtils.radToDeg(Math.asin(way.y));
        return [clamp(yaw * 1.4, 32), clamp(pitch * 1.4, 22)].map((v) => Number(v.toFixed(2)));
    }

    screenshot() {
        this.drawNow();
        return this.renderer.domElement.toDataURL("image/png");
    }

    dispose() {
        this.gone = true;
        if (this.waiting) cancelAnimationFrame(this.waiting);
        this.unload();
        this.controls.dispose();
        this.light?.dispose();
        this.pmrem.dispose();
        for (const texture of Object.values(this.panoramas)) texture.dispose();
        for (const lamp of this.lamps) lamp.dispose();
        for (const mesh of [this.backdrop, this.wall]) { mesh.geometry.dispose(); mesh.material.dispose(); }
        this.renderer.dispose();
        this.renderer.forceContextLoss();
    }
}

/** A material that shows one map, or the bare form. */
function flat(shaded, mode) {
    if (mode === "clay" || mode === "wireframe") {
        const material = shaded.clone();
        Object.assign(material, { map: shaded.alphaTest ? shaded.map : null, specularColorMap: null, vertexColors: false });
        material.color.set(mode === "clay" ? 0x9a9692 : 0x8fb8de);
        material.wireframe = mode === "wireframe";
        Object.assign(material, { onBeforeCompile: shaded.onBeforeCompile, customProgramCacheKey: shaded.customProgramCacheKey });
        return material;
    }
    const map = { albedo: shaded.map, specular: shaded.specularColorMap, normal: shaded.normalMap }[mode];
    const material = new THREE.MeshBasicMaterial({ map: map ?? null, toneMapped: false, side: shaded.side });
    if (shaded.alphaTest && mode === "albedo") Object.assign(material, { alphaTest: shaded.alphaTest });
    return material;
}
