// Many images on several threads, each image wholly on one of them: the number of threads changes no bit of a result.
#pragma once

#include <functional>

namespace stl_ray {

// work(0), ..., work(count - 1) on `threads` threads. The first exception ends the others' next steps and is thrown.
void for_each_image(int count, int threads, const std::function<void(int)>& work);

}  // namespace stl_ray
