// A parallel loop on XLA's own threads.
//
// The calling thread takes part and tasks are claimed one by one, so the loop ends even where the pool starts none of
// its helpers: nothing waits but for tasks that a thread is already running.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace fluxion {

inline int64_t workers(const xla::ffi::ThreadPool& pool, int64_t tasks) {
  return std::max<int64_t>(1, std::min<int64_t>(pool.num_threads(), tasks));
}

// Calls run(task, worker) for each task below `tasks`; worker is below workers(pool, tasks) and one thread at a time.
template <class Run>
void parallel(xla::ffi::ThreadPool& pool, int64_t tasks, Run&& run) {
  const int64_t threads = workers(pool, tasks);
  if (threads == 1) {
    for (int64_t task = 0; task < tasks; task++) run(task, int64_t{0});
    return;
  }
  struct Progress {
    std::atomic<int64_t> claimed{0}, finished{0};
  };
  // A helper may start after the loop has ended: it then finds no task, and touches only what it shares.
  auto progress = std::make_shared<Progress>();
  auto* body = &run;
  auto work = [progress, tasks, body](int64_t worker) {
    for (int64_t task; (task = progress->claimed.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
      (*body)(task, worker);
      progress->finished.fetch_add(1, std::memory_order_release);
    }
  };
  for (int64_t helper = 1; helper < threads; helper++) pool.Schedule([work, helper] { work(helper); });
  work(0);
  for (int64_t spins = 0; progress->finished.load(std::memory_order_acquire) < tasks; spins++)
    if (spins > 2000) std::this_thread::yield();
}

}  // namespace fluxion
