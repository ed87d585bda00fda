"""The Open Inference Protocol (KServe v2) beside the server's own: `/v2`."""
