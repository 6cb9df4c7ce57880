// Patchwise local attention for inference, fused: for a few positions at a time it runs the norm and the two 1x1
// convolutions over query and keys, place after place of the footprint, and sums the values. Nothing of a footprint's
// size is in memory but for those few positions. Channels lie last; callers check shapes (see inference.py).
//
// Every place of a footprint has weights of its own, so that a neighbour that reflection repeats is computed as often
// as it is there; it is read where it lies, with no padding made.

#include "vectors.h"

#include <omp.h>

#include <algorithm>
#include <vector>

namespace {

constexpr int64_t DEPTH = 256;  // inputs of a position that are in the first cache together

}  // namespace

extern "C" {

struct Patchwise {
    // Maps of `images` images: queries (D), keys (D) and values (V) beside each other in rows of `stride` floats.
    const float *maps;
    int64_t images, height, width, stride, relation, values, groups, side;
    // The norm of the query and of the key at each place of the footprint: (k * k + 1, D), and a vector more.
    const float *scale, *shift;
    const float *first, *bias;  // ((k * k + 1) * D, whole(G)), (whole(G))
    const float *second, *second_bias;  // (k * k, G, expanded groups), (k * k, expanded groups): see foveabench_lanes
    const float *value_shift;  // (V)
    // Where the rows of a map padded by reflection come from, (H + k - 1), and the columns, (W + k - 1).
    const int64_t *rows, *columns;
    // Sums (images * H * W, out_stride), cut off at 0, of which column V is set to 1; and attention summed where it
    // looks, (images, H * W, G) of zeros, or null.
    float *out;
    int64_t out_stride;
    float *attention;
};

void foveabench_patchwise(const Patchwise* call) {
    const Patchwise& c = *call;
    const int64_t places = c.side * c.side, padding = c.side / 2, positions = c.images * c.height * c.width;
    const int64_t hidden = whole(c.groups, LANES), expanded = c.groups > LANES ? c.groups : LANES;
    const int64_t shares = c.values / expanded;
    const int64_t together = std::max<int64_t>(1, DEPTH / c.relation), input_stride = together * c.relation + LANES;
    // As many chunks as keep all threads busy. Attention is summed up line by line, into the lines that a footprint
    // reaches, and then over lines in their order, for the same sum with any threads.
    const int64_t threads = omp_get_max_threads(), chunks = whole((positions + CHUNK - 1) / CHUNK, threads);
    const int64_t chunk = c.attention || !chunks ? CHUNK : whole((positions + chunks - 1) / chunks, TALL);
    const int64_t span = c.attention ? c.width : chunk, units = (positions + span - 1) / span;
    const int64_t reach = c.attention ? c.width * c.groups : 0;
    std::vector<float> partial(units * c.side * reach);

#pragma omp parallel
    {
        std::vector<float> inputs(CHUNK * input_stride), activations(CHUNK * hidden);
        std::vector<float> weights(places * CHUNK * expanded);
        std::vector<const float*> sources(CHUNK * (places + 1));

#pragma omp for schedule(dynamic, 1)
        for (int64_t unit = 0; unit < units; ++unit)
            for (int64_t from = unit * span, end = std::min(from + span, positions); from < end; from += chunk) {
                const int64_t count = std::min(chunk, end - from), tall = whole(count, TALL);
                for (int64_t row = 0; row < count; ++row) {
                    const int64_t x = (from + row) % c.width, line = (from + row) / c.width, y = line % c.height;
                    const float* image = c.maps + (line - y) * c.width * c.stride;
                    const float** source = sources.data() + row * (places + 1);
                    *source++ = c.maps + (from + row) * c.stride;
                    for (int64_t down = 0; down < c.side; ++down)
                        for (int64_t right = 0; right < c.side; ++right)
                            *source++ = image + (c.rows[y + down] * c.width + c.columns[x + right]) * c.stride +
                                        c.relation;
                }
                for (int64_t row = 0; row < tall; ++row)
                    std::copy(c.bias, c.bias + hidden, activations.data() + row * hidden);
                for (int64_t item = 0; item <= places; item += together) {
                    const int64_t last = std::min(item + together, places + 1);
                    for (int64_t row = 0; row < count; ++row) {
                        float* input = inputs.data() + row * input_stride;
                        for (int64_t each = item; each < last; ++each, input += c.relation) {
                            const float* source = sources[row * (places + 1) + each];
                            const float *scale = c.scale + each * c.relation, *shift = c.shift + each * c.relation;
                            for (int64_t channel = 0; channel < c.relation; channel += LANES)
                                store(input + channel, larger(load(source + channel) * load(scale + channel) +
                                                                  load(shift + channel),
                                                              Vector{}));
                        }
                    }
                    product<Onto::sums, false>(inputs.data(), input_stride, (last - item) * c.relation,
                                               c.first + item * c.relation * hidden, hidden, nullptr,
                                               activations.data(), hidden, tall);
                }
                for (int64_t i = 0; i < count * hidden; i += LANES)
                    store(activations.data() + i, larger(load(activations.data() + i), Vector{}));
                for (int64_t place = 0; place < places; ++place)
                    product<Onto::bias, false>(activations.data(), hidden, c.groups,
                                               c.second + place * c.groups * expanded, expanded,
                                               c.second_bias + place * expanded,
                                               weights.data() + place * CHUNK * expanded, expanded, tall);
                if (c.attention)
                    for (int64_t row = 0; row < count; ++row)
                        for (int64_t place = 0; place < places; ++place) {
                            const int64_t there = (from + row) % c.width + place % c.side - padding;
                            if (there < 0 || there >= c.width) continue;
                            const float* weight = weights.data() + (place * CHUNK + row) * expanded;
                            float* sum = partial.data() + (unit * c.side + place / c.side) * reach + there * c.groups;
                            for (int64_t group = 0; group < c.groups; ++group) sum[group] += weight[group];
                        }
                for (int64_t row = 0; row < count; ++row) {
                    const float* const* keys = sources.data() + row * (places + 1) + 1;
                    float* out = c.out + (from + row) * c.out_stride;
                    for (int64_t lane = 0; lane < expanded; lane += LANES)
                        for (int64_t share = 0; share < shares; share += 8) {
                            const int64_t several = std::min<int64_t>(shares - share, 8), at = lane + share * expanded;
                            Vector aggregated[8] = {};
                            for (int64_t place = 0; place < places; ++place) {
                                const Vector weight = load(weights.data() + (place * CHUNK + row) * expanded + lane);
                                const float* value = keys[place] + c.relation + at;
                                if (several == 8)
                                    for (int64_t i = 0; i < 8; ++i) aggregated[i] += weight * load(value + i * expanded);
                                else
                                    for (int64_t i = 0; i < several; ++i)
                                        aggregated[i] += weight * load(value + i * expanded);
                            }
                            for (int64_t i = 0; i < several; ++i)
                                store(out + at + i * expanded,
                                      larger(aggregated[i] + load(c.value_shift + at + i * expanded), Vector{}));
                        }
                    out[c.values] = 1.0f;
                }
            }
    }
    if (c.attention)
        for (int64_t line = 0; line < units; ++line)
            for (int64_t down = 0; down < c.side; ++down) {
                const int64_t there = line % c.height + down - padding;
                if (there < 0 || there >= c.height) continue;
                const float* sum = partial.data() + (line * c.side + down) * reach;
                float* attention = c.attention + (line - line % c.height + there) * reach;
                for (int64_t i = 0; i < reach; ++i) attention[i] += sum[i];
            }
}

}  // extern "C"
