#include "model.hpp"

#include <algorithm>
#include <array>

namespace golf::rans {
namespace {

// counts[context << bits | symbol]
using Histogram = std::vector<uint64_t>;

// The second moments of the rows, each value divided by its column's factor, as contexts.
std::vector<uint8_t> fit_rows(const int8_t* values, Shape shape, int bits, const std::vector<int8_t>& cols) {
    std::vector<uint32_t> weight(shape.cols);
    for (uint64_t j = 0; j < shape.cols; j++) weight[j] = power_of_two(-2 * cols[j], 14);
    std::vector<uint8_t> rows(shape.rows);
    for (uint64_t i = 0; i < shape.rows; i++) {
        const int8_t* row = values + i * shape.cols;
        uint64_t sum = 0;
        for (uint64_t j = 0; j < shape.cols; j++) sum += uint64_t{static_cast<uint32_t>(row[j] * row[j])} * weight[j];
        rows[i] = static_cast<uint8_t>(context_of(sum / shape.cols, bits));
    }
    return rows;
}

// The second moments of the columns, each value divided by its row's sigma, in eighths of an octave.
std::vector<int8_t> fit_cols(const int8_t* values, Shape shape, const std::vector<uint8_t>& rows) {
    std::array<uint64_t, kColMax - kColMin> thresholds;
    for (int c = kColMin + 1; c <= kColMax; c++) thresholds[c - kColMin - 1] = power_of_two(2 * c - 1, 20);
    std::vector<uint64_t> sums(shape.cols);
    for (uint64_t i = 0; i < shape.rows; i++) {
        const int8_t* row = values + i * shape.cols;
        const uint32_t weight = power_of_two(-2 * rows[i], 24);
        for (uint64_t j = 0; j < shape.cols; j++) sums[j] += uint64_t{static_cast<uint32_t>(row[j] * row[j])} * weight;
    }
    std::vector<int8_t> cols(shape.cols);
    for (uint64_t j = 0; j < shape.cols; j++) {
        const auto above = std::upper_bound(thresholds.begin(), thresholds.end(), sums[j] / shape.rows);
        cols[j] = static_cast<int8_t>(kColMin + (above - thresholds.begin()));
    }
    return cols;
}

Histogram count(const int8_t* values, Shape shape, const Model& model) {
    Histogram histogram(size_t{kContexts} << model.bits);
    const int half = 1 << (model.bits - 1);
    for (uint64_t i = 0; i < shape.rows; i++) {
        const int8_t* row = values + i * shape.cols;
        for (uint64_t j = 0; j < shape.cols; j++) {
            const int context = clamp_context(model.rows[i] + model.cols[j]);
            histogram[(context << model.bits) + row[j] + half]++;
        }
    }
    return histogram;
}

uint64_t cost_of(const Histogram& histogram, const Model& model, const std::vector<bool>& used) {
    const std::vector<Cumulative> tables = model.tables(used);
    const int alphabet = 1 << model.bits;
    uint64_t bits12 = 0;
    for (int context = 0; context < kContexts; context++) {
        if (!used[context]) continue;
        const uint64_t* counts = &histogram[context << model.bits];
        const Cumulative& table = tables[context];
        for (int s = 0; s < alphabet; s++) {
            if (counts[s]) bits12 += counts[s] * cost(table[s + 1] - table[s]);
        }
    }
    return bits12;
}

// Picks the model's mixture; of equals the first.
Candidate with_best_mixture(Model model, const Histogram& histogram) {
    const std::vector<bool> used = model.used();
    uint64_t least = UINT64_MAX;
    int best = 0;
    for (model.mixture = 0; model.mixture < kShapes; model.mixture++) {
        const uint64_t bits12 = cost_of(histogram, model, used);
        if (bits12 < least) {
            least = bits12;
            best = model.mixture;
        }
    }
    model.mixture = best;
    return {std::move(model), least};
}

}  // namespace

std::vector<bool> Model::used() const {
    std::vector<bool> row_marks(kContexts), col_marks(kColMax - kColMin + 1), marks(kContexts);
    for (uint8_t context : rows) row_marks[context] = true;
    for (int8_t factor : cols) col_marks[factor - kColMin] = true;
    for (int context = 0; context < kContexts; context++) {
        for (int factor = kColMin; factor <= kColMax; factor++) {
            if (row_marks[context] && col_marks[factor - kColMin]) marks[clamp_context(context + factor)] = true;
        }
    }
    return marks;
}

std::vector<Cumulative> Model::tables(const std::vector<bool>& used) const {
    std::vector<Cumulative> made(kContexts);
    if (kind == Kind::histogram) {
        if (!from_codes(codes.data(), bits, made[0])) throw Malformed("a histogram without symbols");
        return made;
    }
    for (int j = 0; j < kContexts; j++) {
        if (used[j]) made[j] = parametric(j, mixture, bits);
    }
    return made;
}

std::vector<Candidate> candidates(const int8_t* values, Shape shape, int bits, bool nested) {
    std::vector<Candidate> found;
    Model histogram(Kind::histogram, bits, shape);
    const Histogram counts = count(values, shape, histogram);
    uint64_t moment = 0;
    for (int s = 0; s < 1 << bits; s++) {
        const int value = s - (1 << (bits - 1));
        moment += counts[s] * static_cast<uint64_t>(value * value);
    }
    const int context = context_of((moment << 14) / (shape.rows * shape.cols), bits);
    Histogram moved(counts.size());
    std::copy_n(counts.begin(), 1 << bits, moved.begin() + (context << bits));
    found.push_back(with_best_mixture(Model(Kind::global, bits, shape, context), moved));
    if (nested) return found;
    if (shape.rows > 1) {
        Model scaled(Kind::row, bits, shape);
        scaled.rows = fit_rows(values, shape, bits, scaled.cols);
        found.push_back(with_best_mixture(scaled, count(values, shape, scaled)));
        if (shape.cols > 1) {
            scaled.kind = Kind::rank1;
            for (int round = 0; round < 2; round++) {
                scaled.cols = fit_cols(values, shape, scaled.rows);
                scaled.rows = fit_rows(values, shape, bits, scaled.cols);
            }
            found.push_back(with_best_mixture(scaled, count(values, shape, scaled)));
        }
    }
    histogram.codes = codes_of(counts.data(), bits);
    const uint64_t bits12 = cost_of(counts, histogram, histogram.used());
    found.push_back({std::move(histogram), bits12});
    return found;
}

}  // namespace golf::rans
