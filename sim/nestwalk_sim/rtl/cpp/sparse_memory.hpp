// Physical memory of 4 KiB pages that exist or do not, with ranges whose accesses fail.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

enum class Failure : uint8_t { read, update, write };

struct ErrorRange {
    uint64_t start, stop;  // stop is exclusive
    Failure failure;
    uint8_t response;
};

class SparseMemory {
  public:
    static constexpr uint64_t page_bytes = 4096;
    using Page = std::array<uint8_t, page_bytes>;

    // Called after each write, by whomever: address and size in bytes.
    std::function<void(uint64_t, uint64_t)> on_write;

    Page* page(uint64_t address) {
        const uint64_t number = address / page_bytes;
        if (number == last_number_ && last_page_) return last_page_;
        const auto found = pages_.find(number);
        if (found == pages_.end()) return nullptr;
        last_number_ = number;
        return last_page_ = found->second.get();
    }

    Page& add_page(uint64_t address) {
        auto& slot = pages_[address / page_bytes];
        if (!slot) slot = std::make_unique<Page>(Page{});
        return *slot;
    }

    void remove_page(uint64_t address) {
        last_page_ = nullptr;
        pages_.erase(address / page_bytes);
    }

    void clear() {
        last_page_ = nullptr;
        pages_.clear();
        errors_.clear();
    }

    bool exists(uint64_t address, uint64_t size) {
        for (uint64_t at = address / page_bytes; at <= (address + size - 1) / page_bytes; at++)
            if (!page(at * page_bytes)) return false;
        return true;
    }

    // False, and nothing done, where a page does not exist.
    bool read(uint64_t address, uint8_t* into, uint64_t size) {
        if (!exists(address, size)) return false;
        pieces(address, size, [&](uint8_t* bytes, uint64_t count) {
            std::memcpy(into, bytes, count);
            into += count;
        });
        return true;
    }

    bool write(uint64_t address, const uint8_t* from, uint64_t size) {
        if (!exists(address, size)) return false;
        pieces(address, size, [&](uint8_t* bytes, uint64_t count) {
            std::memcpy(bytes, from, count);
            from += count;
        });
        if (on_write) on_write(address, size);
        return true;
    }

    void add_error(const ErrorRange& range) { errors_.push_back(range); }
    void clear_errors() { errors_.clear(); }

    // The response that a range injects into such an access, or -1.
    int injected(uint64_t address, uint64_t size, Failure failure) const {
        for (const auto& range : errors_)
            if (range.failure == failure && range.start < address + size && address < range.stop) return range.response;
        return -1;
    }

    std::vector<uint64_t> page_addresses() const {
        std::vector<uint64_t> addresses;
        for (const auto& [number, page] : pages_) addresses.push_back(number * page_bytes);
        return addresses;
    }

  private:
    template <class Use> void pieces(uint64_t address, uint64_t size, Use use) {
        while (size) {
            const uint64_t offset = address % page_bytes;
            const uint64_t count = size < page_bytes - offset ? size : page_bytes - offset;
            use(page(address)->data() + offset, count);
            address += count;
            size -= count;
        }
    }

    std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;
    std::vector<ErrorRange> errors_;
    uint64_t last_number_ = 0;
    Page* last_page_ = nullptr;
};
