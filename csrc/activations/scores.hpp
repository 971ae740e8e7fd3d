// Rows of attention's scores; included as vector.hpp is.

// The keys that a row of a block sees, from `low` to before `high`.
struct Seen {
    int64_t low, high;
};

template <typename S>
INLINE Seen seen_by(const S& scores, int64_t row) {
    const int64_t position = row % scores.rows / scores.group, high = position + scores.before + 1;
    const int64_t fold = row / scores.rows % scores.folds;
    return {scores.lows ? scores.lows[fold * (scores.rows / scores.group) + position] : 0, high < scores.keys ? high : scores.keys};
}

template <typename T>
void softmax_rows(const Scores<T>& scores, int64_t begin, int64_t end) {
    const int64_t keys = scores.keys;
    std::vector<float> scratch(static_cast<size_t>(keys + kLanes));
    float* const terms = scratch.data();
    for (int64_t row = begin; row < end; row++) {
        T* const score = scores.scores + row * keys;
        const Seen seen = seen_by(scores, row);
        V most = all(-INFINITY);
        for (int64_t i = seen.low; i < seen.high; i += kLanes) {
            most = larger(first(load(score + i, seen.high - i), seen.high - i, -INFINITY), most);
        }
        const float top = largest(most) * scores.scale;
        V total{};
        for (int64_t i = seen.low; i < seen.high; i += kLanes) {
            const V term = exponential(fused(load(score + i, seen.high - i), all(scores.scale), all(-top)));
            total += first(term, seen.high - i);
            store(terms + (i - seen.low), term);
        }
        const float share = 1.0F / sum(total);
        memset(score, 0, sizeof(T) * static_cast<size_t>(seen.low));
        for (int64_t i = seen.low; i < seen.high; i += kLanes) {
            store(score + i, load(terms + (i - seen.low)) * share, seen.high - i);
        }
        memset(score + seen.high, 0, sizeof(T) * static_cast<size_t>(keys - seen.high));
    }
}

template <typename T>
void softmax_gradient_rows(const ScoresGradient<T>& scores, int64_t begin, int64_t end) {
    const int64_t keys = scores.keys;
    for (int64_t row = begin; row < end; row++) {
        T* const grad = scores.grad + row * keys;
        const T* const share = scores.shares + row * keys;
        const Seen seen = seen_by(scores, row);
        V product{};
        for (int64_t i = seen.low; i < seen.high; i += kLanes) {
            product = fused(load(grad + i, seen.high - i), load(share + i, seen.high - i), product);
        }
        const float along = sum(product);
        memset(grad, 0, sizeof(T) * static_cast<size_t>(seen.low));
        for (int64_t i = seen.low; i < seen.high; i += kLanes) {
            const V change = (load(grad + i, seen.high - i) - along) * load(share + i, seen.high - i);
            store(grad + i, change * scores.scale, seen.high - i);
        }
        memset(grad + seen.high, 0, sizeof(T) * static_cast<size_t>(keys - seen.high));
    }
}
