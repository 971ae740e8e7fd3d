#include "model.hpp"

#include <algorithm>
#include <array>

#include "structure.hpp"

namespace golf::rans {
namespace {

// By context and value: counts[context << 8 | value + 128]
using Histogram = std::vector<uint64_t>;
size_t cell(int context, int value) { return static_cast<size_t>(context << 8 | (value + 128)); }

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
    Histogram histogram(size_t{kContexts} << 8);
    for (uint64_t i = 0; i < shape.rows; i++) {
        const int8_t* row = values + i * shape.cols;
        for (uint64_t j = 0; j < shape.cols; j++) histogram[cell(clamp_context(model.rows[i] + model.cols[j]), row[j])]++;
    }
    return histogram;
}

uint64_t cost_of(const Histogram& histogram, const Model& model, const std::vector<bool>& used) {
    uint64_t bits12 = 0;
    for (int parity = 0; parity < model.parities(); parity++) {
        const std::vector<Cumulative> tables = model.tables(used, parity);
        const Alphabet alphabet = model.alphabet(parity);
        for (int context = 0; context < kContexts; context++) {
            if (!used[context]) continue;
            const Cumulative& table = tables[context];
            for (int s = 0; s < alphabet.size; s++) {
                const uint64_t times = histogram[cell(context, alphabet.low + s * alphabet.step)];
                if (times) bits12 += times * cost(table[s + 1] - table[s]);
            }
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

uint64_t moment_of(const int8_t* values, Shape shape) {
    uint64_t moment = 0;
    for (uint64_t t = 0; t < shape.rows * shape.cols; t++) moment += static_cast<uint32_t>(values[t] * values[t]);
    return moment;
}

struct Counted {
    Model model;
    Histogram histogram;
};

// Contexts from one, row and rank-1 scales, as far as there are rows and columns.
std::vector<Counted> with_scales(const int8_t* values, Shape shape, int bits) {
    std::vector<Counted> found;
    const auto keep = [&](const Model& model) { found.push_back({model, count(values, shape, model)}); };
    const uint64_t moment = (moment_of(values, shape) << 14) / (shape.rows * shape.cols);
    keep(Model(Kind::global, bits, shape, context_of(moment, bits)));
    if (shape.rows == 1) return found;
    Model scaled(Kind::row, bits, shape);
    scaled.rows = fit_rows(values, shape, bits, scaled.cols);
    keep(scaled);
    if (shape.cols == 1) return found;
    scaled.kind = scaled.contexts = Kind::rank1;
    for (int round = 0; round < 2; round++) {
        scaled.cols = fit_cols(values, shape, scaled.rows);
        scaled.rows = fit_rows(values, shape, bits, scaled.cols);
    }
    keep(scaled);
    return found;
}

int reach_of(const int8_t* values, Shape shape) {
    int reach = 1;  // so that there is a value of each parity
    for (uint64_t t = 0; t < shape.rows * shape.cols; t++) reach = std::max(reach, std::abs(values[t]));
    return reach;
}

// The same contexts for values that follow a trellis, or for residuals; `bits` are those of the values.
Candidate generalized(const Counted& counted, int bits, int states, int reach, const Alike& alike) {
    Model model = counted.model;
    model.kind = Kind::general;
    model.bits = bits;
    model.states = states;
    model.reach = reach;
    model.template_row = alike.template_row;
    model.members = alike.members;
    return with_best_mixture(std::move(model), counted.histogram);
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

Alphabet Model::alphabet(int parity) const {
    if (kind != Kind::general) return {-(1 << (bits - 1)), 1, 1 << bits};
    int low = -reach, high = std::min(reach, 127);
    if (!states) return {low, 1, high - low + 1};
    low += (low ^ parity) & 1;
    high -= (high ^ parity) & 1;
    return {low, 2, (high - low) / 2 + 1};
}

std::vector<Cumulative> Model::tables(const std::vector<bool>& used, int parity) const {
    std::vector<Cumulative> made(kContexts);
    if (kind == Kind::histogram) {
        if (!from_codes(codes.data(), bits, made[0])) throw Malformed("a histogram without symbols");
        return made;
    }
    for (int j = 0; j < kContexts; j++) {
        if (used[j]) made[j] = parametric(j, mixture, alphabet(parity));
    }
    return made;
}

std::vector<Candidate> candidates(const int8_t* values, Shape shape, int bits, bool nested) {
    std::vector<Candidate> found;
    if (nested) {
        const uint64_t moment = (moment_of(values, shape) << 14) / (shape.rows * shape.cols);
        const Model global(Kind::global, bits, shape, context_of(moment, bits));
        found.push_back(with_best_mixture(global, count(values, shape, global)));
        return found;
    }
    const std::vector<Counted> scaled = with_scales(values, shape, bits);
    for (const Counted& each : scaled) found.push_back(with_best_mixture(each.model, each.histogram));
    Model histogram(Kind::histogram, bits, shape);
    const Histogram counts = count(values, shape, histogram);
    histogram.codes = codes_of(&counts[cell(0, histogram.alphabet(0).low)], bits);
    const uint64_t bits12 = cost_of(counts, histogram, histogram.used());
    found.push_back({std::move(histogram), bits12});
    const int states = states_of(values, shape);
    if (states) {
        const int reach = reach_of(values, shape);
        // Contexts are as fine as they are for a width of 8, which is where the integers of a trellis lie.
        for (const Counted& each : bits == 8 ? scaled : with_scales(values, shape, 8)) {
            found.push_back(generalized(each, bits, states, reach, {}));
        }
    }
    const Alike alike = alike_rows(values, shape);
    if (alike.members.empty()) return found;
    const std::vector<int8_t> left = residuals(values, shape, alike);
    const int reach = reach_of(left.data(), shape);
    for (const Counted& each : with_scales(left.data(), shape, 8)) {
        found.push_back(generalized(each, bits, states, reach, alike));
    }
    return found;
}

}  // namespace golf::rans
