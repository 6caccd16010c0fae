// The limits of this machine for what it is compiled for: peak rates of fused multiply-adds, bandwidth of reading.
//
// probe THREADS prints one JSON object. Every thread does the same; of several numbers of independent sums, and of
// several streams of memory, the fastest run counts. Arithmetic is every thread's own. Memory is shared: a run begins
// with the first thread and ends with the last.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define MOST_THREADS 1024
#define RUNS 20
#define MULTIPLY_ADDS 12000000L  // of vectors, in one run: 2 ms, between two of which others may have the processor
#define READS 4
#define WAYS 4               // of reading
#define MEMORY (512L << 20)  // of each thread: more than caches hold
#define PAGE (2L << 20)

typedef float floats __attribute__((vector_size(BYTES)));
typedef double doubles __attribute__((vector_size(BYTES)));

enum { FLOAT32, FLOAT64, DTYPES };
static double best[DTYPES][MOST_THREADS];
static double began[READS * WAYS][MOST_THREADS], ended[READS * WAYS][MOST_THREADS];
static pthread_barrier_t together;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void keep(int dtype, long thread, double rate) {
  if (rate > best[dtype][thread]) best[dtype][thread] = rate;
}

// A multiply-add waits four cycles or five for the one before it in its sum, and two begin in each cycle: 8 to 10 sums
// are the least. With 16 registers more than 14 do not fit, with 32 more than 30. They begin differently: of equal sums
// the compiler would compute one.
#define MULTIPLY_ADD_RATE(name, vector, scalar, SUMS)                                        \
  static double name(void) {                                                                 \
    vector sums[SUMS], a, b;                                                                 \
    volatile scalar out = 0;                                                                 \
    for (int i = 0; i < SUMS; ++i) {                                                         \
      for (unsigned j = 0; j < BYTES / sizeof(scalar); ++j) sums[i][j] = i + 1;              \
    }                                                                                        \
    for (unsigned j = 0; j < BYTES / sizeof(scalar); ++j) a[j] = 0.999, b[j] = 1e-3 * j + 1; \
    const long steps = MULTIPLY_ADDS / SUMS;                                                 \
    const double start = now();                                                              \
    for (long s = 0; s < steps; ++s) {                                                       \
      _Pragma("GCC unroll 32") for (int i = 0; i < SUMS; ++i) sums[i] = sums[i] * a + b;     \
    }                                                                                        \
    const double seconds = now() - start;                                                    \
    for (int i = 0; i < SUMS; ++i) out += sums[i][0];                                        \
    return 2.0 * steps * SUMS * (BYTES / sizeof(scalar)) / seconds;                          \
  }
#define BOTH_RATES(SUMS)                                      \
  MULTIPLY_ADD_RATE(float32_rate_##SUMS, floats, float, SUMS) \
  MULTIPLY_ADD_RATE(float64_rate_##SUMS, doubles, double, SUMS)
BOTH_RATES(8)
BOTH_RATES(10)
BOTH_RATES(12)
BOTH_RATES(14)
BOTH_RATES(16)
BOTH_RATES(20)
BOTH_RATES(24)

typedef double (*rate_function)(void);
static const rate_function arithmetic[DTYPES][7] = {
    {float32_rate_8, float32_rate_10, float32_rate_12, float32_rate_14, float32_rate_16, float32_rate_20,
     float32_rate_24},
    {float64_rate_8, float64_rate_10, float64_rate_12, float64_rate_14, float64_rate_16, float64_rate_20,
     float64_rate_24},
};

// The memory in STREAMS parts of one length, read side by side.
#define READ_ALL(STREAMS)                                                                                   \
  static double read_##STREAMS(const doubles* data) {                                                       \
    enum { EACH = 8 / STREAMS };                                                                            \
    const long count = MEMORY / (long)sizeof(doubles) / STREAMS;                                            \
    doubles sums[8];                                                                                        \
    double total = 0;                                                                                       \
    memset(sums, 0, sizeof(sums));                                                                          \
    for (long i = 0; i < count; i += EACH) {                                                                \
      _Pragma("GCC unroll 8") for (int k = 0; k < 8; ++k) sums[k] += data[i + k % EACH + k / EACH * count]; \
    }                                                                                                       \
    for (int k = 0; k < 8; ++k) total += sums[k][0];                                                        \
    return total;                                                                                           \
  }
READ_ALL(1)
READ_ALL(2)
READ_ALL(4)
READ_ALL(8)

static double (*const reading[WAYS])(const doubles*) = {read_1, read_2, read_4, read_8};

static void* worker(void* argument) {
  const long thread = (long)argument;
  // On large pages, as numpy asks for them too.
  doubles* const data = aligned_alloc(PAGE, MEMORY);
  if (data == NULL) exit(1);
  madvise(data, MEMORY, MADV_HUGEPAGE);
  memset(data, 1, MEMORY);
  for (int run = 0; run < RUNS; ++run) {
    for (int dtype = 0; dtype < DTYPES; ++dtype) {
      for (int i = 0; i < 7; ++i) keep(dtype, thread, arithmetic[dtype][i]());
    }
  }
  volatile double out = 0;
  for (int run = 0; run < READS * WAYS; ++run) {
    pthread_barrier_wait(&together);
    began[run][thread] = now();
    out += reading[run % WAYS](data);
    ended[run][thread] = now();
  }
  free(data);
  return NULL;
}

static double read_rate(int threads) {
  double most = 0;
  for (int run = 0; run < READS * WAYS; ++run) {
    double first = began[run][0], last = ended[run][0];
    for (int t = 1; t < threads; ++t) {
      if (began[run][t] < first) first = began[run][t];
      if (ended[run][t] > last) last = ended[run][t];
    }
    const double rate = (double)threads * MEMORY / (last - first);
    if (rate > most) most = rate;
  }
  return most;
}

int main(int argc, char** argv) {
  const int threads = argc == 2 ? atoi(argv[1]) : 0;
  if (threads < 1 || threads > MOST_THREADS) return 1;
  static pthread_t ids[MOST_THREADS];
  pthread_barrier_init(&together, NULL, threads);
  for (long t = 0; t < threads; ++t) {
    if (pthread_create(&ids[t], NULL, worker, (void*)t)) return 1;
  }
  double sums[DTYPES] = {0};
  for (int t = 0; t < threads; ++t) {
    pthread_join(ids[t], NULL);
    for (int dtype = 0; dtype < DTYPES; ++dtype) sums[dtype] += best[dtype][t];
  }
  printf("{\"float32 flops\": %.6g, \"float64 flops\": %.6g, \"read bytes\": %.6g}\n", sums[FLOAT32], sums[FLOAT64],
         read_rate(threads));
  return 0;
}
