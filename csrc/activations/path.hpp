// All passes as one Path; included as vector.hpp is.

template <typename T>
constexpr Passes<T> passes() {
    return {head_rows<T>};
}
