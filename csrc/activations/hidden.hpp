// Rows of an MLP's hidden units; included as vector.hpp is.

// p above 0, else slope * p, and 0 for a slope of 0, which times minus infinity would be NaN.
INLINE V leaky_relu(V p, float slope) { return p < 0.0F ? slope == 0.0F ? V{} : p * slope : p; }

template <typename T>
void activate_rows(const Activation<T>& mlp, int64_t begin, int64_t end) {
    const int64_t n = mlp.hidden;
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        const float factor = mlp.factors ? mlp.factors[row] : 1.0F;
        for (int64_t i = 0; i < n; i += kLanes) {
            const V active = leaky_relu(load(mlp.pre + at + i, n - i) * factor, mlp.slope);
            store(mlp.post + at + i, active * active, n - i);
        }
    }
}

template <typename T>
void activate_gradient_rows(const ActivationGradient<T>& mlp, int64_t begin, int64_t end) {
    const int64_t n = mlp.hidden;
    const float slope = mlp.slope * mlp.slope;
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        const float factor = mlp.factors ? mlp.factors[row] : 1.0F;
        for (int64_t i = 0; i < n; i += kLanes) {
            const V half = leaky_relu(load(mlp.pre + at + i, n - i) * factor, slope);
            store(mlp.grad + at + i, load(mlp.grad + at + i, n - i) * half * (2.0F * factor), n - i);
        }
    }
}

template <typename T>
void factor_gradient_rows(const FactorGradient<T>& mlp, int64_t begin, int64_t end) {
    const int64_t n = mlp.width;
    for (int64_t row = begin; row < end; row++) {
        V product{};
        for (int64_t i = 0; i < n; i += kLanes) {
            product = fused(load(mlp.d_x + row * n + i, n - i), load(mlp.x + row * n + i, n - i), product);
        }
        mlp.d_factors[row] = sum(product) / mlp.factors[row];
    }
}
