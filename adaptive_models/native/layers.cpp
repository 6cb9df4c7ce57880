// Layers of SAN for inference, those that follow each other as one. Rows are positions, with their channels beside each
// other; callers check shapes (see inference.py).

#include "attention.h"
#include "products.h"

#include <algorithm>

extern "C" {

struct Stem {
    const float* in;  // images (images, channels, height, width)
    int64_t images, channels, height, width;
    // (channels, outputs) and (outputs), filled up with zeros to whole vectors.
    const float *weights, *bias;
    int64_t outputs;
    float* out;  // (images * height / 2 * width / 2, outputs)
};

// Rows (images * height * width, depth), or, with scale and shift (depth), of these under the norm and cut off at 0 the
// largest of every 2 x 2 positions; and then their product.
struct Linear {
    const float* in;
    int64_t images, height, width;
    const float *scale, *shift;
    Dense dense;
    float* out;
};

struct Bottleneck {
    const float* in;  // rows (images * height * width, channels)
    int64_t images, height, width, relation, values, groups;
    const float *scale, *shift;
    Dense maps, last;            // to queries, keys and values; back to channels
    const Pairwise* pairwise;    // one of the two
    const Patchwise* patchwise;
    float *out, *attention;  // as the input; and see `Maps`
};

int64_t foveabench_lanes() { return LANES; }
int64_t foveabench_panel() { return PANEL; }

// A convolution of few channels, its norm folded in, ReLU, and the largest of every 2 x 2 positions.
void foveabench_stem(const Stem* call) {
    const Stem& c = *call;
    const int64_t lines = c.height / 2, columns = c.width / 2, stride = whole(c.outputs, LANES);
#pragma omp parallel for schedule(static)
    for (int64_t line = 0; line < c.images * lines; ++line)
        for (int64_t column = 0; column < columns; ++column) {
            const int64_t plane = c.height * c.width;
            const float* in = c.in + line / lines * c.channels * plane + line % lines * 2 * c.width + 2 * column;
            const int64_t corners[] = {0, 1, c.width, c.width + 1};
            float* out = c.out + (line * columns + column) * c.outputs;
            for (int64_t lane = 0; lane < c.outputs; lane += LANES) {
                Vector most = Vector{};
                for (const int64_t corner : corners) {
                    Vector sum = load(c.bias + lane);
                    for (int64_t channel = 0; channel < c.channels; ++channel)
                        sum += all(in[channel * plane + corner]) * load(c.weights + channel * stride + lane);
                    most = largest(most, sum);
                }
                float made[LANES];
                store(made, most);
                std::copy(made, made + std::min(LANES, c.outputs - lane), out + lane);
            }
        }
}

void foveabench_linear(const Linear* call) {
    const Linear& c = *call;
    const Rectified rows{c.in, c.dense.depth, c.scale, c.shift};
#pragma omp parallel
    {
        if (c.scale)
            multiply(Pooled{rows, c.height, c.width}, c.images * (c.height / 2) * (c.width / 2), c.dense,
                     {nullptr, c.out});
        else
            multiply(Given{c.in, c.dense.depth}, c.images * c.height * c.width, c.dense, {nullptr, c.out});
    }
}

// Rows times a scale and plus a shift for each channel, cut off at 0.
void foveabench_rectify(const float* in, const float* scale, const float* shift, float* out, int64_t rows,
                        int64_t channels) {
#pragma omp parallel for if (rows * channels > 16384)
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t channel = 0; channel < channels; ++channel)
            out[row * channels + channel] = Rectified{in, channels, scale, shift}.one(in + row * channels, channel);
}

}  // extern "C"

namespace {

template <typename Kind>
void run(const Bottleneck& c, const Kind& weigh) {
    const int64_t count = c.images * c.height * c.width, stride = apart(c.values + 1);
    const Room<float> made(count * c.maps.width), sums(count * stride);
    const Maps maps{made.data(), c.images, c.height,   c.width, c.maps.width, c.relation,
                    c.values,   c.groups, sums.data(), stride,  c.attention};
    const int64_t summands = room(maps, weigh);
    const Room<float> partial(summands);
    std::fill_n(partial.data(), summands, 0.0f);
#pragma omp parallel
    {
        multiply(Rectified{c.in, c.maps.depth, c.scale, c.shift}, count, c.maps, {nullptr, made.data()});
        attend(maps, weigh, partial.data());
        multiply(Given{sums.data(), stride}, count, c.last, {c.in, c.out});
    }
    if (c.attention) sum_up(maps, weigh, partial.data());
}

}  // namespace

extern "C" {

// The norm, attention and the convolution back, plus what was there.
void foveabench_bottleneck(const Bottleneck* call) {
    call->pairwise ? run(*call, *call->pairwise) : run(*call, *call->patchwise);
}

}  // extern "C"
