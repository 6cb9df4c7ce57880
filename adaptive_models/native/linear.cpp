// 1x1 convolutions for inference: rows of few positions times wide weights, which lie in memory in the order in which
// they are read. A general matrix product would pack them anew at every call, which takes longer than the product.

#include "vectors.h"

#include <memory>
#include <type_traits>

namespace {

constexpr int64_t PANEL = COLUMNS * LANES;  // columns of a panel of weights
constexpr int64_t BLOCK = 12 * TALL;        // rows that share a sweep over the weights
constexpr int64_t DEEP = 16;                // depth of a part of a panel: all rows take it in turn, so it is read once

}  // namespace

extern "C" {

struct Linear {
    // Rows (rows, depth).
    const float *in;
    int64_t rows, depth, width;
    // (panels, depth, PANEL), the last panel filled up; biases (width) or null.
    const float *weights, *bias;
    // (rows, width): what the product is added to, or null; and the result.
    const float *onto;
    float *out;
};

int64_t foveabench_panel() { return PANEL; }

}  // extern "C"

namespace {

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Rows, TALL together, in the order in which they are read. Rows a power of two apart would push each other out of the
// cache.
template <int64_t ROWS>
inline void interleave(const float* in, int64_t depth, float* out) {
    for (int64_t k = 0; k < depth; ++k)
        for (int64_t j = 0; j < ROWS; ++j) out[k * ROWS + j] = in[j * depth + k];
}

// `ROWS` interleaved rows times a part of a panel, onto what `totals` (ROWS, PANEL) holds.
template <int64_t ROWS>
inline void strip(const float* in, const float* weights, int64_t depth, float* totals) {
    Vector sums[ROWS][COLUMNS] = {};
    for (int64_t k = 0; k < depth; ++k) {
        Vector w[COLUMNS];
        for (int64_t i = 0; i < COLUMNS; ++i) w[i] = load(weights + k * PANEL + i * LANES);
        for (int64_t j = 0; j < ROWS; ++j) {
            const Vector x = all(in[k * ROWS + j]);
            for (int64_t i = 0; i < COLUMNS; ++i) sums[j][i] += x * w[i];
        }
    }
    for (int64_t j = 0; j < ROWS; ++j)
        for (int64_t i = 0; i < COLUMNS; ++i) {
            float* total = totals + j * PANEL + i * LANES;
            store(total, load(total) + sums[j][i]);
        }
}

// Calls a function with a number of rows that the compiler knows.
template <typename Function>
inline void with_rows(int64_t rows, const Function& function) {
    switch (rows) {
        case 1: return function(std::integral_constant<int64_t, 1>());
        case 2: return function(std::integral_constant<int64_t, 2>());
        case 3: return function(std::integral_constant<int64_t, 3>());
        case 4: return function(std::integral_constant<int64_t, 4>());
        default: return function(std::integral_constant<int64_t, TALL>());
    }
}

// Interleaved rows `first` to `last`, at most BLOCK, times the panel at `column`.
void panel(const Linear& c, const float* interleaved, int64_t first, int64_t last, int64_t column) {
    float totals[BLOCK * PANEL] = {};
    for (int64_t from = 0; from < c.depth; from += DEEP) {
        const int64_t depth = smaller(DEEP, c.depth - from);
        const float* weights = c.weights + column * c.depth + from * PANEL;
        for (int64_t row = first; row < last; row += TALL) {
            const int64_t rows = smaller(TALL, last - row);
            const float* in = interleaved + row * c.depth + from * rows;
            with_rows(rows, [&](auto known) { strip<known>(in, weights, depth, totals + (row - first) * PANEL); });
        }
    }
    const int64_t count = smaller(PANEL, c.width - column);
    for (int64_t row = first; row < last; ++row) {
        float* made = totals + (row - first) * PANEL;
        const int64_t here = row * c.width + column;
        if (c.bias)
            for (int64_t i = 0; i < count; ++i) made[i] += c.bias[column + i];
        if (c.onto)
            for (int64_t i = 0; i < count; ++i) made[i] += c.onto[here + i];
        for (int64_t i = 0; i < count; ++i) c.out[here + i] = made[i];
    }
}

}  // namespace

extern "C" {

void foveabench_linear(const Linear* call) {
    const Linear& c = *call;
    const int64_t panels = (c.width + PANEL - 1) / PANEL, blocks = (c.rows + BLOCK - 1) / BLOCK;
    const std::unique_ptr<float[]> interleaved(new float[c.rows * c.depth]);
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t row = 0; row < c.rows; row += TALL)
            with_rows(smaller(TALL, c.rows - row), [&](auto known) {
                interleave<known>(c.in + row * c.depth, c.depth, interleaved.get() + row * c.depth);
            });
#pragma omp for schedule(static)
        for (int64_t unit = 0; unit < blocks * panels; ++unit) {
            const int64_t first = unit / panels * BLOCK;
            panel(c, interleaved.get(), first, smaller(first + BLOCK, c.rows), unit % panels * PANEL);
        }
    }
}

}  // extern "C"
