"""Gated networks compared: variants side by side, gates frozen at stages, waves, and what becomes of the claims."""
