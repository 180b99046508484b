"""The Python packages that hold ONNX models."""

from modgap.sources.onnx.description import ImageDescription, OnnxDescription
from modgap.sources.onnx.handle import OnnxPackage

__all__ = ["PPOCR"]

PPOCR = OnnxPackage(
    "rapidocr",
    "models/PP-OCRv6_rec_small.onnx",
    "pip install --no-deps rapidocr",
    OnnxDescription(input=ImageDescription(kind="image", size=(48, 320), channels="bgr"), blank=0),
)
"""Lines of text as images, 48 pixels high; the logits of its 40 positions are averaged."""
