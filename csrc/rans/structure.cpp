#include "structure.hpp"

#include <algorithm>

#include "model.hpp"

namespace golf::rans {
namespace {

constexpr uint64_t kTries = 64;    // rows that are tried as a template
constexpr uint64_t kColumns = 64;  // approximate number of columns that are compared for each of them
constexpr int kRefinements = 3;

uint64_t distance(const int8_t* a, const int8_t* b, uint64_t cols, uint64_t stride) {
    uint64_t sum = 0;
    for (uint64_t j = 0; j < cols; j += stride) {
        const int difference = a[j] - b[j];
        sum += static_cast<uint32_t>(difference * difference);
    }
    return sum;
}

// The row for which the most rows have a squared distance below half of their own squared length.
uint64_t best_row(const int8_t* values, Shape shape) {
    const uint64_t stride = std::max<uint64_t>(shape.cols / kColumns, 1), tries = std::min(shape.rows, kTries);
    const std::vector<int8_t> zeros(shape.cols);
    std::vector<uint64_t> own(shape.rows);
    for (uint64_t i = 0; i < shape.rows; i++) own[i] = distance(values + i * shape.cols, zeros.data(), shape.cols, stride);
    uint64_t best = 0, most = 0;
    for (uint64_t k = 0; k < tries; k++) {
        const uint64_t row = k * shape.rows / tries;
        uint64_t near = 0;
        for (uint64_t i = 0; i < shape.rows; i++) {
            near += 2 * distance(values + i * shape.cols, values + row * shape.cols, shape.cols, stride) < own[i];
        }
        if (near > most) {
            most = near;
            best = row;
        }
    }
    return best;
}

// The mean of the members, halves up.
std::vector<int8_t> mean_of(const int8_t* values, Shape shape, const std::vector<int8_t>& members, int64_t count) {
    std::vector<int64_t> sums(shape.cols);
    for (uint64_t i = 0; i < shape.rows; i++) {
        if (!members[i]) continue;
        for (uint64_t j = 0; j < shape.cols; j++) sums[j] += values[i * shape.cols + j];
    }
    std::vector<int8_t> mean(shape.cols);
    for (uint64_t j = 0; j < shape.cols; j++) {
        mean[j] = static_cast<int8_t>((2 * sums[j] + 257 * count) / (2 * count) - 128);  // above 0 before it is divided
    }
    return mean;
}

// Whether no difference is beyond 8 bits.
bool fits(const int8_t* row, const int8_t* template_row, uint64_t cols) {
    bool all = true;
    for (uint64_t j = 0; j < cols; j++) {
        const int difference = row[j] - template_row[j];
        all &= difference <= 127 && difference >= -128;
    }
    return all;
}

}  // namespace

int states_of(const int8_t* values, Shape shape) {
    for (const int states : {8, 4}) {
        const trellis::Trellis trellis{states};
        std::vector<uint8_t> state(shape.cols);
        int wrong = 0, any = 0;
        for (uint64_t i = 0; i < shape.rows && !wrong; i++) {
            for (uint64_t j = 0; j < shape.cols; j++) {
                const int value = values[i * shape.cols + j];
                wrong |= (value ^ state[j]) & 1;
                any |= value & 1;
                state[j] = static_cast<uint8_t>(trellis.next(state[j], value));
            }
        }
        if (any && !wrong) return states;
    }
    return 0;
}

Alike alike_rows(const int8_t* values, Shape shape) {
    const uint64_t cols = shape.cols;
    const std::vector<int8_t> zeros(cols);
    const int8_t* first = values + best_row(values, shape) * cols;
    Alike alike{{first, first + cols}, std::vector<int8_t>(shape.rows)};
    for (int round = 0; round <= kRefinements; round++) {
        // The last round also takes rows that gain little, since the list of members costs almost nothing.
        const uint64_t gain = round < kRefinements ? 4 : 7;
        int64_t count = 0;
        for (uint64_t i = 0; i < shape.rows; i++) {
            const int8_t* row = values + i * cols;
            alike.members[i] = 8 * distance(row, alike.template_row.data(), cols, 1) <
                                   gain * distance(row, zeros.data(), cols, 1) &&
                               fits(row, alike.template_row.data(), cols);
            count += alike.members[i];
        }
        if (count < 2) return {};
        if (round < kRefinements) alike.template_row = mean_of(values, shape, alike.members, count);
    }
    return alike;
}

std::vector<int8_t> residuals(const int8_t* values, Shape shape, const Alike& alike) {
    std::vector<int8_t> left(values, values + shape.rows * shape.cols);
    for (uint64_t i = 0; i < shape.rows; i++) {
        if (!alike.members[i]) continue;
        int8_t* row = left.data() + i * shape.cols;
        for (uint64_t j = 0; j < shape.cols; j++) row[j] = static_cast<int8_t>(row[j] - alike.template_row[j]);
    }
    return left;
}

}  // namespace golf::rans
