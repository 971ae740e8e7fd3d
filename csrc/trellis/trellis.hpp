// Trellis-coded quantization (Marcellin and Fischer, 1990): integers of a grid of half the usual step, of which the path
// through a trellis allows every second one at a time, so that an entropy coder pays for half of them.
// docs/compression.md has the theory; golf_fast/compress/integers/trellis_numpy.py computes the same bits.
#pragma once

#include <cstdint>

namespace golf::trellis {

// The trellis of 4 or 8 states. A path starts in state 0; state s allows integers of the parity s & 1, and the integer
// taken names the next state.
struct Trellis {
    int states;
    // 1 where the first branch is that of integers that are 2 or 3 modulo 4.
    int flip(int state) const { return (states == 4 ? 0b1100 : 0b00111100) >> state & 1; }
    int next(int state, int integer) const { return (2 * state + ((integer >> 1 & 1) ^ flip(state))) & (states - 1); }
};

// Matrices of equal shape, each row-major and one behind the other.
struct Problem {
    const float* weights;  // [matrices, rows, cols], finite
    const float* steps;    // [matrices, rows], above 0 and finite: what the integer 1 stands for
    const double* shrink;  // [matrices, rows], 0 or more: an integer q costs shrink * (q * step)^2 beside its error; or null
    uint64_t matrices, rows, cols;
};

// Down each column of each matrix, the path of least squared error (and cost of the integers): int8 [matrices, rows, cols].
// Every operation is one IEEE 754 double operation in a fixed order; of equal paths the one from the lower state is
// taken. `threads` share the columns, which changes no result.
void quantize(const Problem& problem, int states, int8_t* values, int threads);

}  // namespace golf::trellis
