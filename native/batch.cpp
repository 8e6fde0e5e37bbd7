#include "batch.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace stl_ray {

void for_each_image(int count, int threads, const std::function<void(int)>& work) {
    std::atomic<int> next{0};
    std::exception_ptr failure;
    std::mutex lock;
    const auto run = [&] {
        for (int image; (image = next++) < count;) try {
                work(image);
            } catch (...) {
                const std::scoped_lock locked(lock);
                if (!failure) failure = std::current_exception();
                next = count;
            }
    };
    std::vector<std::thread> others;
    others.reserve(std::size_t(std::max(threads, 1)));
    try {
        for (int n = 1; n < std::min(threads, count); ++n) others.emplace_back(run);
    } catch (const std::system_error&) {
        // Where the system grants no more threads, those that there are do the work.
    }
    run();
    for (std::thread& other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace stl_ray
