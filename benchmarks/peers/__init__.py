"""jaxdescramble beside every other optimiser on O(n): `run.py` on a processor, `gpu.py` on an accelerator."""
