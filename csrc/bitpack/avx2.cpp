// The path for CPUs with AVX2: 32 values to a register.
#include "bitpack.hpp"

#ifdef GOLF_X86_64
#include <immintrin.h>

#include "rows.hpp"

#define TARGET __attribute__((target("avx2")))

namespace golf::bitpack {
namespace {

// Register r of a block holds values 32 r .. 32 r + 31. Their bit 4 is `places` to the right (r < 2: left) of where the
// high plane has it; the two numbers are for the two 16-byte lanes. The shifts are of 32-bit words, and a mask drops what
// comes over from neighbouring bytes.
template <int Bits>
TARGET inline __m256i places(int r) {
    const int lower[] = {4, 2, 0, 2};
    const int upper[] = {Bits == 5 ? 3 : 4, Bits == 5 ? 1 : 2, Bits == 5 ? 1 : 0, Bits == 5 ? 3 : 2};
    return _mm256_set_m128i(_mm_set1_epi32(upper[r]), _mm_set1_epi32(lower[r]));
}

// The bits of the high plane that register 0 holds.
template <int Bits>
TARGET inline __m256i high_mask() {
    return Bits == 6 ? _mm256_set1_epi8(0x03) : _mm256_set_m128i(_mm_set1_epi8(0x02), _mm_set1_epi8(0x01));
}

TARGET inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
TARGET inline void store(void* to, __m256i bytes) { _mm256_storeu_si256(static_cast<__m256i*>(to), bytes); }

template <int Bits>
TARGET inline void store_high(uint8_t* high, const __m256i u[4]) {
    __m256i mask = high_mask<Bits>();
    __m256i parts = _mm256_and_si256(_mm256_srlv_epi32(u[0], places<Bits>(0)), mask);
    for (int r = 1; r < 4; r++) {
        mask = _mm256_slli_epi16(mask, 2);
        const __m256i shifted =
            r == 1 ? _mm256_srlv_epi32(u[r], places<Bits>(r)) : _mm256_sllv_epi32(u[r], places<Bits>(r));
        parts = _mm256_or_si256(parts, _mm256_and_si256(shifted, mask));
    }
    if (Bits == 6) {
        store(high, parts);
    } else {
        const __m128i bits = _mm_or_si128(_mm256_castsi256_si128(parts), _mm256_extracti128_si256(parts, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(high), bits);
    }
}

template <int Bits>
TARGET inline __m256i load_high(const uint8_t* high) {
    if (Bits == 6) return load(high);
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(high)));
}

template <int Bits>
TARGET bool pack_blocks(const int8_t* values, int64_t blocks, uint8_t* nibbles, uint8_t* high) {
    const __m256i low = _mm256_set1_epi8(0x0F), zero = _mm256_set1_epi8(static_cast<char>(offset(Bits)));
    __m256i seen = _mm256_setzero_si256();
    for (int64_t block = 0; block < blocks; block++) {
        __m256i u[4];
        for (int r = 0; r < 4; r++) {
            u[r] = _mm256_add_epi8(load(values + 32 * r), zero);
            seen = _mm256_or_si256(seen, u[r]);
        }
        for (int r = 0; r < 2; r++) {
            const __m256i upper = _mm256_slli_epi16(_mm256_and_si256(u[r + 2], low), 4);
            store(nibbles + 32 * r, _mm256_or_si256(_mm256_and_si256(u[r], low), upper));
        }
        store_high<Bits>(high, u);
        values += kBlock;
        nibbles += kNibbleBytes;
        high += high_bytes(Bits);
    }
    return _mm256_testz_si256(seen, _mm256_set1_epi32(static_cast<int>(outside(Bits)))) != 0;
}

template <int Bits, bool Stream>
TARGET void unpack_loop(const uint8_t* nibbles, const uint8_t* high, int64_t blocks, int8_t* values) {
    const __m256i low = _mm256_set1_epi8(0x0F), zero = _mm256_set1_epi8(static_cast<char>(offset(Bits)));
    const __m256i top = _mm256_set1_epi8(Bits == 5 ? 0x10 : 0x30);
    for (int64_t block = 0; block < blocks; block++) {
        const __m256i rest = load_high<Bits>(high);
        for (int r = 0; r < 4; r++) {
            const __m256i nibble = load(nibbles + 32 * (r % 2));
            const __m256i placed =
                r < 2 ? _mm256_sllv_epi32(rest, places<Bits>(r)) : _mm256_srlv_epi32(rest, places<Bits>(r));
            const __m256i u = _mm256_or_si256(_mm256_and_si256(r < 2 ? nibble : _mm256_srli_epi16(nibble, 4), low),
                                              _mm256_and_si256(placed, top));
            const __m256i q = _mm256_sub_epi8(u, zero);
            if (Stream) {
                _mm256_stream_si256(reinterpret_cast<__m256i*>(values + 32 * r), q);
            } else {
                store(values + 32 * r, q);
            }
        }
        values += kBlock;
        nibbles += kNibbleBytes;
        high += high_bytes(Bits);
    }
    if (Stream) _mm_sfence();
}

template <int Bits>
void unpack_blocks(const uint8_t* nibbles, const uint8_t* high, int64_t blocks, int8_t* values) {
    if (worth_streaming(values, blocks)) {
        unpack_loop<Bits, true>(nibbles, high, blocks, values);
    } else {
        unpack_loop<Bits, false>(nibbles, high, blocks, values);
    }
}

GOLF_BITPACK_ROWS(TARGET)

}  // namespace

const Path kAvx2 = {
    "avx2",     {pack_blocks<5>, pack_blocks<6>}, {unpack_blocks<5>, unpack_blocks<6>},
    to_float32, to_bfloat16,                      absmax,
    quantize,
};

}  // namespace golf::bitpack
#endif
