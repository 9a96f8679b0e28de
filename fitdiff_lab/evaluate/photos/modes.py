"""The ways to make a head that are compared, and the views that they are compared in."""

from __future__ import annotations

GUIDED, DETAIL, UNGUIDED, RANDOM = "guided", "detail", "unguided", "random"
RUNS = {GUIDED: [], DETAIL: ["--photo-detail"], UNGUIDED: ["--no-guidance"]}  # flags of the command line
MODES = (*RUNS, RANDOM)
WHAT = {
    GUIDED: "guided",
    DETAIL: "guided, with photo detail",
    UNGUIDED: "`--no-guidance`",
    RANDOM: "another person (the floor)",
}
VIEWS = {
    "pose": "photo's pose",
    "left": "20° to the left",
    "right": "20° to the right",
    "relit": "lit from the other side",
}
"""left: the camera goes to the subject's left."""
