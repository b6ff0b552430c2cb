// Vectors of floats, and the loops written with them, once for each instruction set of x86 processors.
//
// A source declares in the namespace fluxion what its loops work on, says `#define LOOPS "file.h"` and includes this
// file: LOOPS is then compiled in the namespaces avx512 and avx2, with TARGET (the function attribute that names the
// instruction set), INLINE, INLINE_LAMBDA, LANES, Vector, Mask, Choice and the operations on them. `chosen` picks
// between the two. There is no include guard here and in LOOPS on purpose.

#if !(defined(__x86_64__) && defined(__GNUC__))
#error "written for x86-64 and the vector extensions of GCC and Clang"
#endif
#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace fluxion {
namespace {

namespace avx512 {
#define TARGET __attribute__((target("avx512f")))
#define INLINE TARGET __attribute__((always_inline)) static inline
#define INLINE_LAMBDA TARGET __attribute__((always_inline))
using Vector = __m512;
using Mask = __mmask16;
using Choice = __mmask16;
constexpr int LANES = 16;
static inline Mask first(int64_t count) { return static_cast<Mask>((1u << count) - 1); }
INLINE Vector zero() { return _mm512_setzero_ps(); }
INLINE Vector spread(float value) { return _mm512_set1_ps(value); }
INLINE Vector load(const float* p) { return _mm512_loadu_ps(p); }
INLINE Vector load_part(const float* p, Mask mask) { return _mm512_maskz_loadu_ps(mask, p); }
INLINE void store(float* p, Vector value) { _mm512_storeu_ps(p, value); }
INLINE void store_part(float* p, Vector value, Mask mask) { _mm512_mask_storeu_ps(p, mask, value); }
INLINE void fetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
INLINE Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
INLINE Vector subtract(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
INLINE Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
INLINE Vector divide(Vector a, Vector b) { return _mm512_div_ps(a, b); }
INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Vector minimum(Vector a, Vector b) { return _mm512_min_ps(a, b); }  // NaN in b passes, here and in maximum
INLINE Vector maximum(Vector a, Vector b) { return _mm512_max_ps(a, b); }
INLINE Vector nearest(Vector a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Vector scale(Vector a, Vector n) { return _mm512_scalef_ps(a, n); }  // a * 2^n
INLINE Choice same(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
INLINE Choice beyond(Vector a, Vector b) {  // a is larger, or NaN where b is not
  return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ) & _mm512_cmp_ps_mask(b, b, _CMP_ORD_Q);
}
INLINE Vector choose(Choice choice, Vector a, Vector b) { return _mm512_mask_blend_ps(choice, b, a); }
INLINE Vector from_bytes(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
INLINE void to_bytes(uint8_t* p, Vector value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(value)));
}
#include LOOPS
#undef INLINE_LAMBDA
#undef INLINE
#undef TARGET
}  // namespace avx512

namespace avx2 {
#define TARGET __attribute__((target("avx2,fma")))
#define INLINE TARGET __attribute__((always_inline)) static inline
#define INLINE_LAMBDA TARGET __attribute__((always_inline))
using Vector = __m256;
using Mask = const int32_t*;
using Choice = __m256;
constexpr int LANES = 8;
static inline Mask first(int64_t count) {
  static const int32_t bits[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
  return bits + 8 - count;
}
INLINE __m256i wide(Mask mask) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask)); }
INLINE Vector zero() { return _mm256_setzero_ps(); }
INLINE Vector spread(float value) { return _mm256_set1_ps(value); }
INLINE Vector load(const float* p) { return _mm256_loadu_ps(p); }
INLINE Vector load_part(const float* p, Mask mask) { return _mm256_maskload_ps(p, wide(mask)); }
INLINE void store(float* p, Vector value) { _mm256_storeu_ps(p, value); }
INLINE void store_part(float* p, Vector value, Mask mask) { _mm256_maskstore_ps(p, wide(mask), value); }
INLINE void fetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
INLINE Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
INLINE Vector subtract(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
INLINE Vector multiply(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
INLINE Vector divide(Vector a, Vector b) { return _mm256_div_ps(a, b); }
INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
INLINE Vector minimum(Vector a, Vector b) { return _mm256_min_ps(a, b); }
INLINE Vector maximum(Vector a, Vector b) { return _mm256_max_ps(a, b); }
INLINE Vector nearest(Vector a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Vector scale(Vector a, Vector n) {  // a * 2^n, for n from -126 to 128, of which 2^128 is infinite
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
INLINE Choice same(Vector a, Vector b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
INLINE Choice beyond(Vector a, Vector b) {
  return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_NLE_UQ), _mm256_cmp_ps(b, b, _CMP_ORD_Q));
}
INLINE Vector choose(Choice choice, Vector a, Vector b) { return _mm256_blendv_ps(b, a, choice); }
INLINE Vector from_bytes(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
INLINE void to_bytes(uint8_t* p, Vector value) {
  const __m256i whole = _mm256_cvtps_epi32(value);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
#include LOOPS
#undef INLINE_LAMBDA
#undef INLINE
#undef TARGET
}  // namespace avx2

// What belongs to this processor's instruction set, of what there is for the two; nothing where it has neither.
// FLUXION_NATIVE=avx2 in the environment asks for the narrower one.
template <class T>
T chosen(T for_avx512, T for_avx2) {
  __builtin_cpu_init();
  const char* asked = std::getenv("FLUXION_NATIVE");
  const bool narrow = asked && std::string(asked) == "avx2";
  if (!narrow && __builtin_cpu_supports("avx512f")) return for_avx512;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? for_avx2 : T{};
}

}  // namespace
}  // namespace fluxion
