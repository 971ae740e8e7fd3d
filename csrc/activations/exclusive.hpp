// Exclusive self-attention and the gates of heads; included as vector.hpp is.

// The sigmoids of the gates of a row, and their derivatives (or null), without a difference to 1, which would cancel.
template <typename T>
INLINE void open_gates(const T* logits, int64_t heads, float* opened, float* slopes) {
    for (int64_t i = 0; i < heads; i += kLanes) {
        const V logit = load(logits + i, heads - i);
        const V small = exponential(logit < 0.0F ? logit : -logit), share = 1.0F / (1.0F + small);
        store(opened + i, logit < 0.0F ? small * share : share);
        if (slopes) store(slopes + i, small * share * share);
    }
}

// A value over its length, with zeros up to a full vector; returns what it was divided by.
template <typename T>
INLINE float direction_of(const T* value, int64_t n, float smallest, float* direction) {
    V squares{};
    for (int64_t i = 0; i < n; i += kLanes) {
        const V v = load(value + i, n - i);
        squares = fused(v, v, squares);
    }
    const float length = std::sqrt(sum(squares)), size = length < smallest ? smallest : length;
    for (int64_t i = 0; i < n; i += kLanes) store(direction + i, load(value + i, n - i) / size);
    return size;
}

template <typename T>
void exclude_rows(const Exclude<T>& heads, int64_t begin, int64_t end) {
    const int64_t n = heads.head_dim, group = heads.group, count = heads.kv_heads * group;
    std::vector<float> scratch(static_cast<size_t>(n + count + 2 * kLanes), 0.0F);
    float *const direction = scratch.data(), *const opened = direction + n + kLanes;
    for (int64_t row = begin; row < end; row++) {
        const int64_t batch = row / heads.positions, position = row % heads.positions;
        if (heads.gate) open_gates(heads.gate + row * count, count, opened, nullptr);
        for (int64_t head = 0; head < count; head++) {
            if (heads.v.data && head % group == 0) {
                direction_of(head_at(heads.v, batch, position, head / group), n, heads.smallest, direction);
            }
            const T* const y = heads.y + (row * count + head) * n;
            T* const out = heads.out + (row * count + head) * n;
            V product{};
            for (int64_t i = 0; i < n && heads.v.data; i += kLanes) {
                product = fused(load(y + i, n - i), load(direction + i), product);
            }
            const V along = all(-sum(product));
            const float open_by = heads.gate ? opened[head] : 1.0F;
            for (int64_t i = 0; i < n; i += kLanes) {
                store(out + i, fused(along, load(direction + i), load(y + i, n - i)) * open_by, n - i);
            }
        }
    }
}

// With d the gradient of what the gate multiplies: that of y is d - (d . n) n, that of n -((d . n) y + (y . n) d), whose
// part along n is lost where v is divided by its length.
template <typename T>
void exclude_gradient_rows(const ExcludeGradient<T>& heads, int64_t begin, int64_t end) {
    const int64_t n = heads.head_dim, group = heads.group, count = heads.kv_heads * group;
    std::vector<float> scratch(static_cast<size_t>(2 * (n + count) + 4 * kLanes), 0.0F);
    float *const direction = scratch.data(), *const change = direction + n + kLanes;
    float *const opened = change + n + kLanes, *const slopes = opened + count + kLanes;
    float size = 1.0F;
    for (int64_t row = begin; row < end; row++) {
        const int64_t batch = row / heads.positions, position = row % heads.positions;
        if (heads.gate) open_gates(heads.gate + row * count, count, opened, slopes);
        for (int64_t head = 0; head < count; head++) {
            const int64_t at = (row * count + head) * n;
            if (heads.v.data && head % group == 0) {
                size = direction_of(head_at(heads.v, batch, position, head / group), n, heads.smallest, direction);
                memset(change, 0, sizeof(float) * static_cast<size_t>(n));
            }
            const float open_by = heads.gate ? opened[head] : 1.0F;
            V of_y{}, of_grad{};
            for (int64_t i = 0; i < n && heads.v.data; i += kLanes) {
                const V part = load(direction + i);
                of_y = fused(load(heads.y + at + i, n - i), part, of_y);
                of_grad = fused(load(heads.grad + at + i, n - i), part, of_grad);
            }
            const float along = sum(of_y), d_along = sum(of_grad) * open_by;
            V of_gate{};
            for (int64_t i = 0; i < n; i += kLanes) {
                const V y = load(heads.y + at + i, n - i), grad = load(heads.grad + at + i, n - i);
                const V part = load(direction + i), d = grad * open_by;
                of_gate = fused(grad, y - part * along, of_gate);
                store(heads.d_y + at + i, d - part * d_along, n - i);
                if (heads.v.data) store(change + i, load(change + i) - fused(y, all(d_along), d * along));
            }
            if (heads.gate) heads.d_gate[row * count + head] = rounded<T>(sum(of_gate) * slopes[head]);
            if (!heads.v.data || head % group != group - 1) continue;
            V product{};
            for (int64_t i = 0; i < n; i += kLanes) product = fused(load(change + i), load(direction + i), product);
            const float lost = size > heads.smallest ? sum(product) : 0.0F;
            T* const d_v = heads.d_v + (row * heads.kv_heads + head / group) * n;
            for (int64_t i = 0; i < n; i += kLanes) {
                store(d_v + i, (load(change + i) - load(direction + i) * lost) / size, n - i);
            }
        }
    }
}
