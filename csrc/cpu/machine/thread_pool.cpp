#include "cpu/machine/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace nrc_fast {
namespace {

struct Job {
  const std::function<void(int)>* task;
  int parts;
  int next = 0;      // guarded by Pool::mutex
  int finished = 0;  // guarded by Pool::mutex
};

class Pool {
 public:
  void run(int parts, const std::function<void(int)>& task) {
    Job job{&task, parts};
    std::unique_lock lock(mutex_);
    grow(parts - 1);
    jobs_.push_back(&job);
    work_.notify_all();
    while (job.next < job.parts) run_part(lock, job);
    done_.wait(lock, [&] { return job.finished == job.parts; });
  }

 private:
  // Called with the lock held; a machine that gives no more threads still finishes the job, on fewer.
  void grow(int workers) {
    try {
      while (worker_count_ < workers) {
        std::thread([this] { work(); }).detach();
        ++worker_count_;
      }
    } catch (const std::system_error&) {
    }
  }

  void run_part(std::unique_lock<std::mutex>& lock, Job& job) {
    const int part = job.next++;
    if (job.next == job.parts) jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
    lock.unlock();
    (*job.task)(part);
    lock.lock();
    if (++job.finished == job.parts) done_.notify_all();
  }

  [[noreturn]] void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [&] { return !jobs_.empty(); });
      run_part(lock, *jobs_.front());
    }
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  std::deque<Job*> jobs_;
  int worker_count_ = 0;
};

// The pool is never destroyed: its workers wait until the process ends. A forked child has none of the workers and
// cannot trust the mutex, so it forgets the parent's pool and starts its own at its first job.
std::atomic<Pool*> pool{nullptr};

Pool& current_pool() {
  Pool* existing = pool.load(std::memory_order_acquire);
  if (existing != nullptr) return *existing;
  Pool* const fresh = new Pool;
  if (pool.compare_exchange_strong(existing, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *existing;
}

const int registered = pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr, std::memory_order_release); });

int available_processors() {
#if defined(__linux__)
  // 1,024 processors fit the default mask; on larger machines ask for the size that the kernel wants.
  for (int processors = 1024; processors <= 1 << 20; processors *= 2) {
    cpu_set_t* const mask = CPU_ALLOC(processors);
    if (mask == nullptr) break;
    const std::size_t size = CPU_ALLOC_SIZE(processors);
    const bool known = sched_getaffinity(0, size, mask) == 0;
    const int count = known ? CPU_COUNT_S(size, mask) : 0;
    CPU_FREE(mask);
    if (known) return std::max(count, 1);
  }
#endif
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

std::atomic<int> chosen_threads{0};
std::atomic<double> chosen_work{1e7};

}  // namespace

int thread_count() {
  int count = chosen_threads.load(std::memory_order_relaxed);
  if (count == 0) {
    count = available_processors();
    chosen_threads.store(count, std::memory_order_relaxed);
  }
  return count;
}

void set_thread_count(int count) {
  if (count < 1) throw std::invalid_argument("the number of threads is " + std::to_string(count) + "; give 1 or more");
  chosen_threads.store(count, std::memory_order_relaxed);
}

double least_work() { return chosen_work.load(std::memory_order_relaxed); }

void set_least_work(double operations) { chosen_work.store(operations, std::memory_order_relaxed); }

void parallel_for(int parts, const std::function<void(int)>& task) {
  if (parts <= 1) {
    if (parts == 1) task(0);
    return;
  }
  current_pool().run(parts, task);
}

}  // namespace nrc_fast
