"""What the pack does while ComfyUI loads it, and in a first small graph: seconds, modules, network calls, writes.

Run by the host's Python: `python startup.py PACK_FOLDER BASE_FOLDER` prints one JSON object. No server is started; the
pack is loaded by ComfyUI's own loader.
"""

import asyncio
import json
import os
import sys
import time

NETWORK = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "socket.sendmsg",
    "urllib.Request",
)
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink")
network, written = [], []


def watch(event, args):
    if event in NETWORK:
        network.append([event, str(args[-1])])
    elif event in CHANGES:
        written.append(str(args[0]))
    elif event == "open" and isinstance(args[0], (str, bytes, os.PathLike)) and isinstance(args[2], int):
        if args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC):
            written.append(os.fsdecode(args[0]))


def seconds():
    return time.process_time()  # of this process alone, however busy the machine is


async def load(pack):
    import nodes

    assert await nodes.load_custom_node(pack), "ComfyUI could not load the pack"
    ours = {k: v for k, v in nodes.NODE_CLASS_MAPPINGS.items() if k.startswith("FitDiff_")}
    for node in ours.values():
        node.GET_NODE_INFO_V1()
    return ours


def graph(nodes):
    """A new person, from the model to a file."""
    import torch

    def run(name, **inputs):
        return nodes[f"FitDiff_{name}"].execute(**inputs).args

    with torch.inference_mode():
        (model,) = run("LoadModel", checkpoint="built-in")
        latent, scene = run("Sampler", model=model, seed=1, steps=1, cfg=1.0, batch=1, sampler="dpmpp_2m")
        avatar, *_ = run("DecodeUV", model=model, latent=latent)
        run("LoadRecognizer", recognizer="built-in")
        return run("ExportMesh", avatar=avatar, filename_prefix="first/head", format="glb", blendshapes=False)[0]


def main(pack, base):
    sys.argv = ["main.py", "--cpu", "--base-directory", base]
    sys.path.insert(0, os.path.join(os.environ["COMFY_APP"]))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.utils

    import nodes  # noqa: F401

    before = set(sys.modules)
    sys.addaudithook(watch)
    start = seconds()
    loaded = asyncio.run(load(pack))
    cost = seconds() - start
    modules = sorted({m.split(".")[0] for m in set(sys.modules) - before if not m.startswith(pack.replace(".", "_x_"))})
    at_start = {"network": list(network), "written": list(written)}
    file = graph(loaded)
    print(
        json.dumps(
            {
                "seconds": cost,
                "nodes": len(loaded),
                "modules": modules,
                "at_start": at_start,
                "network": network,
                "written": written,
                "file": file,
                "read_only": not os.access(pack, os.W_OK),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
