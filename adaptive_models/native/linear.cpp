// 1x1 convolutions for inference: rows of few positions times wide weights, which lie in memory in the order in which
// they are read. A general matrix product would pack them anew at every call, which takes longer than the product.

#include "vectors.h"

namespace {

constexpr int64_t PANEL = COLUMNS * LANES;  // columns of a panel of weights
constexpr int64_t BLOCK = 12 * TALL;        // rows that share a sweep over the weights
constexpr int64_t DEEP = 32;                // products that are summed on their own: long sums round worse

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

// `ROWS` rows times one panel.
template <int64_t ROWS>
inline void strip(const Linear& c, int64_t row, int64_t column) {
    const float* weights = c.weights + column * c.depth;
    const float* in = c.in + row * c.depth;
    Vector totals[ROWS][COLUMNS] = {};
    for (int64_t from = 0; from < c.depth; from += DEEP) {
        const int64_t to = from + DEEP < c.depth ? from + DEEP : c.depth;
        Vector sums[ROWS][COLUMNS] = {};
        for (int64_t k = from; k < to; ++k) {
            Vector w[COLUMNS];
            for (int64_t i = 0; i < COLUMNS; ++i) w[i] = load(weights + k * PANEL + i * LANES);
            for (int64_t j = 0; j < ROWS; ++j) {
                const Vector x = all(in[j * c.depth + k]);
                for (int64_t i = 0; i < COLUMNS; ++i) sums[j][i] += x * w[i];
            }
        }
        for (int64_t j = 0; j < ROWS; ++j)
            for (int64_t i = 0; i < COLUMNS; ++i) totals[j][i] += sums[j][i];
    }
    for (int64_t j = 0; j < ROWS; ++j) {
        float made[PANEL];
        for (int64_t i = 0; i < COLUMNS; ++i) store(made + i * LANES, totals[j][i]);
        const int64_t here = (row + j) * c.width + column, count = c.width - column < PANEL ? c.width - column : PANEL;
        if (c.bias)
            for (int64_t i = 0; i < count; ++i) made[i] += c.bias[column + i];
        if (c.onto)
            for (int64_t i = 0; i < count; ++i) made[i] += c.onto[here + i];
        for (int64_t i = 0; i < count; ++i) c.out[here + i] = made[i];
    }
}

inline void strip_of(const Linear& c, int64_t row, int64_t rows, int64_t column) {
    switch (rows) {
        case 1: return strip<1>(c, row, column);
        case 2: return strip<2>(c, row, column);
        case 3: return strip<3>(c, row, column);
        case 4: return strip<4>(c, row, column);
        default: return strip<TALL>(c, row, column);
    }
}

}  // namespace

extern "C" {

void foveabench_linear(const Linear* call) {
    const Linear& c = *call;
    const int64_t panels = (c.width + PANEL - 1) / PANEL, blocks = (c.rows + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static)
    for (int64_t unit = 0; unit < blocks * panels; ++unit) {
        const int64_t from = unit / panels * BLOCK, column = unit % panels * PANEL;
        const int64_t to = from + BLOCK < c.rows ? from + BLOCK : c.rows;
        for (int64_t row = from; row < to; row += TALL)
            strip_of(c, row, to - row < TALL ? to - row : TALL, column);
    }
}

}  // extern "C"
