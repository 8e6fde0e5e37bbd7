"""What several benchmarks share: images, pages, progress, memory."""
