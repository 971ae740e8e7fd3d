// Rows of the residual stream; included as vector.hpp is.

template <typename T>
void mix_rows(const Mix<T>& mix, int64_t begin, int64_t end) {
    const int64_t n = mix.width;
    std::vector<float> scratch(static_cast<size_t>(n + kLanes));
    float* const sums = scratch.data();
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        V squares{};
        for (int64_t i = 0; i < n; i += kLanes) {
            const int64_t some = n - i;
            V stream = load(mix.x + at + i, some);
            if (mix.branch) stream += load(mix.branch + at + i, some);
            if (mix.skip) stream = fused(load(mix.skip_weight + i, some), load(mix.skip + at + i, some), stream);
            if (mix.stream) store(mix.stream + at + i, stream, some);
            const V mixed = fused(load(mix.shares + i, some), stream, load(mix.shares + n + i, some) * load(mix.x0 + at + i, some));
            store(mix.mixed + at + i, mixed, some);
            squares = fused(mixed, mixed, squares);
            store(sums + i, mixed);
        }
        const float factor = norm_factor(sum(squares), n, mix.eps);
        mix.factors[row] = factor;
        for (int64_t i = 0; i < n; i += kLanes) store(mix.normed + at + i, load(sums + i) * factor, n - i);
    }
}

template <typename T>
void mix_gradient_rows(const MixGradient<T>& mix, int64_t begin, int64_t end, float* part) {
    const int64_t n = mix.width;
    float *const of_share = part, *const of_share0 = part + n, *const of_weight = part + 2 * n;
    memset(part, 0, sizeof(float) * static_cast<size_t>((mix.skip ? 3 : 2) * n));
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        const float factor = mix.factors[row];
        V product{};
        for (int64_t i = 0; i < n; i += kLanes) {
            const int64_t some = n - i;
            const V mixed = fused(load(mix.shares + i, some), load(mix.stream + at + i, some),
                                  load(mix.shares + n + i, some) * load(mix.x0 + at + i, some));
            product = fused(load(mix.d_normed + at + i, some), mixed, product);
        }
        const float along = sum(product) * factor * factor / static_cast<float>(n);
        for (int64_t i = 0; i < n; i += kLanes) {
            const int64_t some = n - i;
            const V stream = load(mix.stream + at + i, some), x0 = load(mix.x0 + at + i, some);
            const V share = load(mix.shares + i, some), share0 = load(mix.shares + n + i, some);
            const V mixed = fused(share, stream, share0 * x0);
            const V d = fused(load(mix.d_normed + at + i, some) - mixed * along, all(factor), load(mix.d_mixed + at + i, some));
            store(of_share + i, fused(d, stream, load(of_share + i, some)), some);
            store(of_share0 + i, fused(d, x0, load(of_share0 + i, some)), some);
            store(mix.d_x0 + at + i, share0 * d, some);
            V d_stream = share * d;
            if (mix.d_out) d_stream += load(mix.d_out + at + i, some);
            store(mix.d_stream + at + i, d_stream, some);
            if (mix.skip) {
                store(of_weight + i, fused(d_stream, load(mix.skip + at + i, some), load(of_weight + i, some)), some);
                store(mix.d_skip + at + i, load(mix.skip_weight + i, some) * d_stream, some);
            }
        }
    }
}

template <typename T>
void add_rows(const Add<T>& add, int64_t begin, int64_t end) {
    const int64_t n = add.width;
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        V squares{};
        for (int64_t i = 0; i < n; i += kLanes) {
            const V total = load(add.residual + at + i, n - i) + load(add.out + at + i, n - i);
            store(add.out + at + i, total, n - i);
            squares = fused(total, total, squares);
        }
        add.factors[row] = norm_factor(sum(squares), n, add.eps);
    }
}

template <typename T>
void add_gradient_rows(const AddGradient<T>& add, int64_t begin, int64_t end) {
    const int64_t n = add.width;
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        const float factor = add.factors[row];
        const float along = -add.d_factors[row] * factor * factor * factor / static_cast<float>(n);
        for (int64_t i = 0; i < n; i += kLanes) {
            const V given = add.grad ? load(add.grad + at + i, n - i) : V{};
            store(add.d_out + at + i, fused(load(add.out + at + i, n - i), all(along), given), n - i);
        }
    }
}

template <typename T>
void norm_rows(const Norm<T>& norm, int64_t begin, int64_t end) {
    const int64_t n = norm.width;
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        V squares{};
        for (int64_t i = 0; i < n; i += kLanes) {
            const V x = load(norm.x + at + i, n - i);
            squares = fused(x, x, squares);
        }
        const float factor = norm_factor(sum(squares), n, norm.eps);
        norm.factors[row] = factor;
        for (int64_t i = 0; i < n; i += kLanes) store(norm.out + at + i, load(norm.x + at + i, n - i) * factor, n - i);
    }
}

template <typename T>
void norm_gradient_rows(const NormGradient<T>& norm, int64_t begin, int64_t end) {
    const int64_t n = norm.width;
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        V product{};
        for (int64_t i = 0; i < n; i += kLanes) {
            product = fused(load(norm.grad + at + i, n - i), load(norm.x + at + i, n - i), product);
        }
        const float factor = norm.factors[row];
        const float along = sum(product) * factor * factor / static_cast<float>(n);
        for (int64_t i = 0; i < n; i += kLanes) {
            const V change = load(norm.grad + at + i, n - i) - load(norm.x + at + i, n - i) * along;
            store(norm.d_x + at + i, change * factor, n - i);
        }
    }
}
