#include "rans.hpp"

#include <algorithm>

#include "model.hpp"

namespace golf::rans {
namespace {

constexpr uint32_t kLow = 1u << 16;  // a state is at least this, and below 2^32: words of 16 bits
constexpr uint64_t kValuesPerLane = 4096, kMaxLanes = 1024;
constexpr uint8_t kVersion = 1;
constexpr int kBucketBits = 9, kBucketShift = kScaleBits - kBucketBits;

using Bytes = std::vector<uint8_t>;

uint64_t lanes_for(uint64_t values) { return std::clamp<uint64_t>(values / kValuesPerLane, 1, kMaxLanes); }

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

// A blob up to its stream: the model and what it needs to be known.
Bytes head(const Model& model, Shape shape) {
    Bytes out{static_cast<uint8_t>(kVersion << 4 | static_cast<uint8_t>(model.kind)), static_cast<uint8_t>(model.bits)};
    put_varint(out, shape.rows);
    put_varint(out, shape.cols);
    if (model.kind == Kind::histogram) {
        std::vector<int8_t> steps(model.codes);
        for (size_t s = steps.size() - 1; s > 0; s--) steps[s] = static_cast<int8_t>(steps[s] - steps[s - 1]);
        put_nested(out, steps.data(), steps.size());
    } else if (model.kind != Kind::stored) {
        out.push_back(static_cast<uint8_t>(model.mixture));
    }
    if (model.kind == Kind::global) out.push_back(model.rows[0]);
    if (model.kind == Kind::row || model.kind == Kind::rank1) {
        uint64_t sum = 0;
        for (uint8_t context : model.rows) sum += context;
        const int mean = static_cast<int>(sum / model.rows.size());
        std::vector<int8_t> differences(model.rows.size());
        for (size_t i = 0; i < differences.size(); i++) differences[i] = static_cast<int8_t>(model.rows[i] - mean);
        out.push_back(static_cast<uint8_t>(mean));
        put_nested(out, differences.data(), differences.size());
    }
    if (model.kind == Kind::rank1) put_nested(out, model.cols.data(), model.cols.size());
    return out;
}

// The states of all lanes, then the words that a decoder takes one after the other. Value t belongs to lane t mod lanes.
void put_stream(Bytes& out, const int8_t* values, Shape shape, const Model& model) {
    const uint64_t count = shape.rows * shape.cols, lanes = lanes_for(count);
    const Grid<Cumulative> grid(model.tables(model.used()));
    const int half = 1 << (model.bits - 1);
    std::vector<uint32_t> states(lanes, kLow);
    std::vector<uint16_t> words(count + 1);  // at most one each, filled from the end; the first is never kept
    uint16_t* const words_end = words.data() + count + 1;
    uint16_t* word = words_end;
    uint64_t lane = (count - 1) % lanes;
    for (uint64_t i = shape.rows; i-- > 0;) {
        const Cumulative* const* tables = grid.row(model.rows[i]);
        const int8_t* row = values + i * shape.cols;
        for (uint64_t j = shape.cols; j-- > 0;) {
            const Cumulative& table = *tables[model.cols[j]];
            const int symbol = row[j] + half;
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
    put_stream(best, values, shape, chosen);
    return best.size() < plain.size() ? best : plain;
}

// Takes a blob apart, never past its end.
class Reader {
public:
    Reader(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
    size_t left() const { return static_cast<size_t>(end_ - at_); }
    const uint8_t* take(size_t size) {
        if (size > left()) throw Malformed("it ends too early");
        const uint8_t* taken = at_;
        at_ += size;
        return taken;
    }
    int byte(int limit, const char* what) {
        const int value = *take(1);
        if (value >= limit) throw Malformed(what);
        return value;
    }
    uint64_t varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 35; shift += 7) {
            const uint8_t byte = *take(1);
            value |= uint64_t{byte & 127u} << shift;
            if (byte < 128) {
                if (byte == 0 && shift > 0) throw Malformed("a number in more bytes than it needs");
                return value;
            }
        }
        throw Malformed("a number that is too large");
    }

private:
    const uint8_t *at_, *end_;
};

struct Head {
    Kind kind;
    int bits;
    Shape shape;
};

Head read_head(Reader& in) {
    Head head;
    const int tag = *in.take(1);
    if (tag >> 4 != kVersion || (tag & 15) >= kKinds) throw Malformed("an unknown version or model");
    head.kind = static_cast<Kind>(tag & 15);
    head.bits = *in.take(1);
    if (head.bits < 2 || head.bits > 8) throw Malformed("values of less than 2 or more than 8 bits");
    head.shape.rows = in.varint();
    head.shape.cols = in.varint();
    const uint64_t bounding = std::max<uint64_t>(head.shape.rows, 1) * std::max<uint64_t>(head.shape.cols, 1);
    if (bounding > kMaxValues) throw Malformed("too many values");
    if (head.kind != Kind::stored && head.shape.rows * head.shape.cols == 0) throw Malformed("a model of no values");
    return head;
}

void decode_as(Reader in, int8_t* values, bool nested);

std::vector<int8_t> take_nested(Reader& in, uint64_t count) {
    const uint64_t size = in.varint();
    const uint8_t* blob = in.take(size);
    Reader peek(blob, size);
    const Head head = read_head(peek);
    if (head.shape.rows != 1 || head.shape.cols != count || head.bits != 8) throw Malformed("side values of another shape");
    std::vector<int8_t> values(count);
    decode_as(Reader(blob, size), values.data(), true);
    return values;
}

Model read_model(Reader& in, const Head& head, bool nested) {
    if (nested && head.kind != Kind::global) throw Malformed("side values under a model of their own");
    Model model(head.kind, head.bits, head.shape);
    if (head.kind == Kind::histogram) {
        model.codes = take_nested(in, uint64_t{1} << head.bits);
        for (size_t s = 1; s < model.codes.size(); s++) {
            model.codes[s] = static_cast<int8_t>(model.codes[s] + model.codes[s - 1]);
        }
        return model;
    }
    model.mixture = in.byte(kShapes, "an unknown mixture");
    if (head.kind == Kind::global) {
        std::fill(model.rows.begin(), model.rows.end(), static_cast<uint8_t>(in.byte(kContexts, "an unknown context")));
    }
    if (head.kind == Kind::row || head.kind == Kind::rank1) {
        const int mean = in.byte(kContexts, "an unknown context");
        const std::vector<int8_t> differences = take_nested(in, head.shape.rows);
        for (uint64_t i = 0; i < head.shape.rows; i++) {
            const int context = mean + differences[i];
            if (context < 0 || context >= kContexts) throw Malformed("a row's context out of range");
            model.rows[i] = static_cast<uint8_t>(context);
        }
    }
    if (head.kind == Kind::rank1) {
        model.cols = take_nested(in, head.shape.cols);
        for (int8_t factor : model.cols) {
            if (factor < kColMin || factor > kColMax) throw Malformed("a column's factor out of range");
        }
    }
    return model;
}

// A table, and for each 1/512 of its range the first symbol that lies in it.
struct Lookup {
    Cumulative table;
    uint8_t first[1 << kBucketBits];

    void fill(const Cumulative& cumulative) {
        table = cumulative;
        int symbol = 0;
        for (uint32_t bucket = 0; bucket < 1u << kBucketBits; bucket++) {
            while (table[symbol + 1] <= bucket << kBucketShift) symbol++;
            first[bucket] = static_cast<uint8_t>(symbol);
        }
    }
};

std::vector<Lookup> lookups(const Model& model) {
    const std::vector<bool> used = model.used();
    const std::vector<Cumulative> tables = model.tables(used);
    std::vector<Lookup> made(kContexts);
    for (int context = 0; context < kContexts; context++) {
        if (used[context]) made[context].fill(tables[context]);
    }
    return made;
}

// The lanes of a stream, in turn.
class Lanes {
public:
    Lanes(Reader& in, uint64_t count, int bits) : states_(lanes_for(count)), half_(1 << (bits - 1)) {
        const uint8_t* packed = in.take(states_.size() * 4);
        for (uint32_t& state : states_) {
            state = packed[0] | packed[1] << 8 | packed[2] << 16 | static_cast<uint32_t>(packed[3]) << 24;
            packed += 4;
            if (state < kLow) throw Malformed("a state out of range");
        }
        const size_t words = in.left() / 2;
        if (in.left() % 2) throw Malformed("half a word at its end");
        word_ = in.take(words * 2);
        end_ = word_ + words * 2;
    }

    // Decode `count` values whose tables are by_factor[factors[t]].
    void take(const Lookup* const* by_factor, const int8_t* factors, uint64_t count, int8_t* values) {
        for (uint64_t done = 0; done < count;) {
            const uint64_t some = std::min<uint64_t>(count - done, 256);
            if (static_cast<size_t>(end_ - word_) >= 2 * some + 2) {
                take<false>(by_factor, factors + done, some, values + done);
            } else {
                take<true>(by_factor, factors + done, some, values + done);
            }
            done += some;
        }
    }

    void finish() const {
        if (word_ != end_) throw Malformed("bytes are left over");
        for (uint32_t state : states_) {
            if (state != kLow) throw Malformed("its states do not end where they began");
        }
    }

private:
    template <bool checked>
    void take(const Lookup* const* by_factor, const int8_t* factors, uint64_t count, int8_t* values) {
        // Copies, which a write to `values` cannot change: an int8_t may alias anything.
        uint32_t* const states = states_.data();
        const size_t lanes = states_.size();
        const int half = half_;
        const uint8_t* at = word_;
        size_t lane = lane_;
        for (uint64_t t = 0; t < count; t++) {
            const Lookup& lookup = *by_factor[factors[t]];
            const uint32_t state = states[lane], slot = state & (kTotal - 1);
            int symbol = lookup.first[slot >> kBucketShift];
            while (lookup.table[symbol + 1] <= slot) symbol++;
            const uint32_t start = lookup.table[symbol], frequency = lookup.table[symbol + 1] - start;
            const uint32_t after = frequency * (state >> kScaleBits) + slot - start;
            const bool empty = after < kLow;
            if (checked && empty && at == end_) throw Malformed("it ends too early");
            // Without a branch where a word is sure to be there: which states are empty cannot be predicted. Masks, for
            // compilers make a branch of a conditional, and that takes 1.5 times as long.
            const uint32_t word = !checked || empty ? at[0] | at[1] << 8 : 0;
            states[lane] = after << (16 * empty) | (word & (0u - empty));
            at += 2 * empty;
            values[t] = static_cast<int8_t>(symbol - half);
            if (++lane == lanes) lane = 0;
        }
        word_ = at;
        lane_ = lane;
    }

    std::vector<uint32_t> states_;
    size_t lane_ = 0;
    int half_;
    const uint8_t *word_, *end_;
};

void take_stream(Reader& in, int8_t* values, Shape shape, const Model& model) {
    const Grid<Lookup> grid(lookups(model));
    Lanes lanes(in, shape.rows * shape.cols, model.bits);
    for (uint64_t i = 0; i < shape.rows; i++) {
        lanes.take(grid.row(model.rows[i]), model.cols.data(), shape.cols, values + i * shape.cols);
    }
    lanes.finish();
}

void decode_as(Reader in, int8_t* values, bool nested) {
    const Head head = read_head(in);
    const uint64_t count = head.shape.rows * head.shape.cols;
    if (head.kind != Kind::stored) {
        const Model model = read_model(in, head, nested);
        take_stream(in, values, head.shape, model);
        return;
    }
    if (in.left() != count) throw Malformed("stored values of another number");
    const uint8_t* plain = in.take(count);
    const int low = -(1 << (head.bits - 1)), high = -low - 1;
    for (uint64_t t = 0; t < count; t++) {
        values[t] = static_cast<int8_t>(plain[t]);
        if (values[t] < low || values[t] > high) throw Malformed("a value that its bits cannot hold");
    }
}

}  // namespace

std::vector<uint8_t> encode(const int8_t* values, Shape shape, int bits) { return encode_as(values, shape, bits, false); }

void decode(const uint8_t* blob, size_t size, int8_t* values, uint64_t count) {
    Reader head(blob, size);
    const Shape shape = read_head(head).shape;
    if (shape.rows * shape.cols != count) throw Malformed("another number of values than was asked for");
    decode_as(Reader(blob, size), values, false);
}

}  // namespace golf::rans
