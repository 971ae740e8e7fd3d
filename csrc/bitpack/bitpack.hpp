// Packing int5 and int6 values on the CPU and on CUDA. Layout, padding and arithmetic: layout.hpp.
//
// `bits` is 5 or 6. Scales are IEEE halves. A matrix is [rows, cols], row by row, with one scale a row.
#pragma once

#include <cstdint>

namespace golf::bitpack {

enum class Float { float32, bfloat16 };

// One way to run the inner loops on this CPU. All give the same bytes. Arrays of two are for int5 and int6.
struct Path {
    const char* name;
    // Whole blocks; false if a value was out of range.
    bool (*pack[2])(const int8_t* values, int64_t blocks, uint8_t* nibbles, uint8_t* high);
    void (*unpack[2])(const uint8_t* nibbles, const uint8_t* high, int64_t blocks, int8_t* values);
    // out = float(values) * scale
    void (*to_float32)(const int8_t* values, int64_t n, float scale, float* out);
    void (*to_bfloat16)(const int8_t* values, int64_t n, float scale, uint16_t* out);
    uint32_t (*absmax)(const float* weights, int64_t n);  // magnitude_bits of the largest
    void (*quantize)(const float* weights, int64_t n, float scale, int bits, int8_t* values);
};

extern const Path kPortable;
#if defined(__x86_64__) && !defined(GOLF_PORTABLE_ONLY)
#define GOLF_X86_64 1
extern const Path kAvx2;
extern const Path kAvx512;
#endif

// The paths that this CPU can run, slowest first, ended by nullptr.
const Path* const* paths();

// False, with `planes` written all the same, if a value was out of range.
bool pack(const Path& path, const int8_t* values, int64_t n, int bits, uint8_t* planes);
void unpack(const Path& path, const uint8_t* planes, int64_t n, int bits, int8_t* values);
void unpack_dequantize(const Path& path, const uint8_t* planes, const uint16_t* scales, int64_t rows, int64_t cols,
                       int bits, Float type, void* out);
void quantize_pack(const Path& path, const float* weights, int64_t rows, int64_t cols, int bits, bool floored,
                   uint8_t* planes, uint16_t* scales);

// The same on a CUDA stream; pointers are of the device and divisible by 16. They return a cudaError_t and do not wait.
namespace cuda {
// *out_of_range becomes 1 if a value was out of range.
int pack(const int8_t* values, int64_t n, int bits, uint8_t* planes, int32_t* out_of_range, void* stream);
int unpack(const uint8_t* planes, int64_t n, int bits, int8_t* values, void* stream);
int unpack_dequantize(const uint8_t* planes, const uint16_t* scales, int64_t rows, int64_t cols, int bits, Float type,
                      void* out, void* stream);
int quantize_pack(const float* weights, int64_t rows, int64_t cols, int bits, bool floored, uint8_t* planes,
                  uint16_t* scales, void* stream);
}  // namespace cuda

}  // namespace golf::bitpack
