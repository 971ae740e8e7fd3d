// Trellis-coded quantization (Marcellin and Fischer, 1990): integers of a grid of half the usual step, of which the path
// through a trellis allows every second one at a time, so that an entropy coder pays for half of them.
// docs/compression.md has the theory; golf_fast/compress/integers/trellis_numpy.py computes the same bits.
#pragma once

#include <cstdint>

#include "states.hpp"

namespace golf::trellis {

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
