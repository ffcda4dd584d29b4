"""Simulators that make their own data; nothing is downloaded."""
