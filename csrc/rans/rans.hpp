// Entropy coder for matrices of small integers: interleaved range ANS (Duda, arXiv 1311.2540; Giesen, arXiv 1402.3392)
// under probabilities that a matrix's row and column scales give. Blobs are defined in docs/artifact.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace golf::rans {

constexpr uint64_t kMaxValues = uint64_t{1} << 28;

// A blob that `encode` did not write.
struct Malformed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Shape {
    uint64_t rows, cols;
};

// values: rows * cols of them, each within [-2^(bits-1), 2^(bits-1) - 1]; bits from 2 to 8.
std::vector<uint8_t> encode(const int8_t* values, Shape shape, int bits);

// Writes `count` values, if the blob holds that many. Reads nothing outside the blob; throws Malformed.
void decode(const uint8_t* blob, size_t size, int8_t* values, uint64_t count);

}  // namespace golf::rans
