"""Measure how well a motion is read from a video.

    python -m fitdiff_lab.evaluate.drive --out DIR [--people 1] [--seconds 10]
"""
