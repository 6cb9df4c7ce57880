// Pairwise local attention for inference, fused: for a few positions at a time it subtracts keys from the query, runs
// the two 1x1 convolutions over the footprint with their batch norms folded in, and the softmax, and sums the values.
// Nothing of a footprint's size is ever in memory. Channels lie last; callers check shapes (see inference.py).
//
// Where reflection repeats a neighbour, it is computed once, with its multiplicity.

#include "vectors.h"

#include <vector>

namespace {

constexpr int64_t BLOCK = 4;  // positions that share a sweep

}  // namespace

extern "C" {

struct Pairwise {
    // Maps of `images` images: queries (D), keys (D) and values (V) beside each other in rows of `stride` floats.
    const float *maps;
    int64_t images, height, width, stride, relation, values, groups;
    // Position features of queries and keys, (H * W, 2).
    const float *query_places, *key_places;
    // (D + 2, whole(D)), (whole(D)), (D, expanded groups): see foveabench_lanes.
    const float *first, *bias, *second;
    // For each row of positions, and for each column: first entry in the lists below; then the neighbours without
    // repeats, how often each is there, and whether it is within reach without reflection.
    const int64_t *row_starts, *rows, *row_counts, *row_direct;
    const int64_t *column_starts, *columns, *column_counts, *column_direct;
    // Sums (images * H * W, out_stride), cut off at 0, of which column V is set to 1; and attention summed where it
    // looks, (images, H * W, G) of zeros, or null.
    float *out;
    int64_t out_stride;
    float *attention;
};

int64_t foveabench_lanes() { return LANES; }

void foveabench_pairwise(const Pairwise* call) {
    const Pairwise& c = *call;
    const int64_t depth = c.relation + 2, hidden = whole(c.relation, LANES);
    const int64_t expanded = c.groups > LANES ? c.groups : LANES, shares = c.values / expanded;
    const int64_t difference_stride = whole(depth, LANES) + LANES;
    // Attention is summed up line by line, and then over lines in their order, for the same sum with any threads.
    const int64_t blocks = (c.width + BLOCK - 1) / BLOCK, apart = c.attention ? 1 : blocks;
    int64_t most = 0;
    for (int64_t y = 0; y < c.height; ++y) {
        const int64_t count = c.row_starts[y + 1] - c.row_starts[y];
        if (count > most) most = count;
    }
    int64_t most_columns = 0;
    for (int64_t x = 0; x < c.width; ++x) {
        const int64_t count = c.column_starts[x + 1] - c.column_starts[x];
        if (count > most_columns) most_columns = count;
    }
    const int64_t capacity = whole(BLOCK * most * most_columns, CHUNK);
    const int64_t reach = c.attention ? c.height * c.width * c.groups : 0;
    std::vector<float> partial(c.attention ? c.images * c.height * reach : 0);

#pragma omp parallel
    {
        std::vector<float> differences(CHUNK * difference_stride), activations(CHUNK * hidden);
        std::vector<float> weights(capacity * expanded), sums(expanded);
        std::vector<int64_t> source(capacity), position(capacity), direct(capacity);
        std::vector<float> multiplicity(capacity);

#pragma omp for schedule(dynamic, 1)
        for (int64_t unit = 0; unit < c.images * c.height * apart; ++unit) {
            const int64_t line = unit / apart;
            for (int64_t block = unit % apart; block < blocks; block += apart) {
                const int64_t y = line % c.height, base = line / c.height * c.height * c.width;
                const int64_t from = block * BLOCK, to = from + BLOCK < c.width ? from + BLOCK : c.width;
                int64_t starts[BLOCK + 1], rows = 0;
                for (int64_t x = from; x < to; ++x) {
                    starts[x - from] = rows;
                    for (int64_t i = c.row_starts[y]; i < c.row_starts[y + 1]; ++i)
                        for (int64_t j = c.column_starts[x]; j < c.column_starts[x + 1]; ++j) {
                            source[rows] = c.rows[i] * c.width + c.columns[j];
                            position[rows] = y * c.width + x;
                            multiplicity[rows] = static_cast<float>(c.row_counts[i] * c.column_counts[j]);
                            direct[rows++] = c.row_direct[i] & c.column_direct[j];
                        }
                }
                starts[to - from] = rows;
                for (int64_t chunk = 0; chunk < rows; chunk += CHUNK) {
                    const int64_t count = rows - chunk < CHUNK ? rows - chunk : CHUNK;
                    for (int64_t row = 0; row < count; ++row) {
                        const int64_t here = position[chunk + row], there = source[chunk + row];
                        const float* query = c.maps + (base + here) * c.stride;
                        const float* key = c.maps + (base + there) * c.stride + c.relation;
                        float* x = differences.data() + row * difference_stride;
                        for (int64_t channel = 0; channel < c.relation; channel += LANES)
                            store(x + channel, larger(load(query + channel) - load(key + channel), Vector{}));
                        for (int64_t axis = 0; axis < 2; ++axis) {
                            const float shift = c.query_places[2 * here + axis] - c.key_places[2 * there + axis];
                            x[c.relation + axis] = shift > 0 ? shift : 0;
                        }
                    }
                    const int64_t tall = whole(count, TALL);
                    product<Onto::bias, true>(differences.data(), difference_stride, depth, c.first, hidden, c.bias,
                                              activations.data(), hidden, tall);
                    product<Onto::nothing, false>(activations.data(), hidden, c.relation, c.second, expanded, nullptr,
                                                  weights.data() + chunk * expanded, expanded, tall);
                }
                for (int64_t x = from; x < to; ++x) {
                    const int64_t first = starts[x - from], last = starts[x - from + 1];
                    float* out = c.out + (base + y * c.width + x) * c.out_stride;
                    for (int64_t lane = 0; lane < expanded; lane += LANES) {
                        float* w = weights.data() + lane;
                        Vector most_alike = load(w + first * expanded), sum = Vector{};
                        for (int64_t row = first + 1; row < last; ++row)
                            most_alike = larger(most_alike, load(w + row * expanded));
                        for (int64_t row = first; row < last; ++row) {
                            const Vector each = exponential(load(w + row * expanded) - most_alike);
                            store(w + row * expanded, each);
                            sum += each * multiplicity[row];
                        }
                        const Vector share_of = 1.0f / sum;
                        if (c.attention) {
                            float* attention = partial.data() + line * reach;
                            const int64_t kept = c.groups < LANES ? c.groups : LANES;
                            for (int64_t row = first; row < last; ++row)
                                if (direct[row])
                                    for (int64_t group = 0; group < kept; ++group)
                                        attention[source[row] * c.groups + lane + group] +=
                                            w[row * expanded + group] * share_of[group];
                        }
                        for (int64_t share = 0; share < shares; share += 8) {
                            const int64_t together = shares - share < 8 ? shares - share : 8;
                            Vector aggregated[8] = {};
                            for (int64_t row = first; row < last; ++row) {
                                const Vector weight = load(w + row * expanded) * multiplicity[row];
                                const float* value = c.maps + (base + source[row]) * c.stride + 2 * c.relation + lane +
                                                     share * expanded;
                                if (together == 8)
                                    for (int64_t i = 0; i < 8; ++i) aggregated[i] += weight * load(value + i * expanded);
                                else
                                    for (int64_t i = 0; i < together; ++i)
                                        aggregated[i] += weight * load(value + i * expanded);
                            }
                            for (int64_t i = 0; i < together; ++i)
                                store(out + lane + (share + i) * expanded, larger(aggregated[i] * share_of, Vector{}));
                        }
                    }
                    out[c.values] = 1.0f;
                }
            }
        }
    }
    if (c.attention)
        for (int64_t image = 0; image < c.images; ++image)
            for (int64_t y = 0; y < c.height; ++y)
                for (int64_t i = 0; i < reach; ++i)
                    c.attention[image * reach + i] += partial[(image * c.height + y) * reach + i];
}

// Rows times a scale and plus a shift for each channel, cut off at 0.
void foveabench_rectify(const float* in, const float* scale, const float* shift, float* out, int64_t rows,
                        int64_t channels) {
#pragma omp parallel for if (rows * channels > 16384)
    for (int64_t row = 0; row < rows; ++row) {
        const float* x = in + row * channels;
        float* y = out + row * channels;
        for (int64_t channel = 0; channel < channels; ++channel) {
            const float value = x[channel] * scale[channel] + shift[channel];
            y[channel] = value < 0 ? 0 : value;  // NaN stays
        }
    }
}

}  // extern "C"
