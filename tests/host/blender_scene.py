"""Run by Blender, not by pytest: open a GLB, say what is in it, and render it by Cycles on one CPU thread.

    blender -b --factory-startup --python tests/host/blender_scene.py -- avatar.glb picture.png 256 8 jawOpen=0.7
    python tests/host/blender_scene.py -- avatar.glb ...       (a Python that has the `bpy` package)

Prints one line `REPORT {...}`. Weights set shape keys by name on every mesh that has them.
"""

import json
import math
import sys

import bpy
from mathutils import Vector

AIM = Vector((0, 0, -0.04))
LIGHTS = ((0.6, -0.8, 0.45, 22.0), (-0.9, -0.5, 0.1, 5.0), (-0.4, 0.8, 0.5, 5.0))  # x, y, z in metres; watts


def place(name, data, location):
    thing = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(thing)
    thing.location = location
    thing.rotation_euler = (AIM - thing.location).to_track_quat("-Z", "Y").to_euler()
    return thing


def report(mesh):
    keys = mesh.data.shape_keys.key_blocks if mesh.data.shape_keys else []
    material = mesh.data.materials[0]
    images = [n.image for n in material.node_tree.nodes if n.bl_idname == "ShaderNodeTexImage"]
    surface = next(n for n in material.node_tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    return {
        "material": material.name,
        "keys": {k.name: k.value for k in keys[1:]},
        "custom_normals": mesh.data.has_custom_normals,
        "uv": len(mesh.data.uv_layers),
        "origin": list(mesh.matrix_world.translation),
        "triangles": len(mesh.data.polygons),
        "linked": sorted(i.name for i in surface.inputs if i.is_linked),
        "color_spaces": sorted(i.colorspace_settings.name for i in images),
    }


def play(meshes, second):
    """The file's animation at a time; prints one line `PLAYED {...}`: jawOpen of each mesh, joints' rotations."""
    scene = bpy.context.scene
    # the importer lays the keys by the scene's own frames a second
    scene.frame_set(0)
    whole, part = divmod(second * scene.render.fps / scene.render.fps_base, 1)
    scene.frame_set(int(whole), subframe=part)
    bpy.context.view_layer.update()
    keys = {o.name: o.data.shape_keys for o in meshes.values() if o.data.shape_keys}
    jaw = {name: k.key_blocks["jawOpen"].value for name, k in keys.items() if "jawOpen" in k.key_blocks}
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    rest = {b.name: b.bone.matrix_local for b in rig.pose.bones}
    turned = {b.name: list((b.matrix @ rest[b.name].inverted()).to_quaternion()) for b in rig.pose.bones}
    print("PLAYED " + json.dumps({"jawOpen": jaw, "bones": turned}))


def main(glb, picture, side, samples, *weights):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=glb)
    meshes = {o.name: o for o in bpy.data.objects if o.type == "MESH" and o.data.materials}
    print("REPORT " + json.dumps({name: report(mesh) for name, mesh in meshes.items()}))
    for frame in [w.split("=")[1] for w in weights if w.startswith("second=")]:
        play(meshes, float(frame))
    for name, value in (w.split("=") for w in weights if not w.startswith("second=")):
        for mesh in meshes.values():
            if mesh.data.shape_keys and name in mesh.data.shape_keys.key_blocks:
                mesh.data.shape_keys.key_blocks[name].value = float(value)

    scene = bpy.context.scene
    lens = bpy.data.cameras.new("camera")
    lens.angle = math.radians(21)
    scene.camera = place("camera", lens, (0.16, -0.78, -0.02))
    for x, y, z, watts in LIGHTS:
        lamp = bpy.data.lights.new("lamp", "AREA")
        lamp.energy, lamp.size = watts, 0.4
        place("lamp", lamp, (x, y, z))
    scene.world = bpy.data.worlds.new("world")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs[0].default_value = (0.03, 0.03, 0.035, 1)
    scene.render.engine, scene.cycles.device, scene.cycles.samples = "CYCLES", "CPU", int(samples)
    scene.cycles.use_denoising = False
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.resolution_x = scene.render.resolution_y = int(side)
    scene.view_settings.view_transform = "Standard"
    scene.render.filepath = picture
    bpy.ops.render.render(write_still=True)


main(*sys.argv[sys.argv.index("--") + 1 :])
