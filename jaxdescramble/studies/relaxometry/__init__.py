"""A relaxometry network, and the contents of its first layer."""
