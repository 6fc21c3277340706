// Plays the devices at the ats port: sends page requests, and keeps the page group responses that come.
#pragma once
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "layout.hpp"
#include "operations.hpp"
#include "random.hpp"
#include "vector.hpp"

using PageRequestVector = Vector<PAGE_REQUEST_WIDTH>;
using PageResponseVector = Vector<PAGE_RESPONSE_WIDTH>;

struct PageIn {
    bool request_ready = false, response_valid = false;
    PageResponseVector response;
};

struct PageOut {
    bool request_valid = false, response_ready = false;
    PageRequestVector request;
};

class PageDriver {
  public:
    PageDriver(Operations& operations, std::function<void(const std::string&)> violation)
        : operations_(operations), violation_(std::move(violation)) {}

    PageOut out;
    std::vector<PageResponse> responses;

    void set_knobs(const PageKnobs& knobs) {
        knobs_ = knobs;
        random_ = Random(knobs.seed);
    }

    // Sends requests in order, behind those that wait already; the operation is over when all have been accepted. The arrays
    // are Python's, and `cycles` receives the cycle of each acceptance.
    uint32_t submit(const PageRequest* requests, uint64_t* cycles, size_t count) {
        const uint32_t handle = operations_.start();
        if (count)
            queue_.push_back({handle, requests, cycles, count});
        else
            operations_.finish(handle);
        return handle;
    }

    // Over when so many responses have come.
    uint32_t wait(uint64_t count) {
        const uint32_t handle = operations_.start();
        waits_.push_back({handle, count});
        wake();
        return handle;
    }

    void reset() {
        out = PageOut{};
        held_ = false;
    }

    void clock(const PageIn& in) {
        if (out.request_valid && in.request_ready) accepted();
        if (held_ && !(in.response_valid && in.response == held_response_))
            violation_("ats: page response changed before it was taken");
        held_ = in.response_valid && !out.response_ready;
        held_response_ = in.response;
        if (in.response_valid && out.response_ready) answered(in.response);
        if (!out.request_valid && !queue_.empty() && !random_.percent(knobs_.gap_percent)) offer();
        out.response_ready = !random_.percent(knobs_.response_stall_percent);
    }

  private:
    struct Batch {
        uint32_t handle;
        const PageRequest* requests;
        uint64_t* cycles;
        size_t count;
        size_t sent = 0;
    };

    struct Wait {
        uint32_t handle;
        uint64_t count;
    };

    void offer() {
        out.request_valid = true;
        out.request = PageRequestVector{};
        pack_page_request(queue_.front().requests[queue_.front().sent],
                          [&](Slice slice, uint64_t value) { out.request.put(slice, value); });
    }

    void accepted() {
        Batch& batch = queue_.front();
        out.request_valid = false;
        batch.cycles[batch.sent] = operations_.now;
        if (++batch.sent < batch.count) return;
        operations_.finish(batch.handle);
        queue_.pop_front();
    }

    void answered(const PageResponseVector& response) {
        PageResponse record{};
        unpack_page_response(record, [&](Slice slice) { return response.get(slice); });
        record.cycle = operations_.now;
        responses.push_back(record);
        wake();
    }

    void wake() {
        std::erase_if(waits_, [&](const Wait& wait) {
            if (responses.size() < wait.count) return false;
            operations_.finish(wait.handle);
            return true;
        });
    }

    Operations& operations_;
    std::function<void(const std::string&)> violation_;
    Random random_;
    PageKnobs knobs_{};
    std::deque<Batch> queue_;
    std::vector<Wait> waits_;
    bool held_ = false;  // a response that has not been taken yet
    PageResponseVector held_response_;
};
