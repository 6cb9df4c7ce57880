// Products of rows of positions with wide weights, which lie in memory in the order in which they are read: a general
// matrix product would arrange them anew at every call. Rows are made as they are needed, from what is before them.

#pragma once

#include "memory.h"
#include "vectors.h"

#include <omp.h>

#include <algorithm>

constexpr int64_t PANEL = COLUMNS * LANES;  // columns of a panel of weights
constexpr int64_t BLOCK = 10 * TALL;        // rows that share a sweep over the weights, at most
constexpr int64_t DEEP = 160;               // depth of a part of a panel; longer sums round more
constexpr int64_t AHEAD = 16;               // rows of weights by which memory is asked for them beforehand

// Weights (panels, depth, PANEL), of which the last panel has only as many whole vectors as it needs; biases (width) or
// null.
struct Dense {
    const float *weights, *bias;
    int64_t depth, width;
};

namespace {

// Rows that are there.
struct Given {
    const float* in;
    int64_t stride;

    Given of(int64_t first, int64_t, float*) const { return {in + first * stride, stride}; }
};

// Rows may not be a power of two apart, or they would push each other out of the first cache.
inline int64_t apart(int64_t depth) { return whole(depth, LANES) + LANES; }

// Rows (depth) under a norm, as scale and shift, and cut off at 0.
struct Rectified {
    const float* in;
    int64_t depth;
    const float *scale, *shift;

    Vector at(const float* row, int64_t channel) const {
        return larger(load(row + channel) * load(scale + channel) + load(shift + channel), Vector{});
    }
    float one(const float* row, int64_t channel) const {
        const float value = row[channel] * scale[channel] + shift[channel];
        return value < 0 ? 0 : value;  // NaN stays
    }
    Given of(int64_t first, int64_t count, float* room) const {
        for (int64_t i = 0; i < count; ++i) {
            const float* row = in + (first + i) * depth;
            float* out = room + i * apart(depth);
            int64_t k = 0;
            for (; k + LANES <= depth; k += LANES) store(out + k, at(row, k));
            for (; k < depth; ++k) out[k] = one(row, k);
        }
        return {room, apart(depth)};
    }
};

// The same of maps (height, width) of rows, and then the largest of every 2 x 2 positions.
struct Pooled {
    Rectified rows;
    int64_t height, width;

    Given of(int64_t first, int64_t count, float* room) const {
        const int64_t depth = rows.depth, lines = height / 2, columns = width / 2;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t column = (first + i) % columns, line = (first + i) / columns;
            const int64_t y = line % lines * 2, image = line / lines;
            const float* corner = rows.in + ((image * height + y) * width + 2 * column) * depth;
            const float* corners[] = {corner, corner + depth, corner + width * depth, corner + (width + 1) * depth};
            float* out = room + i * apart(depth);
            int64_t k = 0;
            for (; k + LANES <= depth; k += LANES) {
                Vector most = rows.at(corners[0], k);
                for (int64_t j = 1; j < 4; ++j) most = largest(most, rows.at(corners[j], k));
                store(out + k, most);
            }
            for (; k < depth; ++k) {
                float most = rows.one(corners[0], k);
                for (int64_t j = 1; j < 4; ++j) {
                    const float other = rows.one(corners[j], k);
                    most = other > most || other != other ? other : most;
                }
                out[k] = most;
            }
        }
        return {room, apart(depth)};
    }
};

// What a product is written to, (rows, width), and what it is added to, or null.
struct Target {
    const float* there;
    float* out;
};

// `ROWS` rows times a part of a panel of `WIDE` vectors, whose sum is added to that of the parts before it, or, of the
// first, to biases and what is there.
template <int64_t ROWS, int64_t WIDE, bool FETCH>
inline void part(const Given& rows, const float* weights, int64_t depth, const Dense& dense, bool first, int64_t column,
                 const Target& onto) {
    const int64_t stride = dense.width, count = std::min(WIDE * LANES, stride - column);
    Vector sums[ROWS][WIDE] = {};
    for (int64_t k = 0; k < depth; ++k) {
        Vector w[WIDE];
        for (int64_t i = 0; i < WIDE; ++i) {
            w[i] = load(weights + (k * WIDE + i) * LANES);
            if (FETCH) __builtin_prefetch(weights + ((k + AHEAD) * WIDE + i) * LANES);
        }
        for (int64_t j = 0; j < ROWS; ++j) {
            const Vector x = all(rows.in[j * rows.stride + k]);
            for (int64_t i = 0; i < WIDE; ++i) sums[j][i] += x * w[i];
        }
    }
    float* out = onto.out + column;
    const float* there = !first ? out : onto.there ? onto.there + column : nullptr;
    const float* bias = first && dense.bias ? dense.bias + column : nullptr;
    for (int64_t j = 0; j < ROWS; ++j, out += stride, there = there ? there + stride : nullptr) {
        if (count == WIDE * LANES) {
            for (int64_t i = 0; i < WIDE * LANES; i += LANES) {
                Vector sum = sums[j][i / LANES];
                if (bias) sum += load(bias + i);
                if (there) sum += load(there + i);
                store(out + i, sum);
            }
            continue;
        }
        float made[WIDE * LANES];
        for (int64_t i = 0; i < WIDE; ++i) store(made + i * LANES, sums[j][i]);
        for (int64_t i = 0; i < count; ++i) out[i] = made[i] + (bias ? bias[i] : 0) + (there ? there[i] : 0);
    }
}

// Rows times the panel at `column`. Each part is read from memory once.
void panel(const Given& rows, int64_t count, const Dense& dense, int64_t column, const Target& onto) {
    const int64_t vectors = std::min(COLUMNS, (dense.width - column + LANES - 1) / LANES);
    for (int64_t from = 0; from < dense.depth; from += DEEP) {
        const int64_t depth = std::min(DEEP, dense.depth - from);
        const float* weights = dense.weights + column * dense.depth + from * vectors * LANES;
        for (int64_t row = 0; row < count; row += TALL) {
            const Given here{rows.in + row * rows.stride + from, rows.stride};
            const int64_t at = row * dense.width;
            const Target to{onto.there ? onto.there + at : nullptr, onto.out + at};
            with_count<COLUMNS>(vectors, [&](auto wide) {
                with_count<TALL>(std::min(TALL, count - row), [&](auto tall) {
                    row == 0 ? part<tall, wide, true>(here, weights, depth, dense, from == 0, column, to)
                             : part<tall, wide, false>(here, weights, depth, dense, from == 0, column, to);
                });
            });
        }
    }
}

// A product of so many rows, by all threads, each of which makes the rows that it takes.
template <typename Rows>
void multiply(const Rows& rows, int64_t count, const Dense& dense, const Target& onto) {
    const int64_t panels = (dense.width + PANEL - 1) / PANEL, threads = omp_get_num_threads();
    // Enough blocks for all threads, and of one height
    const int64_t least = (count + BLOCK - 1) / BLOCK, wanted = std::max(least, (2 * threads + panels - 1) / panels);
    const int64_t block = std::max(TALL, whole((count + wanted - 1) / std::max<int64_t>(1, wanted), TALL));
    const int64_t blocks = (count + block - 1) / block;
    const Room<float> room(block * apart(dense.depth));
    int64_t made = -1;
    Given here{};
#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < blocks * panels; ++unit) {
        const int64_t first = unit / panels * block, several = std::min(block, count - first);
        if (first != made) here = rows.of(first, several, room.data());
        made = first;
        const int64_t at = first * dense.width;
        panel(here, several, dense, unit % panels * PANEL, {onto.there ? onto.there + at : nullptr, onto.out + at});
    }
}

}  // namespace
