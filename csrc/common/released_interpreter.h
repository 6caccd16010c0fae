// Python's lock, given to other threads while a kernel runs.
#pragma once

#include <Python.h>
#include <unistd.h>

namespace nrc_fast {

// CPython up to 3.13 ends a daemon thread that wants the lock back when the interpreter is on its way out: it unwinds
// the stack, over destructors that must not throw, and the process would abort. Such a thread waits for the end of the
// process instead, as later versions have it.
class ReleasedInterpreter {
 public:
  ReleasedInterpreter() : thread_(PyEval_SaveThread()) {}
  ReleasedInterpreter(const ReleasedInterpreter&) = delete;
  ReleasedInterpreter& operator=(const ReleasedInterpreter&) = delete;
  ~ReleasedInterpreter() {
    try {
      PyEval_RestoreThread(thread_);
    } catch (...) {
      while (true) pause();
    }
  }

 private:
  PyThreadState* thread_;
};

}  // namespace nrc_fast
