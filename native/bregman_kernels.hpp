// The loops of split_bregman.hpp that are compiled once for every instruction set; plain pointers only, as in kernels.hpp.
// Every step is one correctly rounded operation, in the order of stl_ray/defenses/split_bregman.py: multiplications and
// additions do not fuse here, and so the results are the same to the last bit for every set.
#pragma once

#include <cstdint>

namespace stl_ray {

// The two colours of a plane, zero beyond their cells and for half + 1 before the first.
struct Colours {
    float* of[2];
};

// A plane as a checkerboard: stl_ray/defenses/checkerboard.py has the layout.
struct BregmanPlane {
    Colours u;         // the image
    Colours before;    // as it was before the sweeps
    Colours scale;     // u = scale (sum of the neighbours + D'(d - b)) + data
    Colours data;
    Colours constant;  // scale D'(d - b) + data
    Colours b[2];      // of the differences to the right, and of those below
};

// What all planes of a size share.
struct BregmanBoard {
    std::int32_t half;    // half of the pitch, rounded down
    std::int32_t cells;   // of one colour
    std::int32_t chunk;   // cells that are worked on together: at least half + 1, a whole number of vectors
    std::int32_t chunks;  // as many as hold the cells
    Colours inside[2];   // 1 where there is a pixel to the right, and below; else 0
};

struct BregmanKernels {
    // Gauss-Seidel sweeps of u, one colour after the other.
    void (*sweep)(const BregmanBoard&, const BregmanPlane&, std::int32_t sweeps);

    // squares = the squared change of both colours since `before`, (cells).
    void (*squared_change)(const BregmanBoard&, const BregmanPlane&, float* squares);

    // Adds upper halves to lower ones until one value is left, which is returned; values are lost.
    float (*sum)(float* values, std::int64_t count);

    // The next b and, of the d that goes with it, the next constant; `before` becomes u. `right` and `below` are room for
    // d - b. The second is for absolute values, whose `largest` b is 1 / lambda.
    void (*shrink)(const BregmanBoard&, const BregmanPlane&, float lambda, const Colours& right, const Colours& below);
    void (*clip)(const BregmanBoard&, const BregmanPlane&, float largest, const Colours& right, const Colours& below);
};

}  // namespace stl_ray
