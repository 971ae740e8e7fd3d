// What the writer and the reader of a stream agree on.
#pragma once

#include <algorithm>
#include <cstdint>

namespace golf::rans {

constexpr uint8_t kVersion = 1;
constexpr uint32_t kLow = 1u << 16;  // a state is at least this, and below 2^32: words of 16 bits

// States that take turns: value t belongs to lane t mod lanes.
inline uint64_t lanes_for(uint64_t values) {
    constexpr uint64_t kValuesPerLane = 4096, kMaxLanes = 1024;
    return std::clamp<uint64_t>(values / kValuesPerLane, 1, kMaxLanes);
}

}  // namespace golf::rans
