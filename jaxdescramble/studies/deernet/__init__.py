"""DEERNet: trained, descrambled, read, replaced by a replica, over many seeds."""
