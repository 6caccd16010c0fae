// The package's own threads: no OpenMP runtime, safe after fork, shared by all callers.
#pragma once

#include <functional>

namespace nrc_fast {

int thread_count();
void set_thread_count(int count);  // throws std::invalid_argument below 1

// The least operations that a thread is given: to wake one takes as long as some hundred thousand, and every pass
// wakes them twice or more.
double least_work();
void set_least_work(double operations);  // for tests of threads on few rows

// Runs task(0) .. task(parts - 1), each exactly once, on the calling thread and idle workers, and returns when all
// are done. What a part is never depends on which thread runs it. Tasks must not throw and must not wait on another.
void parallel_for(int parts, const std::function<void(int)>& task);

}  // namespace nrc_fast
