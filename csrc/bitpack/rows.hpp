// What the paths share: loops over floats, which each path compiles (and the compiler vectorizes) for its own instruction
// set, and the choice between plain and streaming stores.
#pragma once

#include "layout.hpp"

namespace golf::bitpack {

// Output of at least 8 MiB is streamed past the caches: it is too large to be found there afterwards, and a plain store
// would first read the line that it is about to replace. Streaming stores want aligned addresses.
GOLF_HOST_DEVICE bool worth_streaming(const int8_t* values, int64_t blocks) {
    return blocks * kBlock >= (int64_t{8} << 20) && reinterpret_cast<uintptr_t>(values) % 64 == 0;
}

GOLF_HOST_DEVICE void to_float32_loop(const int8_t* values, int64_t n, float scale, float* __restrict__ out) {
    for (int64_t i = 0; i < n; i++) out[i] = static_cast<float>(values[i]) * scale;
}

GOLF_HOST_DEVICE void to_bfloat16_loop(const int8_t* values, int64_t n, float scale, uint16_t* __restrict__ out) {
    for (int64_t i = 0; i < n; i++) out[i] = bfloat16_from_float(static_cast<float>(values[i]) * scale);
}

GOLF_HOST_DEVICE uint32_t absmax_loop(const float* weights, int64_t n) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t magnitude = magnitude_bits(weights[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

GOLF_HOST_DEVICE void quantize_loop(const float* weights, int64_t n, float scale, int bits, int8_t* __restrict__ out) {
    const float lowest = static_cast<float>(-offset(bits));
    const float highest = static_cast<float>(offset(bits) - 1);
    for (int64_t i = 0; i < n; i++) out[i] = quantized(weights[i], scale, lowest, highest);
}

// Defines the four functions of a Path for the instruction set that TARGET names.
#define GOLF_BITPACK_ROWS(TARGET)                                                                              \
    TARGET void to_float32(const int8_t* values, int64_t n, float scale, float* out) {                         \
        to_float32_loop(values, n, scale, out);                                                                \
    }                                                                                                          \
    TARGET void to_bfloat16(const int8_t* values, int64_t n, float scale, uint16_t* out) {                     \
        to_bfloat16_loop(values, n, scale, out);                                                               \
    }                                                                                                          \
    TARGET uint32_t absmax(const float* weights, int64_t n) { return absmax_loop(weights, n); }                \
    TARGET void quantize(const float* weights, int64_t n, float scale, int bits, int8_t* values) {             \
        quantize_loop(weights, n, scale, bits, values);                                                        \
    }

}  // namespace golf::bitpack
