// All passes as one Path; included as vector.hpp is.

template <typename T>
constexpr Passes<T> passes() {
    return {head_rows<T>,
            mix_rows<T>,
            mix_gradient_rows<T>,
            add_rows<T>,
            add_gradient_rows<T>,
            norm_rows<T>,
            norm_gradient_rows<T>,
            activate_rows<T>,
            activate_gradient_rows<T>,
            factor_gradient_rows<T>,
            turn_rows<T>,
            turn_gradient_rows<T>,
            copy_rows<T>,
            exclude_rows<T>,
            exclude_gradient_rows<T>,
            lanes_rows<T>,
            lanes_gradient_rows<T>,
            smear_rows<T>,
            smear_gradient_rows<T>,
            softmax_rows<T>,
            softmax_gradient_rows<T>};
}
