"""What the results of `published.py` say: one paragraph for each network, with numbers filled in."""

PARAGRAPHS: dict[str, str] = {
    "crepe tiny": (
        "The network finds the pitch of {right:.1%} of 600 synthetic tones within 50 cents. **Does the first "
        "layer show a filter bank once in order?** The neurons themselves are sharp filters: the energy of a "
        "filter lies on {sharpness:.0f} of 257 frequencies, and on {rotated:.0f} if the neurons are rotated "
        "at random (p = {bank_p:.2f}). Sorted by centre frequency, they go from {lowest:.0f} to {highest:.0f} "
        "Hz (the picture `benchmarks/results/published_crepe.svg`). But this order comes from sorting, and "
        "descrambling is not needed for it. The descrambled layer also shows a ladder (squared correlation "
        "{ladder[0]:.2f}), and this is **no finding** (p = {ladder[1]:.2f}): weights in a random frame show "
        "{ladder[2]:.2f}, and permuted entries {ladder[3]:.2f}, perhaps because tones have less energy at "
        "high frequencies (not tested). What stands is that waves are sharper (frequency concentration "
        "{concentration[0]:.3f}; {concentration[2]:.3f} and {concentration[3]:.3f} by chance). **Does the "
        "last layer show pitch?** Neighbouring pitches have similar weights (roughness along the outputs "
        "{rough[0]:.4f}; {rough[3]:.2f} if the entries are permuted), as training on blurred targets "
        "suggests. The eight strongest components of the last hidden layer tell {pitch:.0%} of the variance "
        "of log pitch. Networks with permuted weights tell {chance[0]:.0%} to {chance[1]:.0%} (19 draws), so "
        "pitch is **not** on the strongest components more than by chance. All seven layers differ from both "
        "nulls in many readings, and a count of findings alone says little about a trained network."
    ),
    "crepe full": (
        "Only the first and the last layer were explained. The network finds the pitch of {right:.1%} of 600 "
        "tones. The picture is the one of the small network: sharp filters ({sharpness:.0f} frequencies; "
        "{rotated:.0f} if rotated), from {lowest:.0f} to {highest:.0f} Hz."
    ),
    "minilm": (
        "All 36 weight matrices were explained, each head as a layer of its own, with {samples[0]} and {samples[1]} "
        "tokens of sentences from the documentation of Python (padding left out). No axis has a known order here. So "
        "the findings say how the weights are aligned with their signals, and the names of the tokens say what a wave "
        "may mean. Nearly every layer reads few of the frequencies along its descrambled inputs (entropy along inputs: "
        "a finding in {by[entropy along inputs][0]} of {by[entropy along inputs][1]} layers), that is, few principal "
        "components of what comes in. Many weights have few singular directions (effective rank: "
        "{by[effective rank of weights][0]}) or one that is too strong (largest singular value: "
        "{by[largest singular value][0]}). Both nulls were beaten, but any training might give the same; networks "
        "trained on shuffled targets were not available. An example of a wave: for the first head's queries, the "
        "strongest one is largest on the tokens {ends[0]}, and smallest on the tokens {ends[1]} (a description, no "
        "test)."
    ),
    "deernet": (
        "The outputs (mean 1) are compared with NumPy in float64, because the authors' Matlab was not "
        "available. On 300 simulated traces, the correlation with the true distribution is {correlation:.2f} "
        "on average. The first layer reads five blocks of 64 points at random places, so its input axis is "
        "five short lines, and frequencies along them are only roughly frequencies of the trace. "
        "Signals are not centred: in the first layer, one component (the mean) has nearly all energy, so its "
        "smoothness says little."
    ),
    "pnet": (
        "The inputs are pictures of ellipses, not photographs. The network has three small convolutions "
        "(windows of 3 x 3), so there are few frequencies to read, and P has 10 to 32 rows."
    ),
    "rnet": ("The inputs are pictures of ellipses, not photographs. Windows have 3 x 3 or 2 x 2 pixels."),
    "onet": ("The inputs are pictures of ellipses, not photographs. Windows have 3 x 3 or 2 x 2 pixels."),
}
"""Text with the fields of the results of one network."""
READINGS = {
    "ladder": "conv1 | filter ladder",
    "concentration": "conv1 | frequency concentration",
    "rough": "classifier | roughness along ordered outputs",
}
"""Fields that are readings: value, p-value, mean of each null."""
