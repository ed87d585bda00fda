"""Convolution over two axes on a CPU: by oneDNN where that may be called, else by products with patches.

By products a bfloat16 convolution is one matrix product with the patches of the input that the kernel meets, laid side
by side along the channels, and the kernel's gradient is such a product in both formats.

Operands have the format of computing, gradients too. Dims: see `suite.nn.conv`.
"""

from jaxtyping import Array, Float

from suite.nn.cpu import onednn, patches


def convolve(
    by_library: bool, stride: int, padding: int, groups: int, result: str, x: Array, kernel: Array
) -> Float[Array, "b y x o"]:
    """The convolution, in the format ``result``."""
    if by_library:
        return onednn.convolve(stride, padding, groups, result, x, kernel)
    return patches.convolve(stride, padding, groups, x, kernel).astype(result)


def convolve_back(
    by_library: bool, stride: int, padding: int, groups: int, result: str, x: Array, kernel: Array, grad: Array
) -> tuple[Float[Array, "b h w i"], Float[Array, "p q i/g o"]]:
    """Its derivatives: by ``x`` in the format ``result``, by ``kernel`` in float32."""
    if by_library:
        return onednn.convolve_back(stride, padding, groups, result, x, kernel, grad)
    dx, dk = patches.convolve_back(stride, padding, groups, x, kernel, grad)
    return dx.astype(result), dk


def convolve_finished(
    stride: int,
    padding: int,
    groups: int,
    result: str,
    relu: bool,
    compute: str,
    x: Array,
    kernel: Array,
    scale: Array,
    shift: Array,
    added: Array | None,
) -> Float[Array, "b y x o"]:
    """The convolution and its end as one operation of oneDNN; operands have any format."""
    x, kernel = x.astype(compute), kernel.astype(compute)
    added = added if added is None else added.astype(result)
    return onednn.convolve_finished(stride, padding, groups, result, relu, x, kernel, scale, shift, added)
