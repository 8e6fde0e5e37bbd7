// The loops that are compiled once for every instruction set. Plain pointers only: an inline function of the standard
// library compiled here could be the copy that the linker keeps for processors that lack the instructions.
#pragma once

#include <cstdint>

namespace stl_ray {

// One coefficient: of a filter, with the top left corner of its patch at (row, column).
struct Atom {
    std::int32_t filter, row, column;
    float value;
};

// An image with interleaved channels on a torus. Columns width .. width + side - 2 repeat columns 0 .. side - 2, so that
// every patch is contiguous in each of its rows; there is scratch room on both sides of a row.
struct Plane {
    float* data;               // pixel (0, 0)
    std::uint16_t* coarse;     // the same in bfloat16, as of the last `coarsen`
    const std::int32_t* rows;  // offset of row i modulo height, for i < height + side - 1
    std::int32_t height, width, channels, side;
};

// Filters packed for one instruction set; zeros fill up what is rounded up.
struct Packed {
    std::int32_t filters, channels, side;
    std::int32_t run;             // floats in a row of a patch, side * channels
    std::int32_t padded;          // run in whole half vectors
    std::int32_t pairs;           // run in whole pairs
    std::int32_t lanes;           // filters in whole screening blocks
    const float* atoms;           // (filters, side, padded): for coordinate descent
    const float* energy;          // (filters): squared norms
    const float* inverse_energy;  // (filters)
    const float* transposed;      // (side, run, lanes): for screening
    const std::uint16_t* coarse;  // (side, pairs, lanes, 2), bfloat16: for coarse screening
};

// What is to be screened, and where the findings go.
struct Screening {
    const std::int32_t* positions;  // row * width + column
    std::int32_t count;
    const std::uint64_t* active;  // bit k of active[position * words ...]: filter k is in the active set there
    std::int32_t words;
    float floor;
    float* best;          // (count): largest |<d_k, r>| over the other filters
    std::int32_t* which;  // (count): its k, where best is above floor
};

struct Kernels {
    std::int32_t vector;     // floats in a vector
    std::int32_t block;      // filters in a screening block
    float coarse_error;      // |coarse - true correlation| <= coarse_error ||d|| ||patch||

    void (*screen)(const Packed&, const Plane&, const Screening&);

    // The same from bfloat16 copies, where the processor has instructions for them; else in full precision.
    void (*screen_coarsely)(const Packed&, const Plane&, const Screening&);
    void (*coarsen)(const Plane&);

    // The p of which largest[p] + share * moved[p] is not at most `limit`; returns how many.
    std::int32_t (*choose)(const float* largest, const float* moved, float share, float limit, std::int32_t count,
                           std::int32_t* chosen);

    // Exact minimisation over one coordinate after another, in `order`; the residual follows. Changes are measured by
    // what they move d_k^T r, and not made up to `least`, except to and from zero; changed[n] says of atom n. Returns
    // the largest one found.
    float (*sweep)(const Packed&, const Plane& residual, Atom*, const std::int32_t* order, std::int32_t count,
                   float lambda, float least, std::uint8_t* changed);

    // image += factor * D x.
    void (*add_atoms)(const Packed&, const Plane& image, const Atom*, std::int32_t count, float factor);

    // moved[p] += factor * ||a - b|| over the patch at p; `scratch` holds height * width + 2 * (width + side) floats.
    void (*add_distances)(const Plane& a, const Plane& b, float factor, float* moved, float* scratch);

    // values[n] = <d_n, patch_n>.
    void (*correlate_atoms)(const Packed&, const Plane& image, const Atom*, std::int32_t count, float* values);
};

}  // namespace stl_ray
