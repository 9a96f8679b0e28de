"""Stands for another face pack on the test host: hands out objects shaped like insightface's FaceAnalysis."""

import json
import logging
import os
import sys
from types import SimpleNamespace

import folder_paths
import numpy as np

from .live import TestCamera, TestChoice, TestLiveNetworks
from .spoil import TestSpoil


class face_recognition_model_v1:
    """By this name dlib's Python module calls its network."""


class Wrapped:
    """ComfyUI_FaceAnalysis' own classes: InsightFace keeps the analysis, DLib keeps dlib's three objects."""

    def __init__(self, **kept):
        self.__dict__.update(kept, thresholds={"cosine": 0.68, "euclidean": 4.15, "L2_norm": 1.13})


class TestFaceAnalysis:
    CATEGORY = "test"
    FUNCTION = "load"
    RETURN_TYPES = ("INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS", "ANALYSIS_MODELS", "ANALYSIS_MODELS")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pack": ("STRING", {"default": "small"}), "recognition": ("BOOLEAN", {"default": True})}}

    def load(self, pack, recognition):
        folder = os.path.join(folder_paths.models_dir, "insightface", "models", pack)
        networks = {"detection": SimpleNamespace(model_file=os.path.join(folder, "det.onnx"))}
        if recognition:
            networks["recognition"] = SimpleNamespace(model_file=os.path.join(folder, "recognition.onnx"))
        analysis = SimpleNamespace(models=networks)
        dlib = Wrapped(face_detector=object(), shape_predictor=object(), face_recognition=face_recognition_model_v1())
        return analysis, analysis, SimpleNamespace(face_analysis=analysis), Wrapped(face_analysis=analysis), dlib


class TestGivenFaces:
    """In place of core's MediaPipe Face Landmarker, which this host lacks. Gives what `core_faces.py` made."""

    CATEGORY = "test"
    FUNCTION = "give"
    RETURN_TYPES = ("FACE_LANDMARKS", "BOUNDING_BOX")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"landmarks": ("STRING", {"default": "null"}), "boxes": ("STRING", {"default": "null"})}}

    def give(self, landmarks, boxes):
        landmarks = json.loads(landmarks)
        for frame in landmarks["frames"] if isinstance(landmarks, dict) else []:
            for face in frame:
                face.update({k: np.array(v, np.float32) for k, v in face.items() if isinstance(v, list)})
        return landmarks, json.loads(boxes)


class TestInsightFaceLoader:
    """The real thing, as the loaders of IPAdapter (INSIGHTFACE) and InstantID or PuLID (FACEANALYSIS) make it.

    insightface is not installed beside ComfyUI; FITDIFF_TEST_PACKAGES names a folder that has it.
    """

    CATEGORY = "test"
    FUNCTION = "load"
    RETURN_TYPES = ("INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS", "ANALYSIS_MODELS")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pack": ("STRING", {"default": "offline"}), "modules": (["all", "detection"],)}}

    def load(self, pack, modules):
        sys.path.append(os.environ["FITDIFF_TEST_PACKAGES"])
        try:
            import insightface
            from insightface.app import FaceAnalysis
        finally:
            sys.path.pop()
        logging.info(f"insightface {insightface.__version__}")
        root = os.path.join(folder_paths.models_dir, "insightface")
        analysis = FaceAnalysis(
            name=pack,
            root=root,
            providers=["CPUExecutionProvider"],
            allowed_modules=None if modules == "all" else [modules],
        )
        analysis.prepare(ctx_id=0, det_size=(512, 512))
        return analysis, analysis, SimpleNamespace(face_analysis=analysis), Wrapped(face_analysis=analysis)


NODE_CLASS_MAPPINGS = {
    "TestCamera": TestCamera,
    "TestChoice": TestChoice,
    "TestLiveNetworks": TestLiveNetworks,
    "TestFaceAnalysis": TestFaceAnalysis,
    "TestGivenFaces": TestGivenFaces,
    "TestInsightFaceLoader": TestInsightFaceLoader,
    "TestSpoil": TestSpoil,
}
if os.path.exists("/proc/self/statm"):
    from .limit import TestLimitMemory

    NODE_CLASS_MAPPINGS["TestLimitMemory"] = TestLimitMemory
