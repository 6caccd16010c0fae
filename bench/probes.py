"""The two limits of the machine: peak rate of fused multiply-adds, and the bandwidth of reading memory.

A small C program is compiled for the instructions that are measured: vectors as wide as they are, twelve independent
chains. Without AVX2 a multiply-add is two instructions, and the limit is that of both.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["measure_limits"]

# -march of the instruction sets that NRC_FAST_ISA names.
# The limits are those of float32 and float64: of AVX-512 where only products of bfloat16 are faster.
ARCHITECTURES = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "baseline": "x86-64"}
ARCHITECTURES |= dict.fromkeys(("amx", "avx512bf16"), ARCHITECTURES["avx512"])

SOURCE = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define CHAINS 12

typedef float floats __attribute__((vector_size(BYTES)));
typedef double doubles __attribute__((vector_size(BYTES)));

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

#define FMA_LOOP(name, vector, scalar)                                            \
  static double name(long steps, volatile scalar* out) {                          \
    vector sums[CHAINS], a, b;                                                    \
    for (int i = 0; i < CHAINS; ++i) memset(&sums[i], 0, sizeof(vector));         \
    for (unsigned i = 0; i < BYTES / sizeof(scalar); ++i) a[i] = 0.999, b[i] = 1e-3 * i; \
    const double start = now();                                                   \
    for (long s = 0; s < steps; ++s) {                                            \
      _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; ++i) sums[i] = sums[i] * a + b; \
    }                                                                             \
    const double seconds = now() - start;                                         \
    for (int i = 0; i < CHAINS; ++i) *out += sums[i][0];                          \
    return 2.0 * steps * CHAINS * (BYTES / sizeof(scalar)) / seconds;             \
  }
FMA_LOOP(float32_rate, floats, float)
FMA_LOOP(float64_rate, doubles, double)

static long memory_bytes;
static double best[3][256];

static void* worker(void* argument) {
  const long index = (long)argument;
  volatile float f = 0;
  volatile double g = 0;
  for (int run = 0; run < 5; ++run) {
    double rate = float32_rate(20000000, &f);
    if (rate > best[0][index]) best[0][index] = rate;
    rate = float64_rate(20000000, &g);
    if (rate > best[1][index]) best[1][index] = rate;
  }
  const long count = memory_bytes / (long)sizeof(doubles);
  doubles* const data = aligned_alloc(4096, memory_bytes);
  memset(data, 1, memory_bytes);
  for (int run = 0; run < 7; ++run) {
    doubles sums[8];
    memset(sums, 0, sizeof(sums));
    const double start = now();
    for (long i = 0; i + 8 <= count; i += 8) {
      _Pragma("GCC unroll 8") for (int k = 0; k < 8; ++k) sums[k] += data[i + k];
    }
    const double rate = memory_bytes / (now() - start);
    for (int k = 0; k < 8; ++k) g += sums[k][0];
    if (rate > best[2][index]) best[2][index] = rate;
  }
  free(data);
  return NULL;
}

int main(int argc, char** argv) {
  const int threads = atoi(argv[1]);
  memory_bytes = 512L << 20;
  pthread_t ids[256];
  for (long t = 0; t < threads; ++t) pthread_create(&ids[t], NULL, worker, (void*)t);
  for (int t = 0; t < threads; ++t) pthread_join(ids[t], NULL);
  double sums[3] = {0, 0, 0};
  for (int kind = 0; kind < 3; ++kind)
    for (int t = 0; t < threads; ++t) sums[kind] += best[kind][t];
  printf("{\"float32 flops\": %.6g, \"float64 flops\": %.6g, \"read bytes\": %.6g}\n", sums[0], sums[1], sums[2]);
  return argc != 2;
}
"""


def measure_limits(threads: int, isa: str = "native", compiler: str = "cc") -> dict[str, float]:
    """Peak flops per second in float32 and float64, and bytes read per second, of `threads` threads together.

    Parameters
    ----------
    threads : int
    isa : str
        A name of `ARCHITECTURES`; anything else is what this processor has.
    compiler : str

    Raises
    ------
    RuntimeError
        The probe does not compile or run.
    """
    with tempfile.TemporaryDirectory() as name:
        source, program = Path(name) / "probe.c", Path(name) / "probe"
        source.write_text(SOURCE, encoding="utf-8")
        # -ffp-contract and not -ffast-math: a product and a sum become one instruction, nothing is left out.
        architecture = ARCHITECTURES.get(isa, "native") if platform.machine() == "x86_64" else "native"
        flags = ["-O3", f"-march={architecture}", "-ffp-contract=fast", "-pthread"]
        build = subprocess.run(
            [compiler, *flags, str(source), "-o", str(program)], capture_output=True, text=True, check=False
        )
        if build.returncode:
            msg = f"the probe of the machine's limits does not compile with {compiler}: {build.stderr[-500:]}"
            raise RuntimeError(msg)
        output = subprocess.run([str(program), str(threads)], capture_output=True, text=True, check=True).stdout
    limits: dict[str, float] = json.loads(output)
    return limits


if __name__ == "__main__":
    print(json.dumps(measure_limits(int(sys.argv[1]) if len(sys.argv) > 1 else 1, *sys.argv[2:3]), indent=2))
