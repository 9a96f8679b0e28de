"""What stands where in the shipped workflows: rows of groups, groups of columns, columns of nodes and notes.

Nodes are named by their ids in workflows/api/NAME.json. Heights are the least; widgets may need more.
"""

from __future__ import annotations

INPUT, METHOD, OUTPUT = "#88AAAA", "#b58b2a", "#88AA88"


def column(width: int, *items) -> dict:
    """Items from top to bottom: (node id, height), or (text, height) for a note."""
    return {"width": width, "items": [{"node" if x.isdigit() else "note": x, "height": h} for x, h in items]}


def group(title: str, color: str, *columns: dict) -> dict:
    return {"title": title, "color": color, "columns": list(columns)}


def from_photo(title: str = "1  Photo, person and scene", see_face: str | None = None) -> list[dict]:
    """The steps that several workflows share: nodes 1 to 7, photo to decoded avatar."""
    face = ((see_face, 240),) if see_face else ()
    return [
        group(title, INPUT, column(320, ("1", 340), ("2", 60), ("3", 60)), column(320, ("4", 100), *face, ("5", 240))),
        group("2  Sample, decode", METHOD, column(340, ("6", 520), ("7", 100))),
    ]


HEAD_NOTE = """## A photo becomes a 3D head

Run it: the sample photo becomes a head. Then choose your own photo at the left.

- The GLB is in `output/fitdiff/`. It has 52 facial expressions, and opens in Blender, Unreal and three.js.
- Several people in the photo? Put *FitDiff Find Faces* between, or set *face*.
- *photo_to_avatar* shows the same steps as single nodes, to change them."""

PHOTO_NOTE = """## One photo, one relightable head

Run it with the sample, or pick your own photo at the left. The preview in the sampler shows the skin as it emerges.

- **Likeness**: use a sharp, frontal, evenly lit photo; try another seed.
- **Speed**: bypass *FitDiff Guidance* for a quick first look.
- **Textures**: put an upscaler between *Decode UV* and a *Replace Maps* node (see *maps_upscaled*).
- The GLB is in `output/fitdiff/`: metres, y up, one UV atlas."""

SEVERAL_NOTE = """## One person, several photos

*Encode Identity* takes a batch as photos of **one person** and averages them. *Guidance* fits one head to
all of the batch, each photo in its own view, light and expression.

- Only one photo comes with the pack, so the second is the first one mirrored. Load your own there and bypass *Image Flip*
  (Ctrl+B).
- For a third photo copy *Load Photo* and *Resize And Pad*, and chain another *Batch Images*.
- *Resize And Pad* brings all to one size; *Batch Images* alone would crop the sides off. Photos of different sizes can also
  have a *Guidance* each, joined by *Combine Guidance*."""

CAST_NOTE = """## Nine people who do not exist

No photo: the sampler runs without an identity. Person *i* of the batch comes from seed + *i*. The seed changes after each
run; set it to *fixed* to keep a cast.

*Latent From Batch* picks one of them for export: 0 is top left, 8 bottom right."""

WALK_NOTE = """## Between two people

The first person comes from a photo. The second is sampled at random, rendered from the front, and encoded from that
picture; a second *Load Photo* does as well.

- *Blend Identities* gives one person between the two.
- *Walk Identities* gives a batch of them. Its sampler has batch 1: all frames start from the same noise, so that only the
  person changes.
- Nothing here is guided by the photo: guided frames would all be pulled to it."""

PASSES_NOTE = """## Relight, and redraw

All pictures share the photo's camera, so they lie on one another.

- *Directional Light* nodes are chained: key, fill, rim.
- Depth, normals and line art go straight into *Apply ControlNet* (no preprocessor between them: nothing is estimated), the
  mask into *VAE Encode (for Inpainting)* or *Set Latent Noise Mask*.
- Other views: set *camera* of renders and passes to *orbit*, or take a *FitDiff Turntable* and its scene."""

UPSCALE_NOTE = """## Maps out, and back in

The maps are ordinary images in the avatar's UV layout: any image node may work on them, as long as nothing moves.

- With an upscale model: *Load Upscale Model* and *Upscale Image (using Model)* in the place of *Diffuse x 2*.
- *Region Mask* keeps the change to the face; try *lips* or *eyes*.
- Do not sharpen normals as a picture: they are directions.
- *Replace Maps* takes any square size, and the GLB gets it."""

DRIVE_NOTE = """## A face moves the head

*Motion from Video* reads expression, gaze and head turn of every frame. They go to the renders, which become an animation,
and into the GLB, which plays it in Blender and three.js.

- Your own video: *Load Video* and *Get Video Components* in the place of the talking face; connect images and fps.
- The head keeps its own camera and light. *head* says whether it turns as filmed.
- With sound: *Create Video* takes the renders, and audio and fps of *Get Video Components*.
- *Load Avatar* in the place of the first two nodes spares the sampling."""

LAYOUTS = {
    "driven_head": {
        "seed": "fixed",
        "rows": [
            [
                group("1  The head", INPUT, column(340, ("1", 340), ("2", 400))),
                group("2  Who moves it", INPUT, column(340, ("3", 340), (DRIVE_NOTE, 380))),
                group("3  Motion", METHOD, column(340, ("4", 360), ("5", 320))),
                group(
                    "4  Look at it", OUTPUT, column(480, ("6", 520), ("7", 420)), column(480, ("8", 520), ("9", 420))
                ),
            ],
        ],
    },
    "photo_to_head": {
        "seed": "fixed",
        "app": {
            "inputs": [["1", "image"], ["2", "face"], ["2", "photo_detail"], ["2", "seed"]],
            "outputs": ["3", "4"],
        },
        "rows": [
            [
                group("1  Your photo", INPUT, column(320, ("1", 340), (HEAD_NOTE, 240))),
                group("2  The head", METHOD, column(360, ("2", 400))),
                group("3  Look at it", OUTPUT, column(520, ("3", 520)), column(620, ("4", 520))),
            ],
        ],
    },
    "photo_to_avatar": {
        "seed": "fixed",
        "rows": [
            [
                group("1  Photo and networks", INPUT, column(320, ("1", 340), ("2", 60), ("3", 60))),
                group("2  Person and scene", METHOD, column(320, ("4", 100), ("12", 300), ("5", 240))),
                group(
                    "3  Sample, decode, grow hair",
                    METHOD,
                    column(340, ("6", 520), ("7", 100)),
                    column(320, ("18", 420)),
                ),
                group("4  Render", OUTPUT, column(320, ("8", 300), ("9", 300)), column(380, ("16", 390), ("17", 390))),
                group("5  Export", OUTPUT, column(420, ("10", 260), ("11", 440))),
            ],
            [
                group("Read me", INPUT, column(680, (PHOTO_NOTE, 240))),
                group(
                    "6  Reflectance maps, free of the photo's light",
                    OUTPUT,
                    column(440, ("13", 470)),
                    column(440, ("14", 470)),
                    column(440, ("15", 470)),
                ),
            ],
        ],
    },
    "several_photos": {
        "seed": "fixed",
        "rows": [
            [
                group(
                    "1  Photos of one person, brought to one size",
                    INPUT,
                    column(340, ("1", 340), ("2", 340), ("3", 60)),
                    column(340, ("4", 150), ("5", 150), ("6", 60), ("17", 300)),
                ),
                group("2  Identity and scene", METHOD, column(320, ("8", 60), ("9", 100), ("18", 300), ("10", 240))),
                group(
                    "3  Sample, decode, grow hair",
                    METHOD,
                    column(340, ("7", 60), ("11", 520), ("12", 100)),
                    column(320, ("21", 420)),
                ),
                group(
                    "4  Render", OUTPUT, column(340, ("13", 300), ("14", 300)), column(400, ("19", 420), ("20", 420))
                ),
                group("5  Export", OUTPUT, column(400, ("15", 260), ("16", 420))),
            ],
            [group("Read me", INPUT, column(730, (SEVERAL_NOTE, 280)))],
        ],
    },
    "random_cast": {
        "seed": "randomize",
        "rows": [
            [
                group(
                    "1  Nine people from noise",
                    METHOD,
                    column(340, ("1", 60), ("2", 520), ("3", 100)),
                    column(320, ("13", 420)),
                ),
                group(
                    "2  Render them, and lay them side by side",
                    OUTPUT,
                    column(320, ("4", 320), ("5", 60), ("6", 140)),
                    column(760, ("7", 790)),
                ),
                group(
                    "3  Pick one to export",
                    OUTPUT,
                    column(360, ("8", 100), ("9", 100), ("12", 400)),
                    column(320, ("14", 420)),
                    column(400, ("10", 260), ("11", 460)),
                ),
            ],
            [group("Read me", INPUT, column(730, (CAST_NOTE, 170)))],
        ],
    },
    "identity_walk": {
        "seed": "fixed",
        "rows": [
            [
                group("1  First person", INPUT, column(320, ("1", 340), ("2", 60), ("3", 60), ("4", 100))),
                group(
                    "2  The second person, at random: sampled, rendered, encoded",
                    INPUT,
                    column(320, ("5", 520), ("6", 100)),
                    column(320, ("7", 320), ("8", 100)),
                    column(340, ("9", 380)),
                ),
                group(
                    "3  One person between them",
                    METHOD,
                    column(320, ("10", 100), ("11", 520)),
                    column(320, ("12", 100), ("13", 320)),
                    column(340, ("14", 380)),
                ),
            ],
            [
                group("Read me", INPUT, column(680, (WALK_NOTE, 280))),
                group(
                    "4  The walk from one to the other: seven people from the same noise",
                    OUTPUT,
                    column(320, ("15", 100), ("16", 520)),
                    column(320, ("17", 100), ("18", 320)),
                    column(320, ("19", 60), ("20", 140)),
                    column(760, ("21", 300), ("22", 430)),
                ),
            ],
        ],
    },
    "avatar_relit_passes": {
        "seed": "fixed",
        "rows": [
            [
                *from_photo(),
                group(
                    "3  Hair, three lamps",
                    METHOD,
                    column(320, ("22", 420)),
                    column(320, ("8", 180), ("9", 180), ("10", 180)),
                ),
                group(
                    "4  Relit, from the photo's view",
                    OUTPUT,
                    column(320, ("11", 320), ("12", 90), ("13", 320)),
                    column(450, ("16", 470), ("17", 470)),
                ),
            ],
            [
                group("Read me", INPUT, column(680, (PASSES_NOTE, 260))),
                group(
                    "5  Passes for ControlNet, from the same view",
                    OUTPUT,
                    column(340, ("14", 320), ("15", 40)),
                    column(320, ("18", 350)),
                    column(320, ("19", 350)),
                    column(320, ("20", 350)),
                    column(320, ("21", 350)),
                ),
            ],
        ],
    },
    "maps_upscaled": {
        "seed": "fixed",
        "rows": [
            [
                *from_photo(),
                group(
                    "3  Maps upscaled; the face sharpened",
                    METHOD,
                    column(340, ("8", 80), ("9", 110), ("10", 110), ("11", 150)),
                    column(380, ("12", 80), ("13", 80), ("14", 80), ("19", 400)),
                ),
                group("4  Export new maps", OUTPUT, column(420, ("20", 260), ("21", 440))),
            ],
            [
                group("Read me", INPUT, column(680, (UPSCALE_NOTE, 260))),
                group(
                    "5  Before and after, close",
                    OUTPUT,
                    column(320, ("15", 320), ("16", 320)),
                    column(600, ("17", 650)),
                    column(600, ("18", 650)),
                ),
            ],
        ],
    },
}
