"""Objectives without a closed form on signals of ordinary networks: 16 cases to tune on, 8 for the end."""
