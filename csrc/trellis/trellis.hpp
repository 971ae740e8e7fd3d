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

// A block of columns under GPTQ (arXiv 2210.17323, section 3.3), columns as rows.
struct Block {
    float* weights;       // [matrices, width, rows], finite; changed as errors come in
    const float* factor;  // [matrices, width, width], upper-triangular factor of the inverse Hessian
    const float* steps;   // [matrices, rows]
    const double* shrink; // [matrices, rows] or null
    uint64_t matrices, width, rows;
};

// One column after the other: its path of least cost, and its errors, which the columns behind it in the block make up
// for; int8 and float [matrices, width, rows]. `threads` share the matrices. One IEEE 754 operation after the other, floats
// but for the search of the path.
void quantize_block(const Block& block, int states, int8_t* values, float* errors, int threads);

}  // namespace golf::trellis
