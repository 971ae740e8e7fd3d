// From whole tensors to whole blocks, for any path.
#include "bitpack.hpp"

#include "layout.hpp"

namespace golf::bitpack {
namespace {

// Values that are unpacked at a time on the way to floats: they stay in the first-level cache.
constexpr int kChunk = 32 * kBlock;

uint8_t* high_plane(uint8_t* planes, int64_t n) { return planes + blocks_of(n) * kNibbleBytes; }
const uint8_t* high_plane(const uint8_t* planes, int64_t n) { return planes + blocks_of(n) * kNibbleBytes; }

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Takes values in the order of the tensor, in pieces of any length, and packs each block as it fills up.
class BlockWriter {
  public:
    BlockWriter(const Path& path, int bits, uint8_t* planes, int64_t n)
        : pack_(path.pack[bits - 5]), high_bytes_(high_bytes(bits)), nibbles_(planes), high_(high_plane(planes, n)) {}

    // Room for the next values, at most `room()` of them; `advance` says how many were written there.
    int8_t* next() { return staged_ + filled_; }
    int64_t room() const { return kChunk - filled_; }

    void advance(int64_t count) {
        filled_ += count;
        if (filled_ == kChunk) flush(kChunk / kBlock);
    }

    void finish() {
        const int64_t blocks = blocks_of(filled_);
        memset(staged_ + filled_, 0, static_cast<size_t>(blocks * kBlock - filled_));
        flush(blocks);
    }

  private:
    void flush(int64_t blocks) {
        pack_(staged_, blocks, nibbles_, high_);
        nibbles_ += blocks * kNibbleBytes;
        high_ += blocks * high_bytes_;
        filled_ = 0;
    }

    bool (*pack_)(const int8_t*, int64_t, uint8_t*, uint8_t*);
    int high_bytes_;
    uint8_t* nibbles_;
    uint8_t* high_;
    int64_t filled_ = 0;
    alignas(64) int8_t staged_[kChunk];
};

void dequantize_row_piece(const Path& path, const int8_t* values, int64_t n, float scale, Float type, void* out,
                          int64_t at) {
    if (type == Float::float32) {
        path.to_float32(values, n, scale, static_cast<float*>(out) + at);
    } else {
        path.to_bfloat16(values, n, scale, static_cast<uint16_t*>(out) + at);
    }
}

}  // namespace

const Path* const* paths() {
#ifdef GOLF_X86_64
    __builtin_cpu_init();
    static const bool avx2 = __builtin_cpu_supports("avx2");
    static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    static const Path* const found[] = {
        &kPortable,
        avx2 ? &kAvx2 : nullptr,
        avx512 ? &kAvx512 : nullptr,
        nullptr,
    };
#else
    static const Path* const found[] = {&kPortable, nullptr};
#endif
    return found;
}

bool pack(const Path& path, const int8_t* values, int64_t n, int bits, uint8_t* planes) {
    const int64_t whole = n / kBlock;
    uint8_t* high = high_plane(planes, n);
    bool in_range = path.pack[bits - 5](values, whole, planes, high);
    const int64_t rest = n - whole * kBlock;
    if (rest > 0) {
        alignas(64) int8_t last[kBlock] = {};
        memcpy(last, values + whole * kBlock, static_cast<size_t>(rest));
        in_range &= path.pack[bits - 5](last, 1, planes + whole * kNibbleBytes, high + whole * high_bytes(bits));
    }
    return in_range;
}

void unpack(const Path& path, const uint8_t* planes, int64_t n, int bits, int8_t* values) {
    const int64_t whole = n / kBlock;
    const uint8_t* high = high_plane(planes, n);
    path.unpack[bits - 5](planes, high, whole, values);
    const int64_t rest = n - whole * kBlock;
    if (rest > 0) {
        alignas(64) int8_t last[kBlock];
        path.unpack[bits - 5](planes + whole * kNibbleBytes, high + whole * high_bytes(bits), 1, last);
        memcpy(values + whole * kBlock, last, static_cast<size_t>(rest));
    }
}

void unpack_dequantize(const Path& path, const uint8_t* planes, const uint16_t* scales, int64_t rows, int64_t cols,
                       int bits, Float type, void* out) {
    const int64_t n = rows * cols;
    const uint8_t* high = high_plane(planes, n);
    alignas(64) int8_t values[kChunk];
    int64_t row = 0, row_end = cols;
    for (int64_t start = 0; start < n; start += kChunk) {
        const int64_t end = smaller(start + kChunk, n);
        const int64_t block = start / kBlock;
        path.unpack[bits - 5](planes + block * kNibbleBytes, high + block * high_bytes(bits), blocks_of(end - start),
                              values);
        for (int64_t at = start; at < end;) {
            if (at == row_end) {
                row++;
                row_end += cols;
            }
            const int64_t count = smaller(end, row_end) - at;
            dequantize_row_piece(path, values + (at - start), count, float_from_half(scales[row]), type, out, at);
            at += count;
        }
    }
}

void quantize_pack(const Path& path, const float* weights, int64_t rows, int64_t cols, int bits, bool floored,
                   uint8_t* planes, uint16_t* scales) {
    BlockWriter writer(path, bits, planes, rows * cols);
    for (int64_t row = 0; row < rows; row++) {
        const float* weight = weights + row * cols;
        scales[row] = row_scale(path.absmax(weight, cols), bits, floored);
        const float scale = float_from_half(scales[row]);
        for (int64_t done = 0; done < cols;) {
            const int64_t count = smaller(cols - done, writer.room());
            path.quantize(weight + done, count, scale, bits, writer.next());
            writer.advance(count);
            done += count;
        }
    }
    writer.finish();
}

}  // namespace golf::bitpack
