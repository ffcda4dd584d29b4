"""A network that takes noise off speech, after the voice network of the descrambler paper's supplement.

Nothing is downloaded or shipped: `recordings.load` reads WAV files that you have, and without them `synthetic.speech`
makes speech. `experiment.experiment` trains, tests and reads the networks.
"""
