// The trellis that quantization follows and the entropy coder knows.
#pragma once

namespace golf::trellis {

// 4 or 8 states. A path starts in state 0; state s allows integers of the parity s & 1, and the integer taken names the
// next state.
struct Trellis {
    int states;
    // 1 where the first of a state's two branches is that of integers that are 2 or 3 modulo 4.
    constexpr int flip(int state) const { return (states == 4 ? 0b1100 : 0b00111100) >> state & 1; }
    constexpr int next(int state, int integer) const {
        return (2 * state + ((integer >> 1 & 1) ^ flip(state))) & (states - 1);
    }
};

}  // namespace golf::trellis
