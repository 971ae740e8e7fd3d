// Rows of two streams, and of one with a part of the row before; included as vector.hpp is.

template <typename T>
void lanes_rows(const Lanes<T>& lanes, int64_t begin, int64_t end) {
    const int64_t n = lanes.width;
    const float a0 = number(lanes.shares[0]), m0 = number(lanes.shares[1]);
    const float a1 = number(lanes.shares[2]), m1 = number(lanes.shares[3]);
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        for (int64_t i = 0; i < n; i += kLanes) {
            const int64_t some = n - i;
            const V a = load(lanes.attended + at + i, some), m = load(lanes.hidden + at + i, some);
            const V one = load(lanes.kept + i, some) * load(lanes.first + at + i, some);
            const V two = load(lanes.kept + n + i, some) * load(lanes.second + at + i, some);
            store(lanes.one + at + i, fused(m, all(m0), fused(a, all(a0), one)), some);
            store(lanes.two + at + i, fused(m, all(m1), fused(a, all(a1), two)), some);
        }
    }
}

template <typename T>
void lanes_gradient_rows(const LanesGradient<T>& lanes, int64_t begin, int64_t end, float* part) {
    const int64_t n = lanes.width;
    const float a0 = number(lanes.shares[0]), m0 = number(lanes.shares[1]);
    const float a1 = number(lanes.shares[2]), m1 = number(lanes.shares[3]);
    memset(part, 0, sizeof(float) * static_cast<size_t>(2 * n));
    V of_a0{}, of_m0{}, of_a1{}, of_m1{};
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        for (int64_t i = 0; i < n; i += kLanes) {
            const int64_t some = n - i;
            const V one = load(lanes.d_one + at + i, some), two = load(lanes.d_two + at + i, some);
            const V a = load(lanes.attended + at + i, some), m = load(lanes.hidden + at + i, some);
            of_a0 = fused(one, a, of_a0);
            of_m0 = fused(one, m, of_m0);
            of_a1 = fused(two, a, of_a1);
            of_m1 = fused(two, m, of_m1);
            store(part + i, fused(one, load(lanes.first + at + i, some), load(part + i, some)), some);
            store(part + n + i, fused(two, load(lanes.second + at + i, some), load(part + n + i, some)), some);
            store(lanes.d_first + at + i, load(lanes.kept + i, some) * one, some);
            store(lanes.d_second + at + i, load(lanes.kept + n + i, some) * two, some);
            store(lanes.d_attended + at + i, fused(two, all(a1), one * a0), some);
            store(lanes.d_hidden + at + i, fused(two, all(m1), one * m0), some);
        }
    }
    part[2 * n] = sum(of_a0);
    part[2 * n + 1] = sum(of_m0);
    part[2 * n + 2] = sum(of_a1);
    part[2 * n + 3] = sum(of_m1);
}

// The sigmoid of the gate of a position that is not the first of a row or document.
template <typename T>
INLINE float smear_opening(const T* x, const T* gate, int64_t channels) {
    V product{};
    for (int64_t i = 0; i < channels; i += kLanes) {
        product = fused(load(x + i, channels - i), load(gate + i, channels - i), product);
    }
    const V logit = all(sum(product)), small = exponential(logit < 0.0F ? logit : -logit), part = 1.0F / (1.0F + small);
    const V opening = logit < 0.0F ? small * part : part;
    return opening[0];
}

template <typename T>
void smear_rows(const Smear<T>& smear, int64_t begin, int64_t end) {
    const int64_t n = smear.width;
    const float share = number(smear.share[0]);
    for (int64_t row = begin; row < end; row++) {
        const T* const x = smear.x + row * n;
        const bool first = row % smear.positions == 0 || (smear.begins && smear.begins[row]);
        const float opening = first ? 0.0F : smear_opening(x, smear.gate, smear.channels);
        smear.openings[row] = opening;
        if (first) {
            memcpy(smear.out + row * n, x, sizeof(T) * static_cast<size_t>(n));
            continue;
        }
        for (int64_t i = 0; i < n; i += kLanes) {
            store(smear.out + row * n + i, fused(load(x - n + i, n - i), all(share * opening), load(x + i, n - i)), n - i);
        }
    }
}

// The gradient of a row comes from its own output, from that of the next row if a share of this one is added there, and
// from the logit of its own gate.
template <typename T>
void smear_gradient_rows(const SmearGradient<T>& smear, int64_t begin, int64_t end, float* part) {
    const int64_t n = smear.width, channels = smear.channels;
    const float share = number(smear.share[0]);
    float* const of_gate = part;
    float of_share = 0.0F;
    memset(of_gate, 0, sizeof(float) * static_cast<size_t>(channels));
    for (int64_t row = begin; row < end; row++) {
        const T *const x = smear.x + row * n, *const grad = smear.grad + row * n;
        const float opening = smear.openings[row];
        const float given = (row + 1) % smear.positions != 0 ? share * smear.openings[row + 1] : 0.0F;
        V product{};
        for (int64_t i = 0; i < n && opening != 0.0F; i += kLanes) {
            product = fused(load(grad + i, n - i), load(x - n + i, n - i), product);
        }
        const float of_opening = sum(product), of_logit = of_opening * share * opening * (1.0F - opening);
        of_share += of_opening * opening;
        for (int64_t i = 0; i < n; i += kLanes) {
            V d = load(grad + i, n - i);
            if (given != 0.0F) d = fused(load(grad + n + i, n - i), all(given), d);
            if (i < channels) {
                d = fused(load(smear.gate + i, channels - i), all(of_logit), d);
                const V total = fused(load(x + i, channels - i), all(of_logit), load(of_gate + i, channels - i));
                store(of_gate + i, total, channels - i);
            }
            store(smear.d_x + row * n + i, d, n - i);
        }
    }
    part[channels] = of_share;
}
