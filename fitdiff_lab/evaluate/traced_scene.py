"""Run by Blender, not by the lab: a GLB under a light of ours, path traced by Cycles on one CPU thread.

    python fitdiff_lab/evaluate/traced_scene.py -- scene.json      (a Python that has the `bpy` package)
    blender -b --factory-startup --python fitdiff_lab/evaluate/traced_scene.py -- scene.json

scene.json is written by `fitdiff_lab.evaluate.traced`. Linear radiance goes to `pixels` as float32 `[H, W, 4]`, row 0
at the bottom.
"""

import json
import sys

import bpy
import numpy as np
from mathutils import Matrix, Vector


def to_blender(v):
    """Our axes (y up, the face to +z) -> Blender's (z up, the face to -y)."""
    return Vector((v[0], -v[2], v[1]))


def sky(sh, height=64):
    """Harmonics `[9][3]` as an equirectangular image that Cycles reads."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height), indexing="ij")
    turn, rise = (0.5 - u) * 2 * np.pi, (v - 0.5) * np.pi
    bx, by, bz = np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise)
    x, y, z = bx, bz, -by
    basis = np.stack(
        [
            np.full_like(x, 0.282094791773878),
            0.488602511902920 * y,
            0.488602511902920 * z,
            0.488602511902920 * x,
            1.092548430592079 * x * y,
            1.092548430592079 * y * z,
            0.315391565252520 * (3 * z * z - 1),
            1.092548430592079 * x * z,
            0.546274215296040 * (x * x - y * y),
        ],
        -1,
    )
    pixels = np.ones((height, 2 * height, 4), np.float32)
    pixels[..., :3] = np.clip(basis @ np.asarray(sh), 0, None)
    image = bpy.data.images.new("sky", 2 * height, height, float_buffer=True)
    image.colorspace_settings.name = "Non-Color"
    image.pixels.foreach_set(pixels.ravel())
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    texture = nodes.new("ShaderNodeTexEnvironment")
    texture.image = image
    links.new(texture.outputs["Color"], nodes["Background"].inputs["Color"])
    return world


def scatter(material, radius):
    """Burley's subsurface scattering with our profile: Cycles takes radius / (4 pi) as the mean free path."""
    surface = next(n for n in material.node_tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    surface.subsurface_method = "BURLEY"
    surface.inputs["Subsurface Weight"].default_value = 1
    surface.inputs["Subsurface Scale"].default_value = 1
    surface.inputs["Subsurface Radius"].default_value = radius


def main(path):
    with open(path) as f:
        s = json.load(f)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=s["glb"])
    if s["scatter"]:
        for name in s["scattering"]:
            if name in bpy.data.materials:
                scatter(bpy.data.materials[name], s["radius"])
    scene = bpy.context.scene
    lens = bpy.data.cameras.new("camera")
    lens.sensor_fit, lens.angle_y = "VERTICAL", s["camera"]["fov"]
    lens.angle = s["camera"]["fov"]
    camera = bpy.data.objects.new("camera", lens)
    scene.collection.objects.link(camera)
    rows = [to_blender(axis) for axis in s["camera"]["axes"]]  # right, up, back
    turn = Matrix([[rows[c][r] for c in range(3)] for r in range(3)]).to_4x4()
    camera.matrix_world = Matrix.Translation(to_blender(s["camera"]["position"])) @ turn
    scene.camera = camera
    for lamp in s["lamps"]:
        data = bpy.data.lights.new("lamp", "SUN")
        peak = max(lamp["color"]) or 1.0
        data.energy, data.color, data.angle = peak, [c / peak for c in lamp["color"]], s["lamp_angle"]
        thing = bpy.data.objects.new("lamp", data)
        scene.collection.objects.link(thing)
        thing.rotation_euler = to_blender(lamp["direction"]).to_track_quat("Z", "Y").to_euler()
    scene.world = sky(s["sh"])
    scene.render.engine, scene.cycles.device, scene.cycles.samples = "CYCLES", "CPU", s["samples"]
    scene.cycles.use_denoising = bool(s["denoise"])
    scene.cycles.max_bounces, scene.cycles.transparent_max_bounces = 6, 24
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.resolution_x = scene.render.resolution_y = s["side"]
    scene.render.film_transparent = True
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_depth = "32"
    scene.render.filepath = s["exr"]
    bpy.ops.render.render(write_still=True)
    result = bpy.data.images.load(s["exr"])
    result.colorspace_settings.name = "Non-Color"
    pixels = np.empty(s["side"] * s["side"] * 4, np.float32)
    result.pixels.foreach_get(pixels)
    np.save(s["pixels"], pixels.reshape(s["side"], s["side"], 4))


main(*sys.argv[sys.argv.index("--") + 1 :])
