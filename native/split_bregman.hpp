// Total variation minimisation with missing pixels, by split Bregman iterations: what
// stl_ray/defenses/split_bregman.py does, to the last bit, an image at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dictionary.hpp"
#include "instruction_sets.hpp"

namespace stl_ray {

struct BregmanSettings {
    double lambda;
    bool isotropic;           // one penalty for both differences of a pixel, or one for each
    std::int32_t sweeps;      // in an iteration
    double tolerance;         // root mean square change in an iteration at which an image is done
    std::int32_t max_iterations;
    // u = scale (sum of the neighbours + D'(d - b)) + share f, of missing pixels (0) and kept ones (1) with 0 to 4 neighbours.
    float scale[2][5], share[2][5];
};

// For images of one size. Throws std::invalid_argument for one without pixels or with too many for 32-bit offsets, and
// for an instruction set that there is not.
class BregmanSolver {
   public:
    BregmanSolver(int channels, int height, int width, const BregmanSettings&, const std::string& instruction_set = "");
    BregmanSolver(const BregmanSolver&) = delete;

    // All (channels, height, width).
    void solve(const float* image, const bool* kept, float* restored) const;

   private:
    // The cell of a pixel is the half of its address row * pitch + column; its colour is whether that is odd.
    std::int32_t address(int row, int column) const { return row * pitch_ + column; }
    BregmanPlane read(float* room, const float* image, const bool* kept) const;
    Colours colours(float*& room) const;

    const BregmanKernels& kernels_;
    BregmanSettings settings_;
    std::int32_t channels_, height_, width_, pitch_;
    std::int32_t size_;  // of a colour with its guards
    std::vector<float, Aligned<float>> inside_;
    BregmanBoard board_{};
};

}  // namespace stl_ray
