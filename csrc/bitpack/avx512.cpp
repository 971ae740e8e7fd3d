// The path for CPUs with AVX-512 F and BW: 64 values to a register.
#include "bitpack.hpp"

#ifdef GOLF_X86_64
#include <immintrin.h>

#include "rows.hpp"

#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers leave unused lanes undefined this way
#endif

#define TARGET __attribute__((target("avx512f,avx512bw")))

namespace golf::bitpack {
namespace {

// For each 16-bit lane, one number for each slot of 16h values that the 64 values of a register reach over.
template <int Bits>
TARGET inline __m512i per_slot(short slot0, short slot1, short slot2, short slot3) {
    if (Bits == 6) {
        slot3 = slot2 = slot1;
        slot1 = slot0;
    }
    const __m128i parts[] = {_mm_set1_epi16(slot0), _mm_set1_epi16(slot1), _mm_set1_epi16(slot2), _mm_set1_epi16(slot3)};
    __m512i lanes = _mm512_castsi128_si512(parts[0]);
    lanes = _mm512_inserti32x4(lanes, parts[1], 1);
    lanes = _mm512_inserti32x4(lanes, parts[2], 2);
    return _mm512_inserti32x4(lanes, parts[3], 3);
}

// Shifts between bit 4 of a value and its place in the high plane, for values 0..63 (towards the low end) and 64..127.
template <int Bits>
TARGET inline __m512i shift_first() {
    return Bits == 5 ? per_slot<Bits>(4, 3, 2, 1) : per_slot<Bits>(4, 2, 0, 0);
}
template <int Bits>
TARGET inline __m512i shift_second() {
    return Bits == 5 ? per_slot<Bits>(0, 1, 2, 3) : per_slot<Bits>(0, 2, 0, 0);
}

// mask ? a : b, bit by bit.
TARGET inline __m512i select(__m512i mask, __m512i a, __m512i b) { return _mm512_ternarylogic_epi64(mask, a, b, 0xCA); }

// a | (mask & b)
TARGET inline __m512i or_masked(__m512i a, __m512i mask, __m512i b) {
    return _mm512_ternarylogic_epi64(a, mask, b, 0xF8);
}

// The high plane of a block from u of its two halves.
template <int Bits>
TARGET inline void store_high(uint8_t* high, __m512i first, __m512i second) {
    const __m512i shifted_first = _mm512_srlv_epi16(first, shift_first<Bits>());
    const __m512i shifted_second = _mm512_sllv_epi16(second, shift_second<Bits>());
    const __m512i mask_first = Bits == 5 ? per_slot<Bits>(0x0101, 0x0202, 0x0404, 0x0808)
                                         : per_slot<Bits>(0x0303, 0x0C0C, 0, 0);
    const __m512i mask_second = _mm512_slli_epi16(mask_first, 4);
    const __m512i parts = or_masked(_mm512_and_si512(shifted_first, mask_first), mask_second, shifted_second);
    const __m256i pairs = _mm256_or_si256(_mm512_castsi512_si256(parts), _mm512_extracti64x4_epi64(parts, 1));
    if (Bits == 6) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), pairs);
    } else {
        const __m128i bits = _mm_or_si128(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(high), bits);
    }
}

template <int Bits>
TARGET inline __m512i load_high(const uint8_t* high) {
    if (Bits == 6) return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(high)));
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(high)));
}

template <int Bits>
TARGET bool pack_blocks(const int8_t* values, int64_t blocks, uint8_t* nibbles, uint8_t* high) {
    const __m512i low = _mm512_set1_epi8(0x0F), zero = _mm512_set1_epi8(static_cast<char>(offset(Bits)));
    __m512i seen = _mm512_setzero_si512();
    for (int64_t block = 0; block < blocks; block++) {
        const __m512i first = _mm512_add_epi8(_mm512_loadu_si512(values), zero);
        const __m512i second = _mm512_add_epi8(_mm512_loadu_si512(values + 64), zero);
        seen = _mm512_ternarylogic_epi64(seen, first, second, 0xFE);
        _mm512_storeu_si512(nibbles, select(low, first, _mm512_slli_epi16(second, 4)));
        store_high<Bits>(high, first, second);
        values += kBlock;
        nibbles += kNibbleBytes;
        high += high_bytes(Bits);
    }
    return _mm512_test_epi8_mask(seen, _mm512_set1_epi32(static_cast<int>(outside(Bits)))) == 0;
}

template <int Bits, bool Stream>
TARGET void unpack_loop(const uint8_t* nibbles, const uint8_t* high, int64_t blocks, int8_t* values) {
    const __m512i low = _mm512_set1_epi8(0x0F), zero = _mm512_set1_epi8(static_cast<char>(offset(Bits)));
    const __m512i top = _mm512_set1_epi8(Bits == 5 ? 0x10 : 0x30);
    for (int64_t block = 0; block < blocks; block++) {
        const __m512i nibble = _mm512_loadu_si512(nibbles), rest = load_high<Bits>(high);
        const __m512i first = _mm512_and_si512(_mm512_sllv_epi16(rest, shift_first<Bits>()), top);
        const __m512i second = _mm512_and_si512(_mm512_srlv_epi16(rest, shift_second<Bits>()), top);
        const __m512i q0 = _mm512_sub_epi8(or_masked(first, low, nibble), zero);
        const __m512i q1 = _mm512_sub_epi8(or_masked(second, low, _mm512_srli_epi16(nibble, 4)), zero);
        if (Stream) {
            _mm512_stream_si512(reinterpret_cast<__m512i*>(values), q0);
            _mm512_stream_si512(reinterpret_cast<__m512i*>(values + 64), q1);
        } else {
            _mm512_storeu_si512(values, q0);
            _mm512_storeu_si512(values + 64, q1);
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

const Path kAvx512 = {
    "avx512",   {pack_blocks<5>, pack_blocks<6>}, {unpack_blocks<5>, unpack_blocks<6>},
    to_float32, to_bfloat16,                      absmax,
    quantize,
};

}  // namespace golf::bitpack
#endif
