"""A relaxometry network, and what its first layer holds."""
