// The path for CPUs with AVX-512 F, BW, DQ and VL: sixteen floats to a vector.
#include "includes.hpp"

#ifdef GOLF_X86_64
#include <immintrin.h>

#if !defined(__clang__)
// GCC 12's own headers leave unused lanes undefined this way.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

namespace golf::activations {
namespace avx512 {

constexpr int kLanes = 16;
typedef __m512i Bits;
typedef __m256i HalfBits;

// a * b + c, rounded once.
static inline __attribute__((always_inline)) __m512 fused(__m512 a, __m512 b, __m512 c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline __attribute__((always_inline)) Bits widened_bits(HalfBits bits) { return _mm512_cvtepu16_epi32(bits); }
static inline __attribute__((always_inline)) HalfBits narrowed_bits(Bits bits) { return _mm512_cvtepi32_epi16(bits); }

// The first `some` lanes, fewer than all.
static inline __attribute__((always_inline)) __mmask16 lanes(int64_t some) {
    return static_cast<__mmask16>((1U << some) - 1U);
}
static inline __attribute__((always_inline)) __m512 load_some(const float* from, int64_t some) {
    return _mm512_maskz_loadu_ps(lanes(some), from);
}
static inline __attribute__((always_inline)) HalfBits load_some(const bf16* from, int64_t some) {
    return _mm256_maskz_loadu_epi16(lanes(some), from);
}
static inline __attribute__((always_inline)) void store_some(float* to, __m512 v, int64_t some) {
    _mm512_mask_storeu_ps(to, lanes(some), v);
}
static inline __attribute__((always_inline)) void store_some(bf16* to, HalfBits bits, int64_t some) {
    _mm256_mask_storeu_epi16(to, lanes(some), bits);
}
static inline __attribute__((always_inline)) __m512 with_rest(__m512 v, int64_t some, __m512 rest) {
    return _mm512_mask_blend_ps(lanes(some), rest, v);
}
static inline __attribute__((always_inline)) float added_up(__m512 v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#include "vector.hpp"
//
#include "head.hpp"
//
#include "heads.hpp"
//
#include "exclusive.hpp"
//
#include "hidden.hpp"
//
#include "lanes.hpp"
//
#include "scores.hpp"
//
#include "stream.hpp"
//
#include "path.hpp"

}  // namespace avx512

const Path kAvx512 = {"avx512", avx512::passes<float>(), avx512::passes<bf16>()};

}  // namespace golf::activations

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
