// Heads of queries, keys and values; included as vector.hpp is.

template <typename T>
INLINE T* head_at(const Heads<T>& heads, int64_t batch, int64_t position, int64_t head) {
    return heads.data + batch * heads.batch + position * heads.position + head * heads.head;
}

template <typename T>
void turn_rows(const Turn<T>& turn, int64_t begin, int64_t end) {
    const int64_t n = turn.head_dim, pairs = turn.pairs;
    for (int64_t row = begin; row < end; row++) {
        const int64_t batch = row / turn.positions, position = row % turn.positions;
        const T *const cosines = turn.cosines + position * pairs, *const sines = turn.sines + position * pairs;
        for (int64_t head = 0; head < turn.heads; head++) {
            const T* const from = head_at(turn.from, batch, position, head);
            T* const to = head_at(turn.to, batch, position, head);
            V squares{};
            for (int64_t i = 0; i < n; i += kLanes) {
                const V x = load(from + i, n - i);
                squares = fused(x, x, squares);
            }
            const float gain = turn.gains ? number(turn.gains[head]) : 1.0F;
            const float factor = norm_factor(sum(squares), n, turn.eps) * gain;
            for (int64_t i = 0; i < pairs; i += kLanes) {
                const int64_t some = pairs - i;
                const V a = load(from + i, some) * factor, b = load(from + pairs + i, some) * factor;
                const V cosine = load(cosines + i, some), sine = load(sines + i, some);
                store(to + i, fused(a, cosine, b * sine), some);
                store(to + pairs + i, fused(b, cosine, -(a * sine)), some);
            }
            for (int64_t i = 2 * pairs; i < n; i += kLanes) store(to + i, load(from + i, n - i) * factor, n - i);
        }
    }
}

// With the norm's x / factor as n: the gradient of n is that of the output turned back, times the gain.
template <typename T>
void turn_gradient_rows(const TurnGradient<T>& turn, int64_t begin, int64_t end, float* part) {
    const int64_t n = turn.head_dim, pairs = turn.pairs;
    std::vector<float> scratch(static_cast<size_t>(n + 2 * kLanes));
    float* const back = scratch.data();
    for (int64_t head = 0; head < turn.heads && part; head++) part[head] = 0.0F;
    for (int64_t row = begin; row < end; row++) {
        const int64_t batch = row / turn.positions, position = row % turn.positions;
        const T *const cosines = turn.cosines + position * pairs, *const sines = turn.sines + position * pairs;
        for (int64_t head = 0; head < turn.heads; head++) {
            const T* const x = head_at(turn.x, batch, position, head);
            const T* const grad = head_at(turn.grad, batch, position, head);
            T* const d_x = head_at(turn.d_x, batch, position, head);
            for (int64_t i = 0; i < pairs; i += kLanes) {
                const int64_t some = pairs - i;
                const V a = load(grad + i, some), b = load(grad + pairs + i, some);
                const V cosine = load(cosines + i, some), sine = load(sines + i, some);
                store(back + i, fused(a, cosine, -(b * sine)), some);
                store(back + pairs + i, fused(a, sine, b * cosine), some);
            }
            for (int64_t i = 2 * pairs; i < n; i += kLanes) store(back + i, load(grad + i, n - i), n - i);
            V squares{}, product{};
            for (int64_t i = 0; i < n; i += kLanes) {
                const V value = load(x + i, n - i);
                squares = fused(value, value, squares);
                product = fused(value, load(back + i, n - i), product);
            }
            const float factor = norm_factor(sum(squares), n, turn.eps), along = sum(product) * factor;
            const float gain = turn.gains ? number(turn.gains[head]) : 1.0F;
            if (part) part[head] += along;
            const float of_x = along * factor / static_cast<float>(n);
            for (int64_t i = 0; i < n; i += kLanes) {
                store(d_x + i, (load(back + i, n - i) - load(x + i, n - i) * of_x) * (factor * gain), n - i);
            }
        }
    }
}

template <typename T>
void copy_rows(const Copy<T>& copy, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        const int64_t batch = row / copy.positions, position = row % copy.positions;
        for (int64_t head = 0; head < copy.heads; head++) {
            memcpy(head_at(copy.to, batch, position, head), head_at(copy.from, batch, position, head),
                   sizeof(T) * static_cast<size_t>(copy.head_dim));
        }
    }
}
