// The path for any CPU: the element functions of layout.hpp, four values to a word, four words to a vector.
#include "bitpack.hpp"
#include "rows.hpp"

namespace golf::bitpack {
namespace {

uint32_t load(const void* from) {
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

void store(void* to, uint32_t word) { memcpy(to, &word, sizeof word); }

// Of GCC and clang, for whatever a CPU has: left to themselves they turn the loop over words into scalar code or not,
// depending on version and bits.
typedef uint32_t Vector __attribute__((vector_size(16)));
constexpr int kVector = sizeof(Vector);

template <int Bits>
bool pack_blocks(const int8_t* values, int64_t blocks, uint8_t* __restrict__ nibbles, uint8_t* __restrict__ high) {
    constexpr int stride = high_bytes(Bits);  // values between two slots of a byte of the high plane
    uint32_t seen = 0;
    for (int64_t block = 0; block < blocks; block++) {
        uint32_t u[kBlock / 4];
        for (int i = 0; i < kBlock / 4; i++) {
            u[i] = to_unsigned<Bits>(load(values + 4 * i));
            seen |= u[i];
        }
        for (int i = 0; i < 16; i++) store(nibbles + 4 * i, join_nibbles(u[i], u[i + 16]));
        for (int i = 0; i < stride / 4; i++) {
            uint32_t word = 0;
            for (int slot = 0; slot < kBlock / stride; slot++) word |= high_part<Bits>(u[i + slot * stride / 4], slot);
            store(high + 4 * i, word);
        }
        values += kBlock;
        nibbles += kNibbleBytes;
        high += stride;
    }
    return (seen & outside(Bits)) == 0;
}

template <int Bits>
void unpack_blocks(const uint8_t* __restrict__ nibbles, const uint8_t* __restrict__ high, int64_t blocks,
                   int8_t* __restrict__ values) {
    constexpr int stride = high_bytes(Bits);
    for (int64_t block = 0; block < blocks; block++) {
        Vector low[kNibbleBytes / kVector], top[stride / kVector];
        memcpy(low, nibbles, sizeof low);
        memcpy(top, high, sizeof top);
        for (int at = 0; at < kBlock; at += kVector) {
            const Vector nibble = low[at % kNibbleBytes / kVector], rest = top[at % stride / kVector];
            const Vector q = to_signed<Bits>(join_planes<Bits>(nibble, at / kNibbleBytes, rest, at / stride));
            memcpy(values + at, &q, sizeof q);
        }
        values += kBlock;
        nibbles += kNibbleBytes;
        high += stride;
    }
}

GOLF_BITPACK_ROWS()

}  // namespace

const Path kPortable = {
    "portable", {pack_blocks<5>, pack_blocks<6>}, {unpack_blocks<5>, unpack_blocks<6>},
    to_float32, to_bfloat16,                      absmax,
    quantize,
};

}  // namespace golf::bitpack
