"""Folders and files that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples" / "eileen_collins.jpg"
GOLDEN = ROOT / "tests" / "golden" / "node_ids.json"
OUTPUT = ROOT / "tests" / "output"
SAMPLE_NAME = "fitdiff/sample.jpg [temp]"  # what FitDiff Load Photo calls it
PERFORMANCE_NAME = "fitdiff/performance.webp [temp]"
