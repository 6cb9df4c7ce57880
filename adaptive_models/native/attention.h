// Local attention for inference, fused: weights of a few positions' footprints, and sums of values under them, with
// nothing of a footprint's size in memory but for those positions. Channels lie last.

#pragma once

#include <cstdint>

extern "C" {

// What attention takes and gives.
struct Maps {
    // Maps of `images` images: queries (D), keys (D) and values (V) beside each other in rows of `stride` floats.
    const float* maps;
    int64_t images, height, width, stride, relation, values, groups;
    // Sums (images * H * W, out_stride), cut off at 0, of which column V is set to 1; and attention summed where it
    // looks, (images, H * W, G) of zeros, or null.
    float* out;
    int64_t out_stride;
    float* attention;
};

// Weights from differences.
struct Pairwise {
    // Position features of queries and keys, (H * W, 2).
    const float *query_places, *key_places;
    const float *first, *bias, *second;  // (D + 2, whole(D)), (whole(D)), (D, G)
    // For each row of positions, and for each column: first entry in the lists below; then the neighbours without
    // repeats, how often each is there, and whether it is within reach without reflection.
    const int64_t *row_starts, *rows, *row_counts, *row_direct;
    const int64_t *column_starts, *columns, *column_counts, *column_direct;
    // Where the rows of a map padded by reflection come from, (H + k - 1), and the columns, (W + k - 1).
    const int64_t *padded_rows, *padded_columns;
    int64_t side;
};

// Weights from query and keys together.
struct Patchwise {
    // The norm of the query and of the key at each place of the footprint: (k * k + 1, D), and a vector more.
    const float *scale, *shift;
    const float *first, *bias;  // ((k * k + 1) * D, whole(G)), (whole(G))
    const float *second, *second_bias;  // (k * k, G, expanded groups), (k * k, expanded groups): see foveabench_lanes
    const float *value_shift;  // (V)
    // Where the rows of a map padded by reflection come from, (H + k - 1), and the columns, (W + k - 1).
    const int64_t *rows, *columns;
    int64_t side;
};

}  // extern "C"

// Floats, all zeros, in which attention is summed up before; none if it is not asked for.
int64_t room(const Maps& c, const Pairwise& weigh);
int64_t room(const Maps& c, const Patchwise& weigh);

// By all threads of a team.
void attend(const Maps& c, const Pairwise& weigh, float* partial);
void attend(const Maps& c, const Patchwise& weigh, float* partial);
void attend_across(const Maps& c, const Pairwise& weigh, float* partial);  // if groups do not fill vectors

// The attention from what was summed up by then, by one thread, in the same order with any number of threads.
void sum_up(const Maps& c, const Pairwise& weigh, const float* partial);
void sum_up(const Maps& c, const Patchwise& weigh, const float* partial);
