"""Names of what computes a bundle's programs."""

from typing import Literal, get_args

Engine = Literal["auto", "xla", "onnxruntime", "openvino"]
"""``auto``: the fastest that is installed."""
READS_ONNX: tuple[str, ...] = get_args(Engine)[2:]
"""Those that read models in ONNX."""
