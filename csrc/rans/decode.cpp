#include <algorithm>

#include "model.hpp"
#include "rans.hpp"
#include "stream.hpp"

namespace golf::rans {
namespace {

constexpr int kBucketBits = 9, kBucketShift = kScaleBits - kBucketBits;

// Reads the fields of a blob; throws Malformed rather than read past its end.
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
    // By division: the product of two sides of 64 bits may wrap to a small number.
    if (head.shape.rows > kMaxValues / std::max<uint64_t>(head.shape.cols, 1) || head.shape.cols > kMaxValues) {
        throw Malformed("too many values");
    }
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

// Reads what put_contexts in encode.cpp writes.
void read_contexts(Reader& in, Shape shape, Model& model) {
    model.mixture = in.byte(kShapes, "an unknown mixture");
    if (model.contexts == Kind::global) {
        std::fill(model.rows.begin(), model.rows.end(), static_cast<uint8_t>(in.byte(kContexts, "an unknown context")));
        return;
    }
    const int mean = in.byte(kContexts, "an unknown context");
    const std::vector<int8_t> differences = take_nested(in, shape.rows);
    for (uint64_t i = 0; i < shape.rows; i++) {
        const int context = mean + differences[i];
        if (context < 0 || context >= kContexts) throw Malformed("a row's context out of range");
        model.rows[i] = static_cast<uint8_t>(context);
    }
    if (model.contexts != Kind::rank1) return;
    model.cols = take_nested(in, shape.cols);
    for (int8_t factor : model.cols) {
        if (factor < kColMin || factor > kColMax) throw Malformed("a column's factor out of range");
    }
}

void read_general(Reader& in, Shape shape, Model& model) {
    const int contexts = in.byte(static_cast<int>(Kind::histogram), "contexts of an unknown kind");
    if (contexts == static_cast<int>(Kind::stored)) throw Malformed("contexts of an unknown kind");
    model.contexts = static_cast<Kind>(contexts);
    model.states = *in.take(1);
    if (model.states != 0 && model.states != 4 && model.states != 8) throw Malformed("a trellis of other states");
    model.reach = in.byte(129, "a reach out of range");
    if (model.reach == 0) throw Malformed("a reach out of range");
    if (in.byte(2, "neither a template nor none") == 0) return;
    model.template_row = take_nested(in, shape.cols);
    model.members = take_nested(in, shape.rows);
    for (int8_t member : model.members) {
        if (member != 0 && member != 1) throw Malformed("a row that is neither a member nor none");
    }
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
    if (head.kind == Kind::general) read_general(in, head.shape, model);
    read_contexts(in, head.shape, model);
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

std::vector<Lookup> lookups(const Model& model, const std::vector<bool>& used, int parity) {
    const std::vector<Cumulative> tables = model.tables(used, parity);
    std::vector<Lookup> made(kContexts);
    for (int context = 0; context < kContexts; context++) {
        if (used[context]) made[context].fill(tables[context]);
    }
    return made;
}

// A row whose symbols are independent of one another.
struct PlainRow {
    const Lookup* const* by_factor;
    const int8_t* factors;
    int low;
    int8_t* values;

    const Lookup& lookup(uint64_t j) const { return *by_factor[factors[j]]; }
    void put(uint64_t j, int symbol) { values[j] = static_cast<int8_t>(symbol + low); }
};

// A row under a trellis, a template or both; the `state` of each column determines the parity of its value.
struct GeneralRow {
    const Lookup* const* by_factor[2];
    const int8_t* factors;
    const int8_t* template_row;
    int low[2], shift;
    uint8_t* state;
    const uint8_t (*next)[2];
    int8_t* values;

    int parity(uint64_t j) const { return (state[j] ^ template_row[j]) & shift; }
    const Lookup& lookup(uint64_t j) const { return *by_factor[parity(j)][factors[j]]; }
    void put(uint64_t j, int symbol) {
        values[j] = static_cast<int8_t>((symbol << shift) + low[parity(j)] + template_row[j]);
        state[j] = next[state[j]][values[j] >> 1 & 1];
    }
};

// Decodes a stream, whose lanes take turns.
class Lanes {
public:
    Lanes(Reader& in, uint64_t count) : states_(lanes_for(count)) {
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

    // Decode the `count` values of a row.
    template <typename Row>
    void take(Row row, uint64_t count) {
        for (uint64_t done = 0; done < count;) {
            const uint64_t stop = done + std::min<uint64_t>(count - done, 256);
            if (static_cast<size_t>(end_ - word_) >= 2 * (stop - done) + 2) {
                take<false>(row, done, stop);
            } else {
                take<true>(row, done, stop);
            }
            done = stop;
        }
    }

    void finish() const {
        if (word_ != end_) throw Malformed("bytes are left over");
        for (uint32_t state : states_) {
            if (state != kLow) throw Malformed("its states do not end where they began");
        }
    }

private:
    template <bool checked, typename Row>
    void take(Row row, uint64_t begin, uint64_t end) {
        // Copies, which a write to the row's values cannot change: an int8_t may alias anything.
        uint32_t* const states = states_.data();
        const size_t lanes = states_.size();
        const uint8_t* at = word_;
        size_t lane = lane_;
        for (uint64_t j = begin; j < end; j++) {
            const Lookup& lookup = row.lookup(j);
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
            row.put(j, symbol);
            if (++lane == lanes) lane = 0;
        }
        word_ = at;
        lane_ = lane;
    }

    std::vector<uint32_t> states_;
    size_t lane_ = 0;
    const uint8_t *word_, *end_;
};

void take_general(Reader& in, int8_t* values, Shape shape, const Model& model) {
    const std::vector<bool> used = model.used();
    const int odd = model.parities() - 1;
    const Grid<Lookup> grids[2] = {Grid<Lookup>(lookups(model, used, 0)), Grid<Lookup>(lookups(model, used, odd))};
    uint8_t next[8][2] = {};
    for (int state = 0; state < model.states; state++) {
        for (int half = 0; half < 2; half++) {
            next[state][half] = static_cast<uint8_t>(trellis::Trellis{model.states}.next(state, 2 * half));
        }
    }
    Lanes lanes(in, shape.rows * shape.cols);
    std::vector<uint8_t> state(shape.cols);
    const std::vector<int8_t> zeros(shape.cols);
    const int highest = (1 << (model.bits - 1)) - 1;
    for (uint64_t i = 0; i < shape.rows; i++) {
        const int8_t* taken = model.template_of(i);
        const int8_t* template_row = taken ? taken : zeros.data();
        int8_t* row = values + i * shape.cols;
        lanes.take(GeneralRow{{grids[0].row(model.rows[i]), grids[1].row(model.rows[i])},
                              model.cols.data(),
                              template_row,
                              {model.alphabet(0).low, model.alphabet(odd).low},
                              odd,
                              state.data(),
                              next,
                              row},
                   shape.cols);
        bool held = true;
        for (uint64_t j = 0; j < shape.cols; j++) {
            // A sum of template and residual beyond 8 bits has wrapped: the difference is then outside of 8 bits.
            const int residual = row[j] - template_row[j];
            held &= row[j] <= highest && row[j] >= ~highest && residual <= 127 && residual >= -128;
        }
        if (!held) throw Malformed("a value that its bits cannot hold");
    }
    lanes.finish();
}

void take_stream(Reader& in, int8_t* values, Shape shape, const Model& model) {
    if (model.kind == Kind::general) return take_general(in, values, shape, model);
    const Grid<Lookup> grid(lookups(model, model.used(), 0));
    Lanes lanes(in, shape.rows * shape.cols);
    for (uint64_t i = 0; i < shape.rows; i++) {
        const int8_t* factors = model.cols.data();
        lanes.take(PlainRow{grid.row(model.rows[i]), factors, model.alphabet(0).low, values + i * shape.cols}, shape.cols);
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

void decode(const uint8_t* blob, size_t size, int8_t* values, uint64_t count) {
    Reader head(blob, size);
    const Shape shape = read_head(head).shape;
    if (shape.rows * shape.cols != count) throw Malformed("another number of values than was asked for");
    decode_as(Reader(blob, size), values, false);
}

}  // namespace golf::rans
