// The layout of packed int5 and int6 values, and the element functions that C++ and CUDA share.
//
// A value q of b bits, -2^(b-1) <= q < 2^(b-1), is stored as u = q + 2^(b-1), without a sign. The low four bits of all
// values make up the nibble plane; the other h = b - 4 bits (1 or 2) the high plane, which follows it in memory.
//
// Values go in blocks of 128. A plane of w bits a value takes 16 w bytes a block, and value i of a block is in
// byte i mod 16w of them, at bit w * floor(i / 16w):
//
//   nibble plane, 64 bytes a block: byte j holds values j, j + 64
//   2-bit plane,  32 bytes a block: byte j holds values j, j + 32, j + 64, j + 96
//   1-bit plane,  16 bytes a block: byte j holds values j, j + 16, ..., j + 112      (lowest bits first)
//
// so neighbouring values are neighbouring bytes, and a vector of any width is read with one shift and one mask.
//
// n values take ceil(n / 128) blocks: 80 bytes each for int5, 96 for int6. Unused places of the
// last block are packed as q = 0 and ignored when they are unpacked. A tensor is packed as its flattened values; rows have no
// padding of their own.
#pragma once

#include <cstdint>
#include <cstring>

#include "../host_device.hpp"

namespace golf::bitpack {

constexpr int kBlock = 128;       // values of a block
constexpr int kNibbleBytes = 64;  // bytes of a block in the nibble plane

GOLF_HOST_DEVICE constexpr int high_bits(int bits) { return bits - 4; }
GOLF_HOST_DEVICE constexpr int high_bytes(int bits) { return 16 * high_bits(bits); }  // bytes of a block in the high plane
GOLF_HOST_DEVICE constexpr int offset(int bits) { return 1 << (bits - 1); }  // u - q

GOLF_HOST_DEVICE int64_t blocks_of(int64_t n) { return (n + kBlock - 1) / kBlock; }

// The byte repeated in a word: what follows handles four neighbouring values at a time, one in each byte. A Word is a
// uint32_t, or a vector of them.
GOLF_HOST_DEVICE constexpr uint32_t four(uint32_t byte) { return byte * 0x01010101u; }

// Bits of u outside the range of `bits`; anything there says that a value was out of range.
GOLF_HOST_DEVICE constexpr uint32_t outside(int bits) { return four(0xFFu & ~((1u << bits) - 1)); }

// q (int8) to u, byte by byte; out-of-range values set bits in `outside`.
template <int Bits>
GOLF_HOST_DEVICE uint32_t to_unsigned(uint32_t q) {
    return ((q & four(0x7F)) + four(offset(Bits))) ^ (q & four(0x80));
}

// u in range to q (int8).
template <int Bits, typename Word>
GOLF_HOST_DEVICE Word to_signed(Word u) {
    return ((u | four(0x80)) - four(offset(Bits))) ^ four(0x80);
}

// Two words of u, of the values at i and i + 64, to a word of the nibble plane.
GOLF_HOST_DEVICE uint32_t join_nibbles(uint32_t u, uint32_t u64) {
    return (u & four(0x0F)) | ((u64 & four(0x0F)) << 4);
}

// What a word of u contributes to the high plane, at slot floor(i / 16h) of its bytes.
template <int Bits>
GOLF_HOST_DEVICE uint32_t high_part(uint32_t u, int slot) {
    constexpr int h = high_bits(Bits);
    return ((u >> 4) & four((1u << h) - 1)) << (h * slot);
}

// A word of the nibble plane (half 0 or 1: values i or i + 64) and one of the high plane, at its slot, to a word of u.
template <int Bits, typename Word>
GOLF_HOST_DEVICE Word join_planes(Word nibbles, int half, Word high, int slot) {
    constexpr int h = high_bits(Bits);
    return ((nibbles >> (4 * half)) & four(0x0F)) | (((high >> (h * slot)) & four((1u << h) - 1)) << 4);
}

template <typename To, typename From>
GOLF_HOST_DEVICE To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

// IEEE half precision, rounded half to even; NaN stays NaN, what is too large becomes infinite.
GOLF_HOST_DEVICE uint16_t half_from_float(float value) {
    uint32_t x = bit_cast<uint32_t>(value);
    const uint32_t sign = (x >> 16) & 0x8000u;
    x &= 0x7FFFFFFFu;
    if (x > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u);
    if (x >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // 65520 and above
    if (x < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the subnormal half in the low bits of the sum, rounded
        const float sum = bit_cast<float>(x) + 0.5f;
        return static_cast<uint16_t>(sign | (bit_cast<uint32_t>(sum) - 0x3F000000u));
    }
    const uint32_t odd = (x >> 13) & 1u;
    return static_cast<uint16_t>(sign | ((x - 0x38000000u + 0x0FFFu + odd) >> 13));
}

GOLF_HOST_DEVICE float float_from_half(uint16_t half) {
    const uint32_t sign = (half & 0x8000u) << 16;
    const uint32_t x = half & 0x7FFFu;
    if (x >= 0x7C00u) return bit_cast<float>(sign | 0x7F800000u | ((x & 0x03FFu) << 13));
    if (x >= 0x0400u) return bit_cast<float>(sign | ((x << 13) + 0x38000000u));
    const float magnitude = static_cast<float>(x) * 5.9604644775390625e-08f;  // 2^-24
    return bit_cast<float>(sign | bit_cast<uint32_t>(magnitude));
}

// bfloat16, rounded half to even; every NaN becomes the same quiet one.
GOLF_HOST_DEVICE uint16_t bfloat16_from_float(float value) {
    const uint32_t x = bit_cast<uint32_t>(value);
    const uint32_t rounded = (x + 0x7FFFu + ((x >> 16) & 1u)) >> 16;
    return static_cast<uint16_t>((x & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : rounded);
}

// Bits of |value|; unsigned comparison orders them by magnitude, with NaN above everything.
GOLF_HOST_DEVICE uint32_t magnitude_bits(float value) { return bit_cast<uint32_t>(value) & 0x7FFFFFFFu; }

// The fp16 scale of a row from the bits of its largest magnitude. `floored` rows (those of a matrix) have a scale of at
// least 2^-14, the smallest normal half.
GOLF_HOST_DEVICE uint16_t row_scale(uint32_t absmax, int bits, bool floored) {
    float scale = bit_cast<float>(absmax) / static_cast<float>(offset(bits) - 1);
    if (scale < 1e-12f) scale = 1e-12f;  // false for NaN, which is passed on
    const uint16_t half = half_from_float(scale);
    return floored && half < 0x0400u ? static_cast<uint16_t>(0x0400u) : half;
}

// round_half_even(weight / scale) clamped to the range of `bits`; 0 / 0 is 0.
GOLF_HOST_DEVICE int8_t quantized(float weight, float scale, float lowest, float highest) {
    float ratio = weight / scale;
    ratio = ratio == ratio ? ratio : 0.0f;
    ratio = ratio < lowest ? lowest : ratio;
    ratio = ratio > highest ? highest : ratio;
    const float integer = (ratio + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23, where floats are whole numbers
    return static_cast<int8_t>(static_cast<int32_t>(integer));
}

}  // namespace golf::bitpack
