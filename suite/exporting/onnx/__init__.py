"""Programs as ONNX: traced functions, operation by operation."""
