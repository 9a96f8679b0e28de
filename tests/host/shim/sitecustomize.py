"""Test host only: lets a torchvision built for CUDA be imported beside a CPU torch.

Its C++ library cannot load there. Its Python part then registers fake kernels for two operators that are not declared.
Declaring them first is enough: ComfyUI's core imports torchvision but calls neither.
"""

import sys


class TorchvisionOperators:
    """A finder that finds nothing; it declares the operators just before torchvision is looked up."""

    def find_spec(self, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            for operator in ("nms", "qnms"):
                torch.library.define(f"torchvision::{operator}", "(Tensor a, Tensor b, float threshold) -> Tensor")
        return None


sys.meta_path.insert(0, TorchvisionOperators())
