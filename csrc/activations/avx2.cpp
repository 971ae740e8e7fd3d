// The path for CPUs with AVX2 and FMA: eight floats to a vector.
#include "includes.hpp"

#ifdef GOLF_X86_64
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace golf::activations {
namespace avx2 {

constexpr int kLanes = 8;
typedef __m256i Bits;
typedef __m128i HalfBits;

// a * b + c, rounded once.
static inline __attribute__((always_inline)) __m256 fused(__m256 a, __m256 b, __m256 c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline __attribute__((always_inline)) Bits widened_bits(HalfBits bits) { return _mm256_cvtepu16_epi32(bits); }
static inline __attribute__((always_inline)) HalfBits narrowed_bits(Bits bits) {
    return _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
}
static inline __attribute__((always_inline)) float added_up(__m256 v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
typedef __m256 Some;
#include "some.hpp"
//
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

}  // namespace avx2

const Path kAvx2 = {"avx2", avx2::passes<float>(), avx2::passes<bf16>()};

}  // namespace golf::activations

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
