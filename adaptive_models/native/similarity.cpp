// Structural similarity of small maps, for inference.

#include "memory.h"
#include "vectors.h"

#include <algorithm>

extern "C" {

struct Similarity {
    // Two batches of maps (images, channels, height, width).
    const float *x, *y;
    int64_t images, channels, height, width;
    // Window (side, side), whose weights sum to 1, and the constants.
    const float *window;
    int64_t side;
    float c1, c2;
    // The mean over channels and positions (images).
    float *out;
};

}  // extern "C"

namespace {

constexpr int64_t MOMENTS = 5;  // x, y, their squares, their product

// Maps with zeros around them, whose rows follow each other: so a neighbour is equally far from every position, and all
// positions are one run, of which those beyond the end of a row mean nothing.
struct Padded {
    int64_t stride, run, size;
    explicit Padded(const Similarity& c)
        : stride(c.width + c.side - 1), run(whole(c.height * stride, LANES)), size(run + (c.side - 1) * (stride + 1)) {}
};

// The sum over positions of one channel. `maps` has room for MOMENTS padded maps, and `means` for as many runs.
double channel(const Similarity& c, const Padded& padded, const float* x, const float* y, float* maps, float* means) {
    std::fill(maps, maps + MOMENTS * padded.size, 0.0f);
    const int64_t first = c.side / 2 * (padded.stride + 1);
    for (int64_t row = 0; row < c.height; ++row)
        for (int64_t column = 0; column < c.width; ++column) {
            const float a = x[row * c.width + column], b = y[row * c.width + column];
            const float moments[MOMENTS] = {a, b, a * a, b * b, a * b};
            float* to = maps + first + row * padded.stride + column;
            for (int64_t i = 0; i < MOMENTS; ++i) to[i * padded.size] = moments[i];
        }
    for (int64_t i = 0; i < MOMENTS; ++i)
        for (int64_t from = 0; from < padded.run; from += LANES) {
            Vector sum = {};
            for (int64_t row = 0; row < c.side; ++row)
                for (int64_t column = 0; column < c.side; ++column)
                    sum += all(c.window[row * c.side + column]) *
                           load(maps + i * padded.size + from + row * padded.stride + column);
            store(means + i * padded.run + from, sum);
        }
    double total = 0;
    for (int64_t row = 0; row < c.height; ++row) {
        const float* at = means + row * padded.stride;
        for (int64_t column = 0; column < c.width; ++column, ++at) {
            const float mean_x = at[0], mean_y = at[padded.run];
            const float squares = mean_x * mean_x + mean_y * mean_y, product = mean_x * mean_y;
            const float variances = at[2 * padded.run] + at[3 * padded.run] - squares;
            const float covariance = at[4 * padded.run] - product;
            total += (2 * product + c.c1) / (squares + c.c1) * ((2 * covariance + c.c2) / (variances + c.c2));
        }
    }
    return total;
}

}  // namespace

extern "C" {

void foveabench_similarity(const Similarity* call) {
    const Similarity& c = *call;
    const Padded padded(c);
    const int64_t positions = c.height * c.width;
#pragma omp parallel if (c.images > 1)
    {
        const Room<float> room(MOMENTS * (padded.size + padded.run));
#pragma omp for schedule(static)
        for (int64_t image = 0; image < c.images; ++image) {
            double total = 0;
            for (int64_t each = 0; each < c.channels; ++each) {
                const int64_t here = (image * c.channels + each) * positions;
                total += channel(c, padded, c.x + here, c.y + here, room.data(), room.data() + MOMENTS * padded.size);
            }
            c.out[image] = float(total / double(c.channels * positions));
        }
    }
}

}  // extern "C"
