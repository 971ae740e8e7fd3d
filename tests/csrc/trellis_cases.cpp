// csrc/trellis/ under sanitizers: odd shapes, extreme numbers, any number of threads; each result is walked.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "trellis.hpp"

using golf::trellis::Problem;
using golf::trellis::Trellis;

// A block under GPTQ with no error fed back is the matrix itself, whatever the number of threads.
bool block_is_matrix(const Problem& problem, int states, const std::vector<int8_t>& values, int threads) {
    const uint64_t width = problem.cols, rows = problem.rows, size = problem.matrices * width * rows;
    std::vector<float> turned(size), factor(problem.matrices * width * width), errors(size);
    std::vector<int8_t> found(size);
    for (uint64_t m = 0; m < problem.matrices; m++) {
        for (uint64_t j = 0; j < width; j++) {
            factor[(m * width + j) * width + j] = 1;
            for (uint64_t i = 0; i < rows; i++) {
                turned[(m * width + j) * rows + i] = problem.weights[(m * rows + i) * width + j];
            }
        }
    }
    const golf::trellis::Block block{turned.data(),    factor.data(), problem.steps, problem.shrink,
                                     problem.matrices, width,         rows};
    golf::trellis::quantize_block(block, states, found.data(), errors.data(), threads);
    for (uint64_t at = 0; at < size; at++) {
        const uint64_t m = at / (width * rows), j = at / rows % width, i = at % rows;
        if (found[at] != values[(m * rows + i) * width + j]) return false;
    }
    return true;
}

int main() {
    std::mt19937_64 random(1);
    std::normal_distribution<double> normal;
    for (int round = 0; round < 200; round++) {
        const uint64_t matrices = 1 + random() % 3, rows = random() % 40, cols = random() % 50;
        const double size = std::exp2(static_cast<double>(random() % 240) - 120);
        std::vector<float> weights(matrices * rows * cols), steps(matrices * rows);
        std::vector<double> shrink(matrices * rows, static_cast<double>(random() % 3) / 2);
        for (float& weight : weights) weight = static_cast<float>(normal(random) * size);
        for (float& step : steps) step = static_cast<float>(std::exp2(static_cast<double>(random() % 200) - 100));
        const Problem problem{weights.data(), steps.data(), round % 2 ? shrink.data() : nullptr, matrices, rows, cols};
        for (int states : {4, 8}) {
            std::vector<int8_t> values(weights.size()), again(weights.size());
            golf::trellis::quantize(problem, states, values.data(), 1);
            golf::trellis::quantize(problem, states, again.data(), 1 + static_cast<int>(random() % 5));
            if (values != again) {
                std::puts("threads changed a result");
                return 1;
            }
            if (!block_is_matrix(problem, states, values, 1 + static_cast<int>(random() % 4))) {
                std::puts("a block is not its matrix");
                return 1;
            }
            const Trellis trellis{states};
            for (uint64_t column = 0; column < matrices * cols; column++) {
                int state = 0;
                for (uint64_t i = 0; i < rows; i++) {
                    const int value = values[(column / cols * rows + i) * cols + column % cols];
                    if ((value ^ state) & 1) {
                        std::puts("not a path");
                        return 1;
                    }
                    state = trellis.next(state, value);
                }
            }
        }
    }
    std::puts("every column is a path");
}
