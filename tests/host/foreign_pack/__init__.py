"""Stands for another face pack on the test host: hands out objects shaped like insightface's FaceAnalysis."""

import os
from types import SimpleNamespace

import folder_paths

from .spoil import TestSpoil


class TestFaceAnalysis:
    CATEGORY = "test"
    FUNCTION = "load"
    RETURN_TYPES = ("INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pack": ("STRING", {"default": "small"}), "recognition": ("BOOLEAN", {"default": True})}}

    def load(self, pack, recognition):
        folder = os.path.join(folder_paths.models_dir, "insightface", "models", pack)
        networks = {"detection": SimpleNamespace(model_file=os.path.join(folder, "det.onnx"))}
        if recognition:
            networks["recognition"] = SimpleNamespace(model_file=os.path.join(folder, "recognition.onnx"))
        analysis = SimpleNamespace(models=networks)
        return analysis, analysis, SimpleNamespace(face_analysis=analysis)


NODE_CLASS_MAPPINGS = {"TestFaceAnalysis": TestFaceAnalysis, "TestSpoil": TestSpoil}
