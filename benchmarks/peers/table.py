"""What was found, as markdown: an overview, then every number."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peers.reference import STARTS, TARGETS
from benchmarks.peers.rivals import RIVALS

LAST = str(TARGETS[-1])
GIVEN = ("ours_tr", "ours_lbfgs")
BLACK_BOX = ("ours_box_tr", "ours_box_lbfgs")
BARE = ("ours_bare_tr", "ours_bare_lbfgs")
Records = list[dict[str, Any]]


def hardware() -> str:
    """Describe the machine in one line."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def versions(records: Records) -> str:
    """Return the version of every package that was measured."""
    found = {name: version for record in records for name, version in record["versions"].items()}
    return ", ".join(f"{name} {found[name]}" for name in sorted(found))


def fastest_peer(records: Records) -> dict[str, Any] | None:
    """Return the peer that reached the last gap first, among the records of one problem."""
    peers = [one for one in records if RIVALS[one["name"]].kind == "peer" and LAST in one["seconds"]]
    return min(peers, key=lambda one: one["seconds"][LAST]) if peers else None


def time(seconds: float | None) -> str:
    """Three digits, as short as they go."""
    if seconds is None:
        return "NR"
    return f"{seconds:.1f}" if seconds >= 10 else f"{seconds:.3g}"


def times(record: dict[str, Any]) -> list[str]:
    """Seconds to each gap."""
    return [time(record["seconds"].get(str(target))) for target in TARGETS]


def ratio(record: dict[str, Any], here: Records) -> str:
    """Return how many times longer the fastest peer takes to the last gap; a bound if no peer reached it."""
    mine, peer = record["seconds"].get(LAST), fastest_peer(here)
    tried = [one["limit"] for one in here if RIVALS[one["name"]].kind == "peer"]
    if mine is None or not tried:
        return "-"
    return f"{peer['seconds'][LAST] / mine:.3g}" if peer else f"> {max(tried) / mine:.3g}"


def overview(records: Records, start: str, sizes: list[int]) -> Iterable[str]:
    """Seconds to the three gaps, one column a size, and what the fastest peer takes over the fastest of ours."""
    yield "| solver | " + " | ".join(f"n = {n}" for n in sizes) + " |"
    yield "|---|" + "---|" * len(sizes)
    for name, rival in RIVALS.items():
        found = {one["n"]: one for one in records if one["name"] == name and one["start"] == start}
        if found:
            cells = [" / ".join(times(found[n])) if n in found else "" for n in sizes]
            yield f"| {rival.label} | " + " | ".join(cells) + " |"
    for title, chosen in (("given the objective", GIVEN), ("black box", BLACK_BOX), ("black box, bare", BARE)):
        cells = []
        for n in sizes:
            here = [one for one in records if one["n"] == n and one["start"] == start]
            ours = [one for one in here if one["name"] in chosen and LAST in one["seconds"]]
            best = min(ours, key=lambda one: one["seconds"][LAST]) if ours else None
            cells.append(ratio(best, here) if best else "-")
        yield f"| *fastest peer / fastest of ours, {title}, gap {LAST}* | " + " | ".join(cells) + " |"


def details(records: Records, smaller: Records) -> Iterable[str]:
    """Yield the table of one problem; `smaller` are the records of smaller problems from the same start."""
    columns = [f"{target:g}, s" for target in TARGETS] + ["fastest peer / this", "steps", "evaluations", "final gap"]
    columns += ["off O(n)", "compile, s"]
    yield f"| solver | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, rival in RIVALS.items():
        for one in (one for one in records if one["name"] == name):
            steps = one["steps"].get(LAST, "")
            gap = "" if one["gap"] is None else f"{one['gap']:.1e}"
            defect = "" if one["defect"] is None else f"{one['defect']:.0e}"
            compiled = f"{one['compile_s']:.1f}" if one["compile_s"] > 0.05 else ""
            quiet = "" if one["share"] > 0.9 else " \\*"
            last = f"{ratio(one, records)} | {steps} | {one['evaluations']} | {gap} | {defect} | {compiled} |"
            yield f"| {rival.label}{quiet} | " + " | ".join(times(one)) + f" | {last}"
    missing = [one for one in records if one["note"]]
    if missing:
        yield ""
        yield "; ".join(f"{one['name']}: {one['note']}" for one in missing) + "."
    asked = {one["name"] for one in records}
    missed = {one["name"] for one in smaller if LAST not in one["seconds"]}
    absent = [rival.label for name, rival in RIVALS.items() if name in missed - asked]
    if absent:
        yield ""
        yield "Not asked, having missed the last gap at a smaller size: " + "; ".join(absent) + "."


def reference_section(records: Records) -> Iterable[str]:
    """Yield the section of the reference problem: both starts, all sizes."""
    sizes = sorted({one["n"] for one in records})
    limits = sorted({one["limit"] for one in records})
    clocks = sorted({one["clock"] for one in records})
    shares = sorted(one["share"] for one in records)
    yield "## The reference problem"
    yield ""
    yield (
        "`f(P) = tr(P^T A P B)`, A the periodic Fourier second derivative squared, `B = S S^T`, f(1) = 1, from P = 1. "
        'In "scrambled" the signals are first turned by a Haar matrix. Seconds to a gap `(f - f*) / f*` of 1e-2 / '
        f"1e-4 / 1e-6; NR: not within {' or '.join(f'{limit:g}' for limit in limits)} s. float64, one thread on one "
        "core for everybody, each in a process of its own, one after another, compile time apart. Ours are medians of "
        f"warm solves; peers are single runs, timed from inside. Clock: {' and '.join(clocks)}. The processes had "
        f"{shares[len(shares) // 2]:.0%} of their core in the median and {shares[0]:.0%} at worst; less than 90% is "
        "marked with an asterisk. A black box is a plain function of P, A and B, whose Hessian the solver measures for "
        "its preconditioner (bare: it has none). Evaluations: of the function, its gradient or a Hessian product."
    )
    for start in STARTS:
        if any(one["start"] == start for one in records):
            yield ""
            yield f"### {start.capitalize()} start"
            yield ""
            yield from overview(records, start, sizes)
    for start in STARTS:
        for n in sizes:
            here = [one for one in records if one["start"] == start and one["n"] == n]
            if here:
                yield ""
                yield f"#### {start.capitalize()} start, n = {n}"
                yield ""
                yield from details(here, [one for one in records if one["start"] == start and one["n"] < n])


def sparsity_section(records: Records) -> Iterable[str]:
    """Independent components: everybody against Picard-O."""
    yield "## Sparsity: independent components"
    yield ""
    first = records[0]
    yield (
        f"Laplace sources, mixed and whitened, m = {first['m']}, from W = 1 to `max |skew(E tanh(Y) Y^T)| <= "
        f"{first['tolerance']:g}`. The figure is the mean of log cosh Y after the polar projection of W; smaller is "
        "better. Medians of warm runs; `>`: the tolerance was not reached."
    )
    yield ""
    yield "| n | solver | s | Picard-O / this | steps | figure - Picard-O's | gradient | compile, s |"
    yield "|---|---|---|---|---|---|---|---|"
    for n in sorted({one["n"] for one in records}):
        here = [one for one in records if one["n"] == n]
        picard = next((one for one in here if one["name"] == "picard_o" and not one["note"]), None)
        for one in here:
            if one["note"]:
                yield f"| {n} | {one['label']} | {one['note']} | | | | | |"
                continue
            against = difference = ""
            if picard is not None:
                against = f"{picard['seconds'] / one['seconds']:.2f}" if one["reached"] else "-"
                difference = f"{one['figure'] - picard['figure']:+.1e}"
            mark = "" if one["reached"] else "> "
            yield (
                f"| {n} | {one['label']} | {mark}{time(one['seconds'])} | {against} | {one['steps']} | {difference} | "
                f"{one['gradient']:.0e} | {one['compile_s']:.1f} |"
            )


def write(records: Records, sparsity: Records, out: Path) -> None:
    """Write the whole file."""
    lines = ["# Beside the peers", "", f"`python benchmarks/peers/run.py`; {hardware()}.", ""]
    lines += [versions(records + sparsity) + ".", ""]
    if records:
        lines += [*reference_section(records), ""]
    if sparsity:
        lines += [*sparsity_section(sparsity), ""]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines).rstrip() + "\n")
