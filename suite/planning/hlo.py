"""Cost of a compiled program, read from its HLO text: bytes between devices and through memory.

XLA's own analysis runs the body of a loop once and is silent about communication. Both are counted here, instruction
by instruction, a loop's body as often as the compiler found that it runs. Everything is for one device: after
partitioning all devices run the same program on their own shard. The branches of a conditional count as equally likely.
"""

import functools
import math
import re
from dataclasses import dataclass

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
"""Kinds of communication, as XLA names them."""

FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "while",
    "conditional",
    "call",
    "opt-barrier",
}
"""Instructions that move nothing, or whose called computations are counted instead."""
_SLICES = ("dynamic-slice", "gather", "slice")
"""They read as much as they return, however large their operand."""

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,<=]*)\]")
_CALLED = re.compile(
    r"\b(calls|to_apply|body|condition|true_computation|false_computation|branch_computations)"
    r"=(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r"known_trip_count\W+n\W+(\d+)")


@dataclass(frozen=True)
class Instruction:
    """One line of the program.

    Attributes:
        name: unique in the program.
        opcode: e.g. ``"all-gather"``.
        shape: of the result on one device, such as ``f32[16,64]{1,0}``.
        bytes: size of that, all parts of a tuple together.
        operands: names of instructions in the same computation.
        called: computations it runs, by role: ``"body"``, ``"condition"``, ``"calls"``, ``"to_apply"``, branches.
        text: the rest of the line: attributes, and for a constant its value, for a parameter its number.
        root: whether it is the computation's result.
    """

    name: str
    opcode: str
    shape: str
    bytes: float
    operands: tuple[str, ...]
    called: tuple[tuple[str, str], ...]
    text: str
    root: bool


@dataclass(frozen=True)
class Module:
    """A compiled program.

    Attributes:
        computations: name -> its instructions by name, each computation after those it calls.
        entry: the computation that runs.
        devices: how many run the program together.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str
    devices: int

    @functools.cached_property
    def runs(self) -> dict[str, float]:
        """How often each computation runs in one call of the program."""
        runs = dict.fromkeys(self.computations, 0.0)
        runs[self.entry] = 1.0
        for name in reversed(self.computations):  # callers before what they call
            for instruction in self.computations[name].values():
                branches = sum("branch" in role or "computation" in role for role, _ in instruction.called)
                times = (self.trips(instruction) or 1) / max(branches, 1)
                for role, called in instruction.called:
                    if called in runs and (role != "to_apply" or instruction.opcode == "call"):
                        runs[called] += runs[name] * times
        return runs

    @functools.cached_property
    def users(self) -> dict[str, list[tuple[Instruction, int]]]:
        """Instruction -> those that read it, and as which of their operands."""
        users: dict[str, list[tuple[Instruction, int]]] = {}
        for lines in self.computations.values():
            for instruction in lines.values():
                for i, operand in enumerate(instruction.operands):
                    users.setdefault(operand, []).append((instruction, i))
        return users

    def trips(self, loop: Instruction) -> int | None:
        """How often a loop's body runs: 1 for what is no loop, None where that isn't known before it runs."""
        if loop.opcode != "while":
            return 1
        stated = _TRIPS.search(loop.text)
        if stated:
            return int(stated[1])
        # A loop from 0 by 1 up to the only number in its condition, as scans are.
        lines = self.computations.get(dict(loop.called).get("condition", ""), {}).values()
        matches = [re.match(r"\((\d+)\)", line.text) for line in lines if line.opcode == "constant"]
        limits = {match[1] for match in matches if match}
        return int(limits.pop()) if len(limits) == 1 else None

    @property
    def endless(self) -> int:
        """Loops whose number of trips isn't known; they count as one trip."""
        loops = (instruction for lines in self.computations.values() for instruction in lines.values())
        return sum(self.trips(loop) is None for loop in loops)


def parse(text: str) -> Module:
    """The program of ``compiled.as_text()``.

    Raises:
        ValueError: there is no entry computation in it.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            instruction = _instruction(line)
            if instruction:
                current[instruction.name] = instruction
    if not entry:
        raise ValueError("the text of the program has no ENTRY computation")
    first = text.partition("\n")[0]
    partitions, replicas = (re.search(rf"\b{name}=(\d+)", first) for name in ("num_partitions", "replica_count"))
    return Module(computations, entry, int(partitions[1] if partitions else 1) * int(replicas[1] if replicas else 1))


def collectives(module: Module) -> dict[str, dict[str, float]]:
    """Communication of one call of the program, by kind; kinds that don't occur are left out.

    ``count`` is how many there are; ``bytes`` how large what they make or take is on one device, whichever is larger
    (a gathered matrix is counted whole); ``sent`` what one device sends for them at the least: a group of n passes
    (n - 1) / n of that on, an all-reduce twice as much. An all-reduce of which each device goes on with its own part
    alone counts as the reduce-scatter that it amounts to, and that compilers for accelerators make of it. One that the
    compiler for TPUs spreads over several kernels, to hide it behind their products, stands in each and counts once.
    """
    totals: dict[str, dict[str, float]] = {}
    chained: set[str] = set()
    for name, lines in module.computations.items():
        for instruction in lines.values():
            kind = instruction.opcode.removesuffix("-start")
            size = _group(instruction, module.devices)
            if kind not in COLLECTIVES or not module.runs[name] or size < 2:
                continue
            spread = chain(instruction)
            if spread and spread in chained:
                continue
            chained.add(spread)
            factor = {"all-reduce": 2 * (size - 1) / size, "collective-permute": 1.0, "collective-broadcast": 1.0}
            for seen, given in _by_kind(instruction, kind, size, lines, module).items():
                whole = given * size if seen == "all-gather" else given
                total = totals.setdefault(seen, {"count": 0.0, "bytes": 0.0, "sent": 0.0})
                total["count"] += module.runs[name]
                total["bytes"] += module.runs[name] * whole
                total["sent"] += module.runs[name] * whole * factor.get(seen, (size - 1) / size)
    return totals


def traffic(module: Module) -> float:
    """Bytes that one call of the program reads from and writes to memory, each instruction by itself."""
    inside = fused(module)
    return sum(
        module.runs[name] * _moved(instruction, lines, module)
        for name, lines in module.computations.items()
        for instruction in lines.values()
        if name not in inside and module.runs[name]
    )


def fused(module: Module) -> set[str]:
    """Computations whose intermediate values never reach memory."""
    inside: set[str] = set()
    for name in reversed(module.computations):
        for instruction in module.computations[name].values():
            if instruction.opcode == "fusion" or name in inside:
                inside.update(called for _, called in instruction.called)
    return inside


def chain(instruction: Instruction) -> str:
    """Names the collective that an instruction is a part of; empty where it is whole."""
    channel = re.search(r"channel_id=(\d+)", instruction.text)
    return channel[1] if channel and "chain_id=" in instruction.text else ""


def _instruction(line: str) -> Instruction | None:
    start = _INSTRUCTION.match(line)
    if not start:
        return None
    rest = line[start.end() :]
    shape, rest = _balanced(rest) if rest.startswith("(") else rest.split(" ", 1) if " " in rest else (rest, "")
    opcode = _OPCODE.match(rest)
    if not opcode:
        return None
    inside, after = _balanced(rest[opcode.end() - 1 :])
    operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', after)
    called = tuple((role, name) for role, names in _CALLED.findall(plain) for name in re.findall(r"[\w.\-]+", names))
    text = inside + after if opcode[1] in ("constant", "parameter") else after
    return Instruction(start[2], opcode[1], shape, _size(shape), operands, called, text, bool(start[1]))


def _balanced(text: str) -> tuple[str, str]:
    """``text``, which opens with a parenthesis, up to the one that closes it, and the rest."""
    depth = 0
    for place in re.finditer(r"[()]", text):
        depth += 1 if place[0] == "(" else -1
        if depth == 0:
            return text[: place.end()], text[place.end() :]
    return text, ""


def _size(shape: str) -> float:
    """Bytes of a shape such as ``f32[16,64]{1,0}``, or of all arrays of a tuple."""
    total = 0.0
    for kind, dims in _ARRAY.findall(shape):
        bits = re.search(r"\d+", kind)
        size = 1.0 if kind == "pred" else int(bits[0]) / 8 if bits else 0.0
        for dim in dims.split(","):
            size *= int(dim.lstrip("<=") or 1)
        total += size
    return total


def _group(instruction: Instruction, devices: int) -> int:
    """How many devices take part in a collective together."""
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", instruction.text)
    if listed:
        return len(listed[1].split(","))
    counted = re.search(r"replica_groups=\[([\d,]+)\]<=", instruction.text)
    if counted:
        return int(counted[1].split(",")[-1])
    named = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", instruction.text)
    if not named:
        return devices
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", named[1]))
    axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])  # a part of an axis states its own size
    return math.prod(int(part or sizes[axis]) for axis, part in axes)


def _by_kind(
    instruction: Instruction, kind: str, size: int, lines: dict[str, Instruction], module: Module
) -> dict[str, float]:
    """Kind -> bytes given to a collective; an all-reduce of several arrays may be of two kinds."""
    given = [lines[operand].bytes for operand in instruction.operands]
    if kind != "all-reduce":
        return {kind: sum(given)}
    results = [instruction.name]
    if len(instruction.operands) > 1:
        users = [user for user, _ in module.users.get(instruction.name, ()) if user.opcode == "get-tuple-element"]
        parts = {user.text.partition("index=")[2].split(",")[0]: user.name for user in users}
        results = [parts.get(str(i), "") for i in range(len(given))]
    totals: dict[str, float] = {}
    for whole, result in zip(given, results, strict=True):
        scattered = 0 < _used(result, whole, module) <= whole / size
        seen = "reduce-scatter" if scattered else kind
        totals[seen] = totals.get(seen, 0.0) + whole
    return totals


def _used(name: str, size: float, module: Module) -> float:
    """Bytes that other instructions read of ``name``, together, which has ``size`` of them."""
    total = 0.0
    for instruction, i in module.users.get(name, ()):
        inside = module.computations.get(dict(instruction.called).get("calls", ""), {})
        parameter = next(
            (line.name for line in inside.values() if line.opcode == "parameter" and line.text.startswith(f"({i})")), ""
        )
        if instruction.opcode == "fusion" and parameter:
            total += _read(parameter, inside)
        elif instruction.opcode in ("bitcast", "copy") or instruction.opcode.endswith("-done"):
            total += _used(instruction.name, size, module)
        else:
            total += instruction.bytes if instruction.opcode in _SLICES and i == 0 else size
    return total


def _moved(instruction: Instruction, lines: dict[str, Instruction], module: Module) -> float:
    """Bytes that an instruction reads and writes."""
    if (
        instruction.opcode in FREE
        or instruction.opcode.endswith("-done")
        or instruction.opcode in ("async-start", "async-update")
    ):
        return 0.0
    given = [lines[operand].bytes if operand in lines else 0.0 for operand in instruction.operands]
    if instruction.opcode in _SLICES:
        return 2 * instruction.bytes
    if instruction.opcode in ("dynamic-update-slice", "scatter"):
        return 2 * _written(instruction, given)
    if instruction.opcode == "copy-start":
        return 2 * sum(given)
    inside = (
        module.computations.get(dict(instruction.called).get("calls", "")) if instruction.opcode == "fusion" else None
    )
    if inside is None:
        return sum(given) + instruction.bytes
    reads = [
        min(_read(parameter.name, inside), parameter.bytes)
        for parameter in inside.values()
        if parameter.opcode == "parameter"
    ]
    return sum(reads) + sum(_result(root, inside) for root in inside.values() if root.root)


def _written(instruction: Instruction, given: list[float]) -> float:
    """Bytes that an update in place writes: the update, or the updates of a scatter, of which each has its own."""
    return given[1] if instruction.opcode == "dynamic-update-slice" else sum(given[len(given) // 2 + 1 :])


def _read(name: str, inside: dict[str, Instruction]) -> float:
    """Bytes that a fused computation reads of ``name``: of what is sliced or updated in place, no more than that."""
    total = 0.0
    for instruction in inside.values():
        if name not in instruction.operands:
            continue
        if instruction.opcode == "bitcast":
            total += _read(instruction.name, inside)
        elif instruction.operands[0] == name and instruction.opcode in _SLICES:
            total += instruction.bytes
        elif instruction.operands[0] != name or instruction.opcode not in ("dynamic-update-slice", "scatter"):
            total += inside[name].bytes
    return total


def _result(root: Instruction, inside: dict[str, Instruction]) -> float:
    """Bytes that a fused computation writes for its result."""
    sources = [inside[name] for name in root.operands if name in inside]
    if root.opcode == "tuple":
        return sum(_result(source, inside) for source in sources)
    if root.opcode == "bitcast" and sources:
        return _result(sources[0], inside)
    if root.opcode in ("dynamic-update-slice", "scatter"):
        return _written(root, [source.bytes for source in sources])
    return root.bytes
