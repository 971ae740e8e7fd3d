#include "trellis.hpp"

#include <algorithm>
#include <future>
#include <limits>
#include <vector>

namespace golf::trellis {
namespace {

constexpr int kSubsets = 4;  // integers modulo 4
constexpr uint64_t kColumnsAtOnce = 16;

// The nearest integer to one of at most 2^50, ties to even, without a call or a branch.
inline double nearest(double x) {
    constexpr double kOneAndAHalf = 6755399441055744.0;  // 2^52 + 2^51: its last bit is worth 1
    return (x + kOneAndAHalf) - kOneAndAHalf;
}

// For one value of a column: the best integer of each subset, and the cost of taking it.
struct Choice {
    double cost[kSubsets];
    int8_t integer[kSubsets];
};

Choice choose(double weight, double step, double shrink) {
    Choice choice;
    const double target = std::clamp(weight / (step * (1.0 + shrink)), -1024.0, 1024.0);
    for (int subset = 0; subset < kSubsets; subset++) {
        const double quad = std::clamp(nearest((target - subset) * 0.25), -32.0, 31.0);
        const double integer = quad * 4.0 + subset, value = integer * step, error = weight - value;
        choice.cost[subset] = error * error + shrink * (value * value);
        choice.integer[subset] = static_cast<int8_t>(integer);
    }
    return choice;
}

// Viterbi's algorithm for one column at a time.
template <int kStates>
class Column {
public:
    explicit Column(uint64_t rows) : kept_(rows) {}

    void solve(const float* weights, const float* steps, const double* shrink, int8_t* values) {
        double costs[kStates];
        std::fill(costs, costs + kStates, std::numeric_limits<double>::infinity());
        costs[0] = 0;
        for (uint64_t i = 0; i < kept_.size(); i++) {
            const Choice choice = choose(weights[i], steps[i], shrink ? shrink[i] : 0.0);
            kept_[i].from = advance(choice.cost, costs);
            std::copy_n(choice.integer, kSubsets, kept_[i].integer);
        }
        int state = static_cast<int>(std::min_element(costs, costs + kStates) - costs);
        for (uint64_t i = kept_.size(); i-- > 0;) {
            const int branch = state & 1;
            state = state / 2 + (kept_[i].from >> state & 1) * (kStates / 2);
            values[i] = kept_[i].integer[subset_of(state, branch)];
        }
    }

private:
    struct Kept {
        uint8_t from;  // bit s: whether state s is reached from the higher of the two states that lead there
        int8_t integer[kSubsets];
    };

    static constexpr Trellis kTrellis{kStates};
    static int subset_of(int state, int branch) { return (state & 1) + 2 * (branch ^ kTrellis.flip(state)); }

    // States s/2 and s/2 + kStates/2 lead to state s, both by branch s & 1.
    static uint8_t advance(const double* by_subset, double* costs) {
        double after[kStates];
        int from = 0;
#pragma GCC unroll 8
        for (int state = 0; state < kStates; state++) {
            const int low = state / 2, high = low + kStates / 2, branch = state & 1;
            const double by_low = costs[low] + by_subset[subset_of(low, branch)];
            const double by_high = costs[high] + by_subset[subset_of(high, branch)];
            from |= (by_high < by_low) << state;
            after[state] = by_high < by_low ? by_high : by_low;
        }
        std::copy_n(after, kStates, costs);
        return static_cast<uint8_t>(from);
    }

    std::vector<Kept> kept_;
};

// Columns `begin` to `end`, counted over all matrices.
template <int kStates>
void solve(const Problem& problem, uint64_t begin, uint64_t end, int8_t* values) {
    const uint64_t rows = problem.rows, cols = problem.cols;
    Column<kStates> column(rows);
    // kColumnsAtOnce columns are transposed together, so that neighbours in memory are read and written together.
    std::vector<float> weights(kColumnsAtOnce * rows);
    std::vector<int8_t> integers(kColumnsAtOnce * rows);
    while (begin < end) {
        const uint64_t matrix = begin / cols, first = begin % cols;
        const uint64_t count = std::min({end - begin, cols - first, kColumnsAtOnce});
        const uint64_t corner = matrix * rows * cols + first;
        for (uint64_t i = 0; i < rows; i++) {
            for (uint64_t j = 0; j < count; j++) weights[j * rows + i] = problem.weights[corner + i * cols + j];
        }
        const double* shrink = problem.shrink ? problem.shrink + matrix * rows : nullptr;
        for (uint64_t j = 0; j < count; j++) {
            column.solve(&weights[j * rows], problem.steps + matrix * rows, shrink, &integers[j * rows]);
        }
        for (uint64_t i = 0; i < rows; i++) {
            for (uint64_t j = 0; j < count; j++) values[corner + i * cols + j] = integers[j * rows + i];
        }
        begin += count;
    }
}

// Matrices `begin` to `end` of a block.
template <int kStates>
void solve(const Block& block, uint64_t begin, uint64_t end, int8_t* values, float* errors) {
    const uint64_t rows = block.rows, width = block.width;
    Column<kStates> column(rows);
    for (uint64_t matrix = begin; matrix < end; matrix++) {
        float* weights = block.weights + matrix * width * rows;
        const float* factor = block.factor + matrix * width * width;
        const float* steps = block.steps + matrix * rows;
        const double* shrink = block.shrink ? block.shrink + matrix * rows : nullptr;
        for (uint64_t j = 0; j < width; j++) {
            const uint64_t at = (matrix * width + j) * rows;
            const float *weight = weights + j * rows, diagonal = factor[j * width + j];
            column.solve(weight, steps, shrink, values + at);
            float* error = errors + at;
            for (uint64_t i = 0; i < rows; i++) {
                error[i] = (weight[i] - static_cast<float>(values[at + i]) * steps[i]) / diagonal;
            }
            for (uint64_t k = j + 1; k < width; k++) {
                const float share = factor[j * width + k];
                float* left = weights + k * rows;
                for (uint64_t i = 0; i < rows; i++) left[i] -= share * error[i];
            }
        }
    }
}

// work(begin, end) for consecutive pieces of the range from 0 to `count`, of about equal size, each on a thread of its
// own, this one among them. An exception of a piece is thrown here once all threads have ended.
template <typename Work>
void share_out(uint64_t count, int threads, const Work& work) {
    const uint64_t workers = std::clamp<uint64_t>(static_cast<uint64_t>(std::max(threads, 1)), 1, count);
    std::vector<std::future<void>> helpers;  // their destructors wait, also where an exception leaves this function
    helpers.reserve(workers - 1);
    for (uint64_t worker = 1; worker < workers; worker++) {
        const uint64_t begin = count * worker / workers, end = count * (worker + 1) / workers;
        helpers.push_back(std::async(std::launch::async, [&work, begin, end] { work(begin, end); }));
    }
    work(0, count / workers);
    for (std::future<void>& helper : helpers) helper.get();
}

}  // namespace

void quantize(const Problem& problem, int states, int8_t* values, int threads) {
    const uint64_t columns = problem.matrices * problem.cols;
    if (columns == 0 || problem.rows == 0) return;
    share_out(columns, threads, [&](uint64_t begin, uint64_t end) {
        states == 4 ? solve<4>(problem, begin, end, values) : solve<8>(problem, begin, end, values);
    });
}

void quantize_block(const Block& block, int states, int8_t* values, float* errors, int threads) {
    if (block.matrices == 0) return;
    share_out(block.matrices, threads, [&](uint64_t begin, uint64_t end) {
        states == 4 ? solve<4>(block, begin, end, values, errors) : solve<8>(block, begin, end, values, errors);
    });
}

}  // namespace golf::trellis
