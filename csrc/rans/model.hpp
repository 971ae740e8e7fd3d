// What the probabilities of a matrix depend on, and how an encoder finds out.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "../trellis/states.hpp"
#include "rans.hpp"
#include "tables.hpp"

namespace golf::rans {

enum class Kind : uint8_t { stored = 0, global = 1, row = 2, rank1 = 3, histogram = 4, general = 5 };
constexpr int kKinds = 6;

// The residual of the value in row i and column j has the context clamp(rows[i] + cols[j]); it is the value itself, less
// template_row[j] (modulo 256) where members[i] is 1. Under a trellis the value's parity is that of its column's state.
struct Model {
    Kind kind = Kind::stored;
    Kind contexts = Kind::stored;  // how contexts are said: the kind, or for general that of global, row and rank1
    int bits = 8;
    int mixture = 0;
    std::vector<uint8_t> rows;  // [rows] contexts; all equal unless said by row or rank1, 0 for histogram
    std::vector<int8_t> cols;   // [cols] in [kColMin, kColMax]; 0 unless said by rank1
    std::vector<int8_t> codes;  // [2^bits], for histogram
    // Only for general:
    int states = 0;                    // of the trellis, or 0 without one
    int reach = 0;                     // no residual's magnitude is above it
    std::vector<int8_t> template_row;  // [cols], or empty
    std::vector<int8_t> members;       // [rows], or empty

    Model() = default;
    Model(Kind kind, int bits, Shape shape, int context = 0)
        : kind(kind), contexts(kind), bits(bits), rows(shape.rows, static_cast<uint8_t>(context)), cols(shape.cols) {}

    // What residuals may be: all of them, or under a trellis those of a parity.
    Alphabet alphabet(int parity) const;
    int parities() const { return states ? 2 : 1; }

    // The template of a row, or null.
    const int8_t* template_of(uint64_t row) const {
        return !members.empty() && members[row] ? template_row.data() : nullptr;
    }

    // Which contexts values may have, [kContexts].
    std::vector<bool> used() const;

    // A table for each context that `used` marks; the others are left empty.
    std::vector<Cumulative> tables(const std::vector<bool>& used, int parity) const;
};

inline int clamp_context(int context) { return context < 0 ? 0 : context >= kContexts ? kContexts - 1 : context; }

// Tables of any type by context, found by the sum of a row's context and a column's factor.
template <typename Table>
class Grid {
public:
    explicit Grid(std::vector<Table> tables) : tables_(std::move(tables)) {
        for (int sum = 0; sum < kSums; sum++) by_sum_[sum] = &tables_[clamp_context(sum + kColMin)];
    }
    // For every column factor c of a row with this context, row(context)[c] is the table.
    const Table* const* row(int context) const { return by_sum_ + context - kColMin; }

private:
    static constexpr int kSums = kContexts + kColMax - kColMin;
    std::vector<Table> tables_;
    const Table* by_sum_[kSums];
};

// A model for a matrix, and the size of its values under it in units of 2^-12 bits.
struct Candidate {
    Model model;
    uint64_t bits12;
};

// The models worth trying for a matrix, without Kind::stored; for `nested` side information only the global one.
std::vector<Candidate> candidates(const int8_t* values, Shape shape, int bits, bool nested);

}  // namespace golf::rans
