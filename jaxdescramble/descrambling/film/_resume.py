"""Continue a film after a run was killed: the last frame in the folder precedes the first new frame."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxdescramble.descrambling.film._program import Plan, Track
from jaxdescramble.descrambling.film.frames import frame_files, read_frame


def resumed_track(folder: Path | None, step: int, plan: Plan) -> Track:
    """Return the track after the last frame in the folder that is not later than `step`; rename later frames.

    Later frames belong to a run that was given up for an earlier checkpoint; mixing them with newer frames would be
    misleading. They are renamed, not deleted.

    Raises:
        ValueError: if the frame is not complete, or belongs to another network.
    """
    files = {} if folder is None else frame_files(folder)
    for later in [path for at, path in files.items() if at > step]:
        later.rename(later.with_name(later.name + ".given-up"))
    earlier = [path for at, path in files.items() if at <= step]
    if not earlier:
        return plan.track
    layers = read_frame(earlier[-1]).layers
    points, seen = [], []
    for members, blank in zip(plan.members, plan.track.points, strict=True):
        for name, side in members:
            there = layers[name].sides[side]["point"].shape if name in layers and side in layers[name].sides else (0,)
            if there != blank.shape[1:]:
                raise ValueError(
                    f"out: {earlier[-1]} is of another network or rank: layer {name}, {side} side, {there} "
                    f"there, {blank.shape[1:]} here. Give an empty folder."
                )
        stacked = np.stack([layers[name].sides[side]["point"] for name, side in members])
        known = np.asarray(np.isfinite(stacked).all(axis=(-2, -1)))
        points.append(jnp.where(known[..., None, None], stacked, blank).astype(blank.dtype))
        seen.append(jnp.asarray(known))
    return Track(points, seen)
