// Probability tables of the entropy coder, from integer arithmetic only: equal on every machine and compiler.
// docs/artifact.md ("The rans codec") defines every number here; golf_fast/compress/artifact/rans_numpy.py is the same in Python.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace golf::rans {

constexpr int kScaleBits = 15;
constexpr uint32_t kTotal = 1u << kScaleBits;  // frequencies of a table add up to this
constexpr int kContexts = 72;                  // context j stands for sigma = 2^(j/8 - 2)
constexpr int kMaxAlphabet = 256;
constexpr int kColMin = -24, kColMax = 23;  // a column's factor on sigma, in eighths of an octave
constexpr int kShapes = 10;

// Start of each symbol's interval in [0, kTotal]; one entry more than there are symbols.
using Cumulative = std::array<uint16_t, kMaxAlphabet + 1>;

// Symbol s of 0 to size - 1 stands for the value low + s * step.
struct Alphabet {
    int low, step, size;
};

// The discretised mixture of Gaussians for a context.
Cumulative parametric(int context, int shape, const Alphabet& alphabet);

// From a code for each symbol: 0 absent, else 2^(code/8). Returns false if all are absent or one is not in 0..127.
bool from_codes(const int8_t* codes, int bits, Cumulative& cumulative);

// code for each symbol, from counts of which at least one is not 0.
std::vector<int8_t> codes_of(const uint64_t* counts, int bits);

// Bits, in units of 2^-12, that a symbol of this frequency takes (1 to kTotal).
uint32_t cost(uint32_t frequency);

// The context whose second moment (times 2^14) is nearest to the given one, for an alphabet of 2^bits.
int context_of(uint64_t moment, int bits);

// floor(2^(eighths/8 + shift)), for results below 2^31.
uint32_t power_of_two(int eighths, int shift);

}  // namespace golf::rans
