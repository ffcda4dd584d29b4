"""DEERNet: train it, descramble it, read it, replace it by a replica, over many seeds."""
