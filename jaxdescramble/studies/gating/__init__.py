"""Gated networks compared: variants side by side, gates frozen at stages, sines as targets, verdicts on the claims."""
