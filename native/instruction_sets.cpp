#include "instruction_sets.hpp"

#include <algorithm>
#include <stdexcept>

namespace stl_ray {

extern const Kernels kernels_baseline[2];
extern const BregmanKernels bregman_baseline;
#ifdef STL_RAY_HAS_AVX2
extern const Kernels kernels_avx2[2];
extern const BregmanKernels bregman_avx2;
#endif
#ifdef STL_RAY_HAS_AVX512
extern const Kernels kernels_avx512[2];
extern const BregmanKernels bregman_avx512;
#endif
#ifdef STL_RAY_HAS_AVX512BF16
extern const Kernels kernels_avx512bf16[2];
extern const BregmanKernels bregman_avx512bf16;
#endif

namespace {

const std::vector<Build>& builds() {
    static const std::vector<Build> all = {
#ifdef STL_RAY_HAS_AVX512BF16
        {"avx512bf16", kernels_avx512bf16, &bregman_avx512bf16,
         __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")},
#endif
#ifdef STL_RAY_HAS_AVX512
        {"avx512", kernels_avx512, &bregman_avx512,
         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")},
#endif
#ifdef STL_RAY_HAS_AVX2
        {"avx2", kernels_avx2, &bregman_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
        {"baseline", kernels_baseline, &bregman_baseline, true},
    };
    return all;
}

}  // namespace

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Build& build : builds())
        if (build.runs) names.push_back(build.name);
    return names;
}

const Build& build_for(const std::string& instruction_set) {
    const auto build = std::find_if(builds().begin(), builds().end(), [&](const Build& b) {
        return b.runs && (instruction_set.empty() || instruction_set == b.name);
    });
    if (build == builds().end())
        throw std::invalid_argument("this build on this processor has no instruction set " + instruction_set);
    return *build;
}

}  // namespace stl_ray
