// The decoder of csrc/rans/ against damaged blobs, to be built with -fsanitize=address,undefined.
//
//     rans_fuzz SECONDS SEED BLOB...
//
// Round trips of random matrices, then as many damaged copies of the given blobs and of those as the time allows: each
// must be refused or decode to as many values as it declares. Prints what it did; a fault ends it. With clang,
// -DGOLF_LIBFUZZER -fsanitize=fuzzer makes a libFuzzer target of it.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/trellis/states.hpp"
#include "rans.hpp"

namespace {

using Bytes = std::vector<uint8_t>;
using golf::rans::decode;
using golf::rans::encode;
using golf::rans::Malformed;
using Random = std::mt19937_64;

// What the head declares, or 0 if it is broken or too much to wait for.
uint64_t declared(const Bytes& blob) {
    uint64_t product = 1;
    size_t at = 2;
    for (int side = 0; side < 2; side++) {
        uint64_t value = 0;
        int shift = 0;
        do {
            if (at >= blob.size() || shift > 28) return 0;
            value |= uint64_t{blob[at] & 127u} << shift;
            shift += 7;
        } while (blob[at++] & 128);
        product *= value;
        if (product > 1 << 18) return 0;
    }
    return product;
}

// True if the blob was accepted. The copy is exactly as large as the blob, so that a read past its end is seen.
bool accepts(const Bytes& blob) {
    const Bytes exact(blob.begin(), blob.end());
    std::vector<int8_t> values(declared(blob));
    try {
        decode(exact.data(), exact.size(), values.data(), values.size());
        return true;
    } catch (const Malformed&) {
        return false;
    }
}

}  // namespace

#ifdef GOLF_LIBFUZZER

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    accepts(Bytes(data, data + size));
    return 0;
}

#else

namespace {

std::vector<int8_t> matrix(Random& random, uint64_t rows, uint64_t cols, int bits) {
    const int half = 1 << (bits - 1);
    std::normal_distribution<double> normal;
    const double sigma = std::exp2(std::uniform_real_distribution<double>(-3, bits)(random));
    std::vector<double> row(rows), col(cols);
    const double spread = static_cast<double>(random() % 3);
    for (double& factor : row) factor = std::exp2(spread * normal(random));
    for (double& factor : col) factor = std::exp2(spread * normal(random));
    std::vector<int8_t> values(rows * cols);
    for (uint64_t i = 0; i < rows; i++) {
        for (uint64_t j = 0; j < cols; j++) {
            const double value = std::clamp(normal(random) * sigma * row[i] * col[j], -1000.0, 1000.0);
            values[i * cols + j] = static_cast<int8_t>(std::clamp(static_cast<int>(value), -half, half - 1));
        }
    }
    return values;
}

// Moves each value to one that its column's path through a trellis allows.
void onto_a_trellis(std::vector<int8_t>& values, uint64_t rows, uint64_t cols, int bits, int states) {
    const int half = 1 << (bits - 1);
    for (uint64_t j = 0; j < cols; j++) {
        int state = 0;
        for (uint64_t i = 0; i < rows; i++) {
            int value = values[i * cols + j];
            if ((value ^ state) & 1) value += value == half - 1 ? -1 : 1;
            values[i * cols + j] = static_cast<int8_t>(value);
            state = golf::trellis::Trellis{states}.next(state, value);
        }
    }
}

// Makes some rows nearly those before them.
void repeat_rows(Random& random, std::vector<int8_t>& values, uint64_t rows, uint64_t cols) {
    for (uint64_t i = 1; i < rows; i++) {
        if (random() % 2) continue;
        for (uint64_t j = 0; j < cols; j++) {
            if (random() % 4) values[i * cols + j] = values[j];
        }
    }
}

Bytes round_trip(Random& random) {
    const uint64_t longest = random() % 8 ? 40 : 300;
    const uint64_t rows = random() % longest, cols = random() % longest;
    const int bits = 2 + static_cast<int>(random() % 7);
    std::vector<int8_t> values = matrix(random, rows, cols, bits);
    if (random() % 3 == 0) repeat_rows(random, values, rows, cols);
    if (random() % 2) onto_a_trellis(values, rows, cols, bits, random() % 2 ? 8 : 4);
    const Bytes blob = encode(values.data(), {rows, cols}, bits);
    std::vector<int8_t> back(values.size());
    decode(blob.data(), blob.size(), back.data(), back.size());
    if (back != values) {
        std::printf("a matrix of %zu x %zu at %d bits came back changed\n", size_t(rows), size_t(cols), bits);
        std::exit(1);
    }
    return blob;
}

Bytes damaged(Bytes blob, const Bytes& other, Random& random) {
    for (uint64_t times = 1 + random() % 4; times > 0 && !blob.empty(); times--) {
        // Mostly in the head, where what is said about the rest stands.
        const size_t at = random() % (random() % 3 ? std::min<size_t>(blob.size(), 24) : blob.size());
        switch (random() % 6) {
            case 0: blob[at] ^= static_cast<uint8_t>(1 << random() % 8); break;
            case 1: blob[at] = static_cast<uint8_t>(random()); break;
            case 2: blob.resize(at); break;
            case 3: blob.insert(blob.begin() + static_cast<long>(at), static_cast<uint8_t>(random())); break;
            case 4: blob.erase(blob.begin() + static_cast<long>(at)); break;
            default: {
                const auto stop = other.begin() + static_cast<long>(random() % (other.size() + 1));
                blob.insert(blob.begin() + static_cast<long>(at), other.begin(), stop);
            }
        }
    }
    return blob;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3) {
        std::puts("usage: rans_fuzz SECONDS SEED BLOB...");
        return 2;
    }
    Random random(std::strtoull(arguments[2], nullptr, 10));
    std::vector<Bytes> corpus;
    for (int i = 3; i < count; i++) {
        std::ifstream file(arguments[i], std::ios::binary);
        corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        if (!accepts(corpus.back())) {
            std::printf("%s is not accepted\n", arguments[i]);
            return 1;
        }
    }
    for (int i = 0; i < 100; i++) corpus.push_back(round_trip(random));
    const std::chrono::milliseconds time(std::lround(1000 * std::atof(arguments[1])));
    const auto stop = std::chrono::steady_clock::now() + time;
    uint64_t tried = 0, accepted = 0;
    do {
        for (int i = 0; i < 50; i++, tried++) {
            const Bytes& other = corpus[random() % corpus.size()];
            accepted += accepts(damaged(corpus[random() % corpus.size()], other, random));
        }
    } while (std::chrono::steady_clock::now() < stop);
    std::printf("%llu damaged blobs, %llu accepted\n", static_cast<unsigned long long>(tried),
                static_cast<unsigned long long>(accepted));
    return 0;
}

#endif
