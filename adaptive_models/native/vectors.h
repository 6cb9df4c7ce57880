// Vectors of floats, and products of small matrices, for inference.

#pragma once

#if defined(__SSE__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__)
constexpr int64_t LANES = 16, COLUMNS = 4;
#elif defined(__AVX__)
constexpr int64_t LANES = 8, COLUMNS = 2;
#else
constexpr int64_t LANES = 4, COLUMNS = 2;
#endif
constexpr int64_t TALL = 5;          // rows of a tile: with COLUMNS vectors each, its sums stay in registers
constexpr int64_t CHUNK = 4 * TALL;  // rows that are in the first cache together

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));
typedef float Unaligned __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(LANES * sizeof(float))));

namespace {

inline Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }
inline Vector all(float value) { return value - Vector{}; }  // less zero is no operation, plus zero is: -0 + 0 is 0
// NaN in the first stays. Of the last version, compilers make two instructions.
inline Vector larger(Vector a, Vector b) {
#if defined(__AVX512F__)
    return _mm512_maskz_max_ps(0xffff, b, a);  // without the mask, GCC 12 warns of its own header
#elif defined(__AVX__)
    return _mm256_max_ps(b, a);
#elif defined(__SSE__)
    return _mm_max_ps(b, a);
#else
    return b > a ? b : a;
#endif
}
inline Vector largest(Vector a, Vector b) { return (b > a) | (b != b) ? b : a; }  // NaN in either stays

constexpr float LOG2E = 1.44269504088896341f;

// 2^x for x up to about 0, to 2 units in the last place: 2^n times a polynomial of the rest, of the least relative error
// (9e-8) among those of its degree that are 1 at 0.
inline Vector power_of_two(Vector x) {
    const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    x = larger(x, all(-126.0f));
    const Vector shifted = x + shifter;
    const Vector r = x - (shifted - shifter);
    Vector p = all(1.3264727253e-3f);
    p = p * r + 9.6715127858e-3f;
    p = p * r + 5.5507337445e-2f;
    p = p * r + 2.4022242083e-1f;
    p = p * r + 6.9314697760e-1f;
    p = p * r + 1.0f;
    Integers power;
    std::memcpy(&power, &shifted, sizeof(power));
    power = (power + 127) << 23;  // the low bits of `shifted` are n
    Vector scale;
    std::memcpy(&scale, &power, sizeof(scale));
    return p * scale;
}

// exp(x) for x <= 0, off by 2e-7 at most.
inline Vector exponential(Vector x) { return power_of_two(x * LOG2E); }

inline Vector sigmoid(Vector x) {
    const Vector small = exponential(x > 0 ? -x : x), share = 1.0f / (1.0f + small);
    return x > 0 ? share : small * share;
}

inline Vector tanh(Vector x) {
    const Vector small = exponential(x > 0 ? -2.0f * x : 2.0f * x), size = (1.0f - small) / (1.0f + small);
    return x > 0 ? size : -size;
}

// What a product is added to: nothing, one row of biases, or what is there.
enum class Onto { nothing, bias, sums };

// ROWS rows of `in` (width `depth`) times WIDE vectors of columns of `weights`, cut off at 0 if `relu`.
template <int64_t ROWS, int64_t WIDE, Onto onto, bool relu>
inline void tile(const float* in, int64_t in_stride, int64_t depth, const float* weights, int64_t weights_stride,
                 const float* bias, float* out, int64_t out_stride) {
    Vector sums[ROWS][WIDE];
    for (int64_t row = 0; row < ROWS; ++row)
        for (int64_t column = 0; column < WIDE; ++column)
            sums[row][column] = onto == Onto::bias   ? load(bias + column * LANES)
                                : onto == Onto::sums ? load(out + row * out_stride + column * LANES)
                                                     : Vector{};
    for (int64_t k = 0; k < depth; ++k) {
        Vector w[WIDE];
        for (int64_t column = 0; column < WIDE; ++column) w[column] = load(weights + k * weights_stride + column * LANES);
        for (int64_t row = 0; row < ROWS; ++row) {
            const Vector x = all(in[row * in_stride + k]);
            for (int64_t column = 0; column < WIDE; ++column) sums[row][column] += x * w[column];
        }
    }
    for (int64_t row = 0; row < ROWS; ++row)
        for (int64_t column = 0; column < WIDE; ++column)
            store(out + row * out_stride + column * LANES,
                  relu ? larger(sums[row][column], Vector{}) : sums[row][column]);
}

// Calls a function with a number of at most `MOST` that the compiler then knows.
template <int64_t MOST, typename Function>
inline void with_count(int64_t count, const Function& function) {
    if constexpr (MOST > 1)
        if (count < MOST) return with_count<MOST - 1>(count, function);
    function(std::integral_constant<int64_t, MOST>());
}

// `rows` rows, a multiple of TALL, times all columns; `width` is a multiple of LANES. Of one vector, more rows
// are taken together, for sums that would wait for themselves.
template <Onto onto, bool relu>
void product(const float* in, int64_t in_stride, int64_t depth, const float* weights, int64_t width, const float* bias,
             float* out, int64_t out_stride, int64_t rows) {
    for (int64_t column = 0; column < width; column += COLUMNS * LANES)
        with_count<COLUMNS>((width - column) / LANES, [&](auto wide) {
            constexpr int64_t together = wide == 1 ? 2 * TALL : TALL;
            const float* b = onto == Onto::bias ? bias + column : nullptr;
            int64_t row = 0;
            for (; row + together <= rows; row += together)
                tile<together, wide, onto, relu>(in + row * in_stride, in_stride, depth, weights + column, width, b,
                                                 out + row * out_stride + column, out_stride);
            for (; row < rows; row += TALL)
                tile<TALL, wide, onto, relu>(in + row * in_stride, in_stride, depth, weights + column, width, b,
                                             out + row * out_stride + column, out_stride);
        });
}

inline int64_t whole(int64_t count, int64_t of) { return (count + of - 1) / of * of; }

}  // namespace
