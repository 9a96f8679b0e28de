"""The modes that are compared (ways to make a head), and the views of the heads."""

from __future__ import annotations

GUIDED, DETAIL, UNGUIDED, RANDOM = "guided", "detail", "unguided", "random"
# flags of the command line; hair takes time, and a recogniser looks at the face
RUNS = {
    GUIDED: ["--no-photo-detail", "--hair", "none"],
    DETAIL: ["--photo-detail", "--hair", "none"],
    UNGUIDED: ["--no-guidance", "--hair", "none"],
}
MODES = (*RUNS, RANDOM)
WHAT = {
    GUIDED: "guided",
    DETAIL: "guided, with photo detail",
    UNGUIDED: "`--no-guidance`",
    RANDOM: "another person (baseline)",
}
VIEWS = {
    "pose": "photo's pose",
    "left": "20° to the left",
    "right": "20° to the right",
    "relit": "lit from the other side",
}
"""Views by name. "left": the camera moves to the subject's left."""
