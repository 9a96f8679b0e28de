"""Stands for another face pack on the test host: hands out objects shaped like insightface's FaceAnalysis."""

import logging
import os
import sys
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


class TestInsightFaceLoader:
    """The real thing, as the loaders of IPAdapter (INSIGHTFACE) and InstantID or PuLID (FACEANALYSIS) make it.

    insightface is not installed beside ComfyUI; FITDIFF_TEST_PACKAGES names a folder that has it.
    """

    CATEGORY = "test"
    FUNCTION = "load"
    RETURN_TYPES = ("INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS")

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
            name=pack, root=root, providers=["CPUExecutionProvider"], allowed_modules=None if modules == "all" else [modules])
        analysis.prepare(ctx_id=0, det_size=(512, 512))
        return analysis, analysis, SimpleNamespace(face_analysis=analysis)


NODE_CLASS_MAPPINGS = {
    "TestFaceAnalysis": TestFaceAnalysis, "TestInsightFaceLoader": TestInsightFaceLoader, "TestSpoil": TestSpoil}
if os.path.exists("/proc/self/statm"):
    from .limit import TestLimitMemory

    NODE_CLASS_MAPPINGS["TestLimitMemory"] = TestLimitMemory
