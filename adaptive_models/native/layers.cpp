// Layers of SAN for inference, those that follow each other as one. Rows are positions, with their channels beside each
// other; callers check shapes (see layers.py).

#include "attention.h"
#include "products.h"

#include <algorithm>

extern "C" {

// Layers for maps of one size, without the images and what they become.

struct Stem {
    int64_t channels, height, width;  // of images (images, channels, height, width)
    // (channels, outputs) and (outputs), filled up with zeros to whole vectors.
    const float *weights, *bias;
    int64_t outputs;  // (images * height / 2 * width / 2, outputs)
};

// Rows (images * height * width, depth), or, with scale and shift (depth), of these under the norm and cut off at 0 the
// largest of every 2 x 2 positions; and then their product.
struct Linear {
    int64_t height, width;
    const float *scale, *shift;
    Dense dense;
};

struct Norm {
    int64_t height, width, channels;
    const float *scale, *shift;
};

struct Bottleneck {
    int64_t height, width, relation, values, groups;
    const float *scale, *shift;
    Dense maps, last;            // to queries, keys and values; back to channels
    const Pairwise* pairwise;    // one of the two
    const Patchwise* patchwise;
};

enum Kind : int64_t { STEM, LINEAR, NORM, BOTTLENECK };

struct Step {
    int64_t kind;
    const void* call;
    int64_t floats;  // of an image that it makes
};

}  // extern "C"

namespace {

// A convolution of few channels, its norm folded in, ReLU, and the largest of every 2 x 2 positions.
void run(const Stem& c, const float* images, int64_t count, float* made) {
    const int64_t lines = c.height / 2, columns = c.width / 2, stride = whole(c.outputs, LANES);
#pragma omp parallel for schedule(static)
    for (int64_t line = 0; line < count * lines; ++line)
        for (int64_t column = 0; column < columns; ++column) {
            const int64_t plane = c.height * c.width;
            const float* in = images + line / lines * c.channels * plane + line % lines * 2 * c.width + 2 * column;
            const int64_t corners[] = {0, 1, c.width, c.width + 1};
            float* out = made + (line * columns + column) * c.outputs;
            for (int64_t lane = 0; lane < c.outputs; lane += LANES) {
                Vector most = Vector{};
                for (const int64_t corner : corners) {
                    Vector sum = load(c.bias + lane);
                    for (int64_t channel = 0; channel < c.channels; ++channel)
                        sum += all(in[channel * plane + corner]) * load(c.weights + channel * stride + lane);
                    most = largest(most, sum);
                }
                float sums[LANES];
                store(sums, most);
                std::copy(sums, sums + std::min(LANES, c.outputs - lane), out + lane);
            }
        }
}

void run(const Linear& c, const float* in, int64_t images, float* out) {
    const Rectified rows{in, c.dense.depth, c.scale, c.shift};
#pragma omp parallel
    {
        if (c.scale)
            multiply(Pooled{rows, c.height, c.width}, images * (c.height / 2) * (c.width / 2), c.dense, {nullptr, out});
        else
            multiply(Given{in, c.dense.depth}, images * c.height * c.width, c.dense, {nullptr, out});
    }
}

// Rows times a scale and plus a shift for each channel, cut off at 0.
void run(const Norm& c, const float* in, int64_t images, float* out) {
    const Rectified rows{in, c.channels, c.scale, c.shift};
    const int64_t count = images * c.height * c.width;
#pragma omp parallel for if (count * c.channels > 16384)
    for (int64_t row = 0; row < count; ++row)
        for (int64_t channel = 0; channel < c.channels; ++channel)
            out[row * c.channels + channel] = rows.one(in + row * c.channels, channel);
}

template <typename Weights>
void run(const Bottleneck& c, const Weights& weigh, const float* in, int64_t images, float* out, float* attention) {
    const int64_t count = images * c.height * c.width, stride = apart(c.values + 1);
    const Room<float> made(count * c.maps.width), sums(count * stride);
    const Maps maps{made.data(), images,   c.height,    c.width, c.maps.width, c.relation,
                    c.values,    c.groups, sums.data(), stride,  attention};
    const int64_t summands = room(maps, weigh);
    const Room<float> partial(summands);
    std::fill_n(partial.data(), summands, 0.0f);
#pragma omp parallel
    {
        multiply(Rectified{in, c.maps.depth, c.scale, c.shift}, count, c.maps, {nullptr, made.data()});
        attend(maps, weigh, partial.data());
        multiply(Given{sums.data(), stride}, count, c.last, {in, out});
    }
    if (attention) sum_up(maps, weigh, partial.data());
}

// The norm, attention and the convolution back, plus what was there.
void run(const Bottleneck& c, const float* in, int64_t images, float* out, float* attention) {
    c.pairwise ? run(c, *c.pairwise, in, images, out, attention) : run(c, *c.patchwise, in, images, out, attention);
}

void run(const Step& step, const float* in, int64_t images, float* out, float* attention) {
    switch (step.kind) {
        case STEM: return run(*static_cast<const Stem*>(step.call), in, images, out);
        case LINEAR: return run(*static_cast<const Linear*>(step.call), in, images, out);
        case NORM: return run(*static_cast<const Norm*>(step.call), in, images, out);
        case BOTTLENECK: return run(*static_cast<const Bottleneck*>(step.call), in, images, out, attention);
    }
}

}  // namespace

extern "C" {

int64_t foveabench_lanes() { return LANES; }
int64_t foveabench_panel() { return PANEL; }

// Steps one after another; and of the last, a bottleneck, the attention (see `Maps`), or null.
void foveabench_layers(const Step* steps, int64_t count, const float* in, int64_t images, float* out,
                       float* attention) {
    int64_t most = 0;
    for (int64_t i = 0; i < count - 1; ++i) most = std::max(most, images * steps[i].floats);
    const Room<float> one(most), other(most);
    for (int64_t i = 0; i < count; ++i) {
        const bool last = i == count - 1;
        float* made = last ? out : (i % 2 ? one : other).data();
        run(steps[i], in, images, made, last ? attention : nullptr);
        in = made;
    }
}

}  // extern "C"
