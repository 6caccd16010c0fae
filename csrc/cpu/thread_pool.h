// The package's own threads: no OpenMP runtime, safe after fork, shared by all callers.
#pragma once

#include <functional>

namespace nrc_fast {

int thread_count();
void set_thread_count(int count);  // throws std::invalid_argument below 1

// Runs task(0) .. task(parts - 1), each exactly once, on the calling thread and idle workers, and returns when all
// are done. What a part is never depends on which thread runs it. Tasks must not throw and must not wait on another.
void parallel_for(int parts, const std::function<void(int)>& task);

}  // namespace nrc_fast
