#include "model.hpp"
#include "rans.hpp"
#include "stream.hpp"
#include "structure.hpp"

namespace golf::rans {
namespace {

using Bytes = std::vector<uint8_t>;

void put_varint(Bytes& out, uint64_t value) {
    for (; value >= 128; value >>= 7) out.push_back(static_cast<uint8_t>(value | 128));
    out.push_back(static_cast<uint8_t>(value));
}

Bytes encode_as(const int8_t* values, Shape shape, int bits, bool nested);

void put_nested(Bytes& out, const int8_t* values, uint64_t count) {
    const Bytes blob = encode_as(values, {1, count}, 8, true);
    put_varint(out, blob.size());
    out.insert(out.end(), blob.begin(), blob.end());
}

// Writes what read_contexts in decode.cpp reads.
void put_contexts(Bytes& out, const Model& model) {
    out.push_back(static_cast<uint8_t>(model.mixture));
    if (model.contexts == Kind::global) {
        out.push_back(model.rows[0]);
        return;
    }
    uint64_t sum = 0;
    for (uint8_t context : model.rows) sum += context;
    const int mean = static_cast<int>(sum / model.rows.size());
    std::vector<int8_t> differences(model.rows.size());
    for (size_t i = 0; i < differences.size(); i++) differences[i] = static_cast<int8_t>(model.rows[i] - mean);
    out.push_back(static_cast<uint8_t>(mean));
    put_nested(out, differences.data(), differences.size());
    if (model.contexts == Kind::rank1) put_nested(out, model.cols.data(), model.cols.size());
}

// The part of a blob before its stream: kind, bits, shape and parameters of the model.
Bytes head(const Model& model, Shape shape) {
    Bytes out{static_cast<uint8_t>(kVersion << 4 | static_cast<uint8_t>(model.kind)), static_cast<uint8_t>(model.bits)};
    put_varint(out, shape.rows);
    put_varint(out, shape.cols);
    if (model.kind == Kind::general) {
        const bool alike = !model.members.empty();
        for (int fact : {static_cast<int>(model.contexts), model.states, model.reach, static_cast<int>(alike)}) {
            out.push_back(static_cast<uint8_t>(fact));
        }
        if (alike) {
            put_nested(out, model.template_row.data(), model.template_row.size());
            put_nested(out, model.members.data(), model.members.size());
        }
    }
    if (model.kind == Kind::histogram) {
        std::vector<int8_t> steps(model.codes);
        for (size_t s = steps.size() - 1; s > 0; s--) steps[s] = static_cast<int8_t>(steps[s] - steps[s - 1]);
        put_nested(out, steps.data(), steps.size());
    } else if (model.kind != Kind::stored) {
        put_contexts(out, model);
    }
    return out;
}

// The states of all lanes, then the words that a decoder takes one after the other. Value t belongs to lane t mod lanes.
// `values` are residuals: under a trellis their parity is that which a decoder will know.
void put_stream(Bytes& out, const int8_t* values, Shape shape, const Model& model) {
    const uint64_t count = shape.rows * shape.cols, lanes = lanes_for(count);
    const std::vector<bool> used = model.used();
    const int odd = model.parities() - 1;
    const Grid<Cumulative> grids[2] = {Grid<Cumulative>(model.tables(used, 0)), Grid<Cumulative>(model.tables(used, odd))};
    const Alphabet alphabets[2] = {model.alphabet(0), model.alphabet(odd)};
    std::vector<uint32_t> states(lanes, kLow);
    std::vector<uint16_t> words(count + 1);  // at most one each, filled from the end; the first is never kept
    uint16_t* const words_end = words.data() + count + 1;
    uint16_t* word = words_end;
    uint64_t lane = (count - 1) % lanes;
    for (uint64_t i = shape.rows; i-- > 0;) {
        const Cumulative* const* tables[2] = {grids[0].row(model.rows[i]), grids[1].row(model.rows[i])};
        const int8_t* row = values + i * shape.cols;
        for (uint64_t j = shape.cols; j-- > 0;) {
            const int parity = row[j] & odd;
            const Cumulative& table = *tables[parity][model.cols[j]];
            const int symbol = (row[j] - alphabets[parity].low) >> odd;  // the step is 2 under a trellis
            const uint32_t start = table[symbol], frequency = table[symbol + 1] - start;
            uint32_t state = states[lane];
            // Without a branch: which states are full cannot be predicted.
            const int full = state >= uint64_t{frequency} << (32 - kScaleBits);
            word[-1] = static_cast<uint16_t>(state);
            word -= full;
            state >>= 16 * full;
            states[lane] = ((state / frequency) << kScaleBits) + state % frequency + start;
            lane = (lane == 0 ? lanes : lane) - 1;
        }
    }
    const size_t head_size = out.size();
    out.resize(head_size + 4 * lanes + 2 * static_cast<size_t>(words_end - word));
    uint8_t* at = out.data() + head_size;
    for (uint32_t state : states) {
        for (int shift = 0; shift < 32; shift += 8) *at++ = static_cast<uint8_t>(state >> shift);
    }
    for (; word != words_end; word++) {
        *at++ = static_cast<uint8_t>(*word);
        *at++ = static_cast<uint8_t>(*word >> 8);
    }
}

Bytes encode_as(const int8_t* values, Shape shape, int bits, bool nested) {
    const uint64_t count = shape.rows * shape.cols;
    Bytes plain = head(Model(Kind::stored, bits, {0, 0}), shape);
    plain.insert(plain.end(), values, values + count);
    if (count == 0) return plain;
    Bytes best;
    Model chosen;
    uint64_t least = UINT64_MAX;
    for (const Candidate& candidate : candidates(values, shape, bits, nested)) {
        Bytes out = head(candidate.model, shape);
        const uint64_t bits12 = candidate.bits12 + (uint64_t{out.size()} << 15);
        if (bits12 >= least) continue;
        least = bits12;
        best = std::move(out);
        chosen = candidate.model;
    }
    if (chosen.members.empty()) {
        put_stream(best, values, shape, chosen);
    } else {
        put_stream(best, residuals(values, shape, {chosen.template_row, chosen.members}).data(), shape, chosen);
    }
    return best.size() < plain.size() ? best : plain;
}

}  // namespace

std::vector<uint8_t> encode(const int8_t* values, Shape shape, int bits) { return encode_as(values, shape, bits, false); }

}  // namespace golf::rans
