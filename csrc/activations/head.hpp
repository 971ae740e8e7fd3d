// The head's rows; included as vector.hpp is.

template <typename T>
INLINE void head_row(T* logits, int64_t n, int64_t target, float softcap, bool gradient, float scale, float* tangents,
                     float* exponentials, float* loss) {
    const float inverse = 1.0F / softcap;
    V most = all(-INFINITY), size = all(0.0F);
    for (int64_t i = 0; i < n; i += kLanes) {
        const V logit = load(logits + i, n - i);
        most = larger(first(logit, n - i, -INFINITY), most);
        size = larger((V)((U)logit & 0x7FFFFFFF), size);
    }
    // The tangent rises, so this is near the largest capped logit: the sum then has a term near 1 and none far above.
    const float cap = softcap * std::tanh(largest(most) * inverse);
    const bool small = largest(size) * inverse < 0.625F;
    V total{};
    for (int64_t i = 0; i < n; i += kLanes) {
        const V x = load(logits + i, n - i) * inverse;
        const V tangent = small ? small_tangent(x) : hyperbolic_tangent(x);
        const V term = exponential(fused(tangent, all(softcap), all(-cap)));
        total += first(term, n - i);
        store(tangents + i, tangent);
        if (gradient) store(exponentials + i, term);
    }
    const float sum_of_terms = sum(total);
    const bool inside = target >= 0 && target < n;
    *loss = inside ? cap + std::log(sum_of_terms) - softcap * tangents[target] : NAN;
    if (!gradient) return;
    const float share = inside ? scale / sum_of_terms : NAN;
    if (inside) exponentials[target] -= sum_of_terms;
    for (int64_t i = 0; i < n; i += kLanes) {
        const V tangent = load(tangents + i);
        store(logits + i, load(exponentials + i) * share * (1.0F - tangent * tangent), n - i);
    }
}

template <typename T>
void head_rows(const Head<T>& head, int64_t begin, int64_t end) {
    const int64_t n = head.vocabulary, room = n + kLanes;
    std::vector<float> scratch(static_cast<size_t>(2 * room));
    for (int64_t row = begin; row < end; row++) {
        head_row(head.logits + row * n, n, head.targets[row], head.softcap, head.gradient,
                 head.scales ? head.scales[row] : 1.0F, scratch.data(),
                 scratch.data() + room, head.losses + row);
    }
}
