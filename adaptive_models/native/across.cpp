// Pairwise local attention of few groups: too few to fill a vector, whose lanes are positions here. Each thread takes
// lines of positions at a time, of whose neighbours it makes planes, one for each channel, padded by reflection.

#include "attention.h"
#include "memory.h"
#include "vectors.h"

#include <omp.h>

#include <algorithm>

namespace {

constexpr int64_t MOST_LINES = 28;  // whose planes fit in the second cache

typedef float Four __attribute__((vector_size(4 * sizeof(float))));

inline Four four(const float* from) {
    Four value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}

// Channels of `count` positions, to planes `apart`.
void spread(const float* const* positions, int64_t count, int64_t channels, float* planes, int64_t apart) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        int64_t channel = 0;
        for (; channel + 4 <= channels; channel += 4) {
            const Four a = four(positions[i] + channel), b = four(positions[i + 1] + channel);
            const Four c = four(positions[i + 2] + channel), d = four(positions[i + 3] + channel);
            const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            const Four above = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const Four beyond = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            const Four made[] = {
                __builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                __builtin_shufflevector(above, beyond, 0, 1, 4, 5), __builtin_shufflevector(above, beyond, 2, 3, 6, 7)};
            for (int64_t j = 0; j < 4; ++j) std::memcpy(planes + (channel + j) * apart + i, &made[j], sizeof(Four));
        }
        for (; channel < channels; ++channel)
            for (int64_t j = i; j < i + 4; ++j) planes[channel * apart + j] = positions[j][channel];
    }
    for (; i < count; ++i)
        for (int64_t channel = 0; channel < channels; ++channel) planes[channel * apart + i] = positions[i][channel];
}

// A vector for each of `outputs` columns of weights: inputs, a vector each, times these, and a bias or not.
template <bool BIAS, bool RELU>
inline void mix(const float* in, int64_t depth, const float* weights, int64_t stride, const float* bias,
                int64_t outputs, float* out) {
    for (int64_t first = 0; first < outputs; first += 8)
        with_count<8>(outputs - first, [&](auto together) {
            Vector sums[together];
            for (int64_t i = 0; i < together; ++i) sums[i] = BIAS ? all(bias[first + i]) : Vector{};
            for (int64_t k = 0; k < depth; ++k) {
                const Vector x = load(in + k * LANES);
                for (int64_t i = 0; i < together; ++i) sums[i] += x * all(weights[k * stride + first + i]);
            }
            for (int64_t i = 0; i < together; ++i)
                store(out + (first + i) * LANES, RELU ? larger(sums[i], Vector{}) : sums[i]);
        });
}

// What a thread makes of the neighbours of some lines of an image: planes of (lines + side - 1, width + side - 1), of
// keys, of their two position features, and of values.
struct Planes {
    int64_t across, apart;
    Room<float> floats;

    Planes(const Maps& c, const Pairwise& of, int64_t lines)
        : across(c.width + of.side - 1), apart(whole((lines + of.side - 1) * across, 4 * LANES) + LANES),
          floats((c.relation + 2 + c.values) * apart + LANES) {}

    void fill(const Maps& c, const Pairwise& of, const float* image, int64_t first, int64_t lines) const {
        const Room<const float*> maps(across), places(across);
        for (int64_t line = 0; line < lines + of.side - 1; ++line) {
            for (int64_t i = 0; i < across; ++i) {
                const int64_t there = of.padded_rows[first + line] * c.width + of.padded_columns[i];
                maps[i] = image + there * c.stride + c.relation;
                places[i] = of.key_places + 2 * there;
            }
            float* out = floats.data() + line * across;
            spread(maps.data(), across, c.relation, out, apart);
            spread(places.data(), across, 2, out + c.relation * apart, apart);
            for (int64_t i = 0; i < across; ++i) maps[i] += c.relation;
            spread(maps.data(), across, c.values, out + (c.relation + 2) * apart, apart);
        }
    }
};

// Lines of an image that a thread takes at a time: each has some of them, if images are too few.
int64_t lines_at_a_time(const Maps& c) {
    const int64_t parts = c.images ? (omp_get_num_threads() + c.images - 1) / c.images : 1;
    return std::max<int64_t>(1, std::min(MOST_LINES, (c.height + parts - 1) / parts));
}

// Positions from `from` to `to` of line y of an image, some of which may have been computed with those before them.
struct Positions {
    int64_t image, y, from, to, done;
    int64_t corner;  // of their footprints, in planes
};

// What a thread has for one vector of positions at a time.
class Vectors {
    const Maps& c;
    const Pairwise& of;
    const Planes& planes;
    const int64_t depth, places, next;  // inputs, neighbours, floats of the weights of a neighbour
    const Room<float> query, differences, activations, weights, sums;
    const Room<int64_t> offsets;

   public:
    Vectors(const Maps& c, const Pairwise& of, const Planes& planes)
        : c(c), of(of), planes(planes), depth(c.relation + 2), places(of.side * of.side), next(c.groups * LANES),
          query(depth * LANES), differences(depth * LANES), activations(c.relation * LANES), weights(places * next),
          sums(c.values * LANES), offsets(places) {
        for (int64_t place = 0; place < places; ++place)
            offsets[place] = place / of.side * planes.across + place % of.side;
    }

    // Weights of all neighbours, before the softmax.
    void weigh(const Positions& at) const {
        const float *maps[LANES], *features[LANES];
        for (int64_t i = 0; i < at.to - at.from; ++i) {
            const int64_t here = at.y * c.width + at.from + i;
            maps[i] = c.maps + (at.image * c.height * c.width + here) * c.stride;
            features[i] = of.query_places + 2 * here;
        }
        spread(maps, at.to - at.from, c.relation, query.data(), LANES);
        spread(features, at.to - at.from, 2, query.data() + c.relation * LANES, LANES);
        for (int64_t place = 0; place < places; ++place) {
            const float* key = planes.floats.data() + at.corner + offsets[place];
            for (int64_t i = 0; i < depth; ++i)
                store(differences.data() + i * LANES,
                      larger(load(query.data() + i * LANES) - load(key + i * planes.apart), Vector{}));
            mix<true, true>(differences.data(), depth, of.first, whole(c.relation, LANES), of.bias, c.relation,
                            activations.data());
            mix<false, false>(activations.data(), c.relation, of.second, c.groups, nullptr, c.groups,
                              weights.data() + place * next);
        }
    }

    // The softmax of a group, but for the share of 1 that each part of the sum is, which it returns.
    Vector soften(int64_t group) const {
        float* w = weights.data() + group * LANES;
        Vector most_alike = load(w), sum = Vector{};
        for (int64_t place = 1; place < places; ++place) most_alike = larger(most_alike, load(w + place * next));
        const Vector top = most_alike * LOG2E;
        for (int64_t place = 0; place < places; ++place) {
            const Vector each = power_of_two(load(w + place * next) * LOG2E - top);
            store(w + place * next, each);
            sum += each;
        }
        return 1.0f / sum;
    }

    void sum_values(const Positions& at, int64_t group, Vector share_of) const {
        const float* w = weights.data() + group * LANES;
        const float* near = planes.floats.data() + (depth + group) * planes.apart + at.corner;
        const int64_t shares = c.values / c.groups, next_share = c.groups * planes.apart;
        for (int64_t share = 0; share < shares; share += 8)
            with_count<8>(shares - share, [&](auto together) {
                Vector aggregated[together] = {};
                for (int64_t place = 0; place < places; ++place) {
                    const Vector weight = load(w + place * next);
                    const float* value = near + share * next_share + offsets[place];
                    for (int64_t i = 0; i < together; ++i) aggregated[i] += weight * load(value + i * next_share);
                }
                for (int64_t i = 0; i < together; ++i)
                    store(sums.data() + ((share + i) * c.groups + group) * LANES,
                          larger(aggregated[i] * share_of, Vector{}));
            });
    }

    // Adds the weights of neighbours within the map to its attention, (H * W, G).
    void look(const Positions& at, int64_t group, Vector share_of, float* attention) const {
        for (int64_t place = 0; place < places; ++place) {
            const int64_t row = at.y + place / of.side - of.side / 2;
            if (row < 0 || row >= c.height) continue;
            const float* w = weights.data() + place * next + group * LANES;
            for (int64_t x = at.done; x < at.to; ++x) {
                const int64_t column = x + place % of.side - of.side / 2;
                if (column >= 0 && column < c.width)
                    attention[(row * c.width + column) * c.groups + group] += w[x - at.from] * share_of[x - at.from];
            }
        }
    }

    void write(const Positions& at) const {
        for (int64_t x = at.from; x < at.to; ++x) {
            float* out = c.out + ((at.image * c.height + at.y) * c.width + x) * c.out_stride;
            for (int64_t channel = 0; channel < c.values; ++channel) out[channel] = sums[channel * LANES + x - at.from];
            out[c.values] = 1.0f;
        }
    }
};

}  // namespace

void attend_across(const Maps& c, const Pairwise& of, float* partial) {
    const int64_t lines = lines_at_a_time(c), bands = (c.height + lines - 1) / lines;
    const Planes planes(c, of, lines);
    const Vectors vectors(c, of, planes);

#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < c.images * bands; ++unit) {
        const int64_t image = unit / bands, first = unit % bands * lines, end = std::min(first + lines, c.height);
        planes.fill(c, of, c.maps + image * c.height * c.width * c.stride, first, end - first);
        for (int64_t y = first; y < end; ++y)
            for (int64_t done = 0; done < c.width; done += LANES) {
                // The last vector of a line begins early enough to be full, if the line is long enough for one.
                const int64_t from = std::max<int64_t>(0, std::min(done, c.width - LANES));
                const Positions at{image, y, from, std::min(from + LANES, c.width), done,
                                   (y - first) * planes.across + from};
                vectors.weigh(at);
                for (int64_t group = 0; group < c.groups; ++group) {
                    const Vector share_of = vectors.soften(group);
                    vectors.sum_values(at, group, share_of);
                    if (c.attention)
                        vectors.look(at, group, share_of,
                                     partial + (image * c.height + y) * c.height * c.width * c.groups);
                }
                vectors.write(at);
            }
    }
}
