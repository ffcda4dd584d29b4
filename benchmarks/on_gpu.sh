#!/usr/bin/env bash
# Everything to try on a machine with a GPU, in under eight minutes; what it finds is written to the folder OUT.
# Run: OUT=folder bash benchmarks/on_gpu.sh
# It needs jax with CUDA, this package's dependencies, pytest, beartype, torch, geoopt and pogo-torch. Each part has a
# time limit of its own, so that a slow one does not stop the others.
set -u
cd "$(dirname "$0")/.."
export JAX_PLATFORMS=cuda,cpu XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
out=${OUT:?a folder for the results}
began=$SECONDS
say() { echo "--- $1, after $((SECONDS - began)) s"; }

python3 -c "import jax; print(jax.__version__, jax.devices())"
say "tests that need an accelerator"
timeout 100 python3 -m pytest -m gpu -n0 -q -p no:cacheprovider 2>&1 | tail -30
say "core tests on the accelerator"
core=$(printf 'tests/test_%s.py ' solvers minimise descramble descramble_iterative default_solver exact retractions \
    preconditioners decompositions combinators groups)
# shellcheck disable=SC2086
timeout 110 python3 -m pytest -n 12 -q -p no:cacheprovider --maxfail=60 $core >"$out/core.log" 2>&1
grep -E "^(FAILED|ERROR)|passed|failed" "$out/core.log" | cut -c1-200 | tail -40
say "closed form"
timeout 60 python3 benchmarks/closed_form.py --repetitions 9 --out "$out/closed_form.md" && cat "$out/closed_form.md"
say "peers"
timeout 70 python3 benchmarks/peers/gpu.py --sizes 64 --batches 64 --limit 8 --out "$out/peers_64.md"
timeout 70 python3 benchmarks/peers/gpu.py --sizes 256 --batches 16 --limit 8 --out "$out/peers_256.md"
say "end"
