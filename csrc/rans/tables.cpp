#include "tables.hpp"

#include <algorithm>
#include <cstdlib>

namespace golf::rans {
namespace {

constexpr int kFine = 4 * kContexts + 64;  // sigma in 1/32 of an octave, for the components of mixtures
constexpr int kHalf = kMaxAlphabet / 2;

// 2^(i/8) * 2^30
constexpr uint32_t kEighths[8] = {1073741824, 1170923762, 1276901417, 1392470869,
                                  1518500250, 1655936265, 1805811301, 1969251188};
// 2^(-2^-(i+1)) * 2^32
constexpr uint64_t kRoots[16] = {3037000500, 3611622603, 3938502376, 4112874773, 4202935003, 4248701965,
                                 4271771996, 4283353945, 4289156690, 4292061010, 4293513907, 4294240540,
                                 4294603903, 4294785595, 4294876445, 4294921870};
// log2(e) / 2 / sigma^2 * 2^32 for sigma = 2^(i/32 - 2)
constexpr uint64_t kCurvature[16] = {49570624150, 47468992312, 45456462770, 43529257877, 41683760149, 39916505471,
                                     38224176593, 36603596907, 35051724484, 33565646360, 32142573073, 30779833425,
                                     29474869467, 28225231700, 27028574474, 25882651589};

// Two Gaussians of unit variance together: sixteenths of the second, and each one's sigma in 1/32 of an octave.
struct Mixture {
    uint32_t second;
    int offset[2];
};
constexpr Mixture kMixtures[kShapes] = {{0, {0, 0}},    {1, {-2, 17}},  {2, {-3, 15}},  {4, {-6, 12}},  {1, {-4, 28}},
                                        {2, {-7, 25}}, {4, {-13, 19}}, {2, {-16, 35}}, {5, {-22, 20}}, {1, {-15, 49}}};

using Density = std::array<uint32_t, kHalf + 1>;  // by magnitude, times 2^30

// 2^(-x / 2^32) * 2^30
uint32_t negative_power(uint64_t x) {
    uint64_t power = uint64_t{1} << 32;
    for (int bit = 0; bit < 16; bit++) {
        if (x >> (31 - bit) & 1) power = power * kRoots[bit] >> 32;
    }
    const uint64_t octaves = x >> 32;
    return octaves > 31 ? 0 : static_cast<uint32_t>(power >> 2 >> octaves);
}

const std::vector<Density>& densities() {
    static const std::vector<Density> table = [] {
        std::vector<Density> made(kFine);
        for (int fine = 0; fine < kFine; fine++) {
            const uint64_t curvature = kCurvature[fine % 16] >> (fine / 16);
            for (uint64_t k = 0; k <= kHalf; k++) made[fine][k] = negative_power(k * k * curvature);
        }
        return made;
    }();
    return table;
}

// The second moments, times 2^14, at which one context gives way to the next.
const std::array<uint64_t, kContexts - 1>& thresholds(int bits) {
    static const std::vector<std::array<uint64_t, kContexts - 1>> table = [] {
        std::vector<std::array<uint64_t, kContexts - 1>> made(9);
        for (int width = 2; width <= 8; width++) {
            const int half = 1 << (width - 1);
            for (int context = 1; context < kContexts; context++) {
                const Density& density = densities()[4 * context - 2];
                uint64_t total = 0, moment = 0;
                for (int k = -half; k < half; k++) {
                    const uint64_t weight = density[std::abs(k)] >> 4;
                    total += weight;
                    moment += weight * static_cast<uint64_t>(k * k);
                }
                const uint64_t before = context > 1 ? made[width][context - 2] : 0;
                made[width][context - 1] = std::max((moment << 14) / total, before);  // rounding must not unsort them
            }
        }
        return made;
    }();
    return table[bits];
}

// floor(log2(x) * 2^12)
uint32_t log2_fixed(uint64_t x) {
    int octave = 0;
    for (uint64_t rest = x; rest > 1; rest >>= 1) octave++;
    uint64_t mantissa = octave > 31 ? x >> (octave - 31) : x << (31 - octave);  // in [2^31, 2^32)
    uint32_t result = static_cast<uint32_t>(octave);
    for (int bit = 0; bit < 12; bit++) {
        mantissa = mantissa * mantissa >> 31;
        result = result << 1 | static_cast<uint32_t>(mantissa >> 32);
        mantissa >>= mantissa >> 32;
    }
    return result;
}

}  // namespace

Cumulative parametric(int context, int shape, const Alphabet& alphabet) {
    const Mixture& mixture = kMixtures[shape];
    const int size = alphabet.size;
    const Density* parts[2];
    for (int i = 0; i < 2; i++) parts[i] = &densities()[std::clamp(4 * context + mixture.offset[i], 0, kFine - 1)];
    std::array<uint64_t, kMaxAlphabet + 1> before{};
    for (int s = 0; s < size; s++) {
        const int k = std::abs(alphabet.low + s * alphabet.step);
        const uint64_t first = (*parts[0])[k], second = (*parts[1])[k];
        before[s + 1] = before[s] + (16 - mixture.second) * first + mixture.second * second;
    }
    Cumulative cumulative{};
    for (int s = 0; s <= size; s++) {
        cumulative[s] = static_cast<uint16_t>(s + before[s] * (kTotal - size) / before[size]);
    }
    return cumulative;
}

bool from_codes(const int8_t* codes, int bits, Cumulative& cumulative) {
    const int alphabet = 1 << bits;
    std::array<uint64_t, kMaxAlphabet + 1> before{};
    std::array<uint32_t, kMaxAlphabet + 1> present{};
    for (int s = 0; s < alphabet; s++) {
        if (codes[s] < 0) return false;
        before[s + 1] = before[s] + (codes[s] ? power_of_two(codes[s], 14) : 0);
        present[s + 1] = present[s] + (codes[s] != 0);
    }
    if (present[alphabet] == 0) return false;
    const uint64_t shared = kTotal - present[alphabet];
    for (int s = 0; s <= alphabet; s++) {
        cumulative[s] = static_cast<uint16_t>(present[s] + before[s] * shared / before[alphabet]);
    }
    return true;
}

std::vector<int8_t> codes_of(const uint64_t* counts, int bits) {
    const int alphabet = 1 << bits;
    const uint32_t top = log2_fixed(*std::max_element(counts, counts + alphabet));
    std::vector<int8_t> codes(alphabet);
    for (int s = 0; s < alphabet; s++) {
        if (counts[s] == 0) continue;
        const int below = static_cast<int>(((top - log2_fixed(counts[s])) * 8 + 2048) >> 12);
        codes[s] = static_cast<int8_t>(std::max(127 - below, 1));
    }
    return codes;
}

uint32_t cost(uint32_t frequency) {
    static const std::vector<uint32_t> table = [] {
        std::vector<uint32_t> made(kTotal + 1);
        for (uint32_t f = 1; f <= kTotal; f++) made[f] = (kScaleBits << 12) - log2_fixed(f);
        return made;
    }();
    return table[frequency];
}

int context_of(uint64_t moment, int bits) {
    const auto& table = thresholds(bits);
    return static_cast<int>(std::upper_bound(table.begin(), table.end(), moment) - table.begin());
}

uint32_t power_of_two(int eighths, int shift) {
    const int octave = (eighths >> 3) + shift;  // rounds down, also below zero
    return kEighths[eighths & 7] >> (30 - octave);
}

}  // namespace golf::rans
