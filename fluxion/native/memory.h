// Working space of one call, and large pages for large results.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fluxion {

// Asks for large pages (2 MiB) where a result has many of them. XLA takes the memory of a step anew from the system
// each time, and the system clears it page by page at the first touch: as slow as the arithmetic with pages of 4 KiB.
inline void large_pages(void* start, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t page = uintptr_t{1} << 21;
  const uintptr_t from = (reinterpret_cast<uintptr_t>(start) + page - 1) / page * page;
  const uintptr_t to = (reinterpret_cast<uintptr_t>(start) + bytes) / page * page;
  if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);  // a wish: any answer will do
#endif
}

// Memory for one call, freed at its end; null where there is none left.
struct Free {
  void operator()(float* p) const { std::free(p); }
};
using Memory = std::unique_ptr<float[], Free>;

inline Memory memory(double floats) {
  if (floats > 1e12) return nullptr;
  const size_t bytes = (static_cast<size_t>(floats) * sizeof(float) / 64 + 1) * 64;
  return Memory(static_cast<float*>(std::aligned_alloc(64, bytes)));
}

}  // namespace fluxion
