// Which builds of the loops there are, and which of them this processor runs.
#pragma once

#include <string>
#include <vector>

#include "bregman_kernels.hpp"
#include "kernels.hpp"

namespace stl_ray {

struct Build {
    const char* name;
    const Kernels* kernels;  // for any filters, and for those of 8 x 8 x 3
    const BregmanKernels* bregman;
    bool runs;  // on this processor
};

// The sets that this build has and this processor runs, the fastest first: of avx512bf16, avx512, avx2, baseline.
std::vector<std::string> instruction_sets();

// Throws std::invalid_argument for an unknown set or one that does not run here; "" is the fastest.
const Build& build_for(const std::string& instruction_set);

}  // namespace stl_ray
