"""Contents of a compiled program: kernels, products and the formats of their results, calls of libraries."""

import re

from suite.planning import hlo


def hidden(module: hlo.Module) -> int:
    """How many collectives run while something else does: in two halves, or spread over other kernels."""
    chains, halves = set(), 0
    for name, lines in module.computations.items():
        for instruction in lines.values():
            if module.runs[name] and instruction.opcode.removesuffix("-start") in hlo.COLLECTIVES:
                spread = hlo.chain(instruction)
                chains |= {spread} if spread else set()
                halves += instruction.opcode.endswith("-start")
    return len(chains) + halves


def count(module: hlo.Module) -> float:
    """How many instructions of one call do work: fusions, products, copies, library calls."""
    inside = hlo.fused(module)
    return sum(
        module.runs[name]
        for name, lines in module.computations.items()
        for instruction in lines.values()
        if name not in inside and instruction.opcode not in hlo.FREE and not instruction.opcode.endswith("-done")
    )


def results(module: hlo.Module) -> dict[str, list[tuple[int, ...]]]:
    """Formats of the results of matrix products and convolutions -> their sizes: ``"bf16"`` -> ``[(8, 1024, 768)]``.

    A result that is rounded at once, in the same kernel, is of the format that it is rounded to: no other is kept.
    """
    sizes: dict[str, list[tuple[int, ...]]] = {}
    for name, lines in module.computations.items():
        for instruction in lines.values():
            if module.runs[name] and instruction.opcode in ("dot", "convolution"):
                uses = [other for other in lines.values() if instruction.name in other.operands]
                rounded = len(uses) == 1 and uses[0].opcode == "convert" and uses[0].bytes < instruction.bytes
                shape = uses[0].shape if rounded else instruction.shape
                kind, _, dims = shape.partition("{")[0].rstrip("]").partition("[")
                sizes.setdefault(kind, []).append(tuple(int(size) for size in dims.split(",") if size))
    return sizes


def library_calls(module: hlo.Module) -> list[str]:
    """Targets of the program's custom calls."""
    found = (
        re.search(r'custom_call_target="([^"]+)"', instruction.text)
        for name, lines in module.computations.items()
        for instruction in lines.values()
        if module.runs[name] and instruction.opcode == "custom-call"
    )
    return [match[1] for match in found if match]
