"""Flags of XLA that make it compile fast. Most of the suite's time is compilation of programs that run once."""

import importlib.metadata

COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""Without LLVM's optimiser. One program of L-BFGS then takes 1.9 s, and .5 s without the MLIR emitters of fusions."""

if importlib.metadata.version("jaxlib").startswith("0.10."):  # a jaxlib that does not know a flag does not start
    COMPILE_FAST += " --xla_cpu_use_fusion_emitters=false"
    # One module of LLVM for a program. XLA makes up to 32, for as many cores; a worker has one, and the cuts cost time.
    COMPILE_FAST += " --xla_cpu_parallel_codegen_split_count=1"
