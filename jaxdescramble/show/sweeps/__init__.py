"""The commands and the report of sweeps."""
