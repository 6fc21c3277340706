// Drives batches of requests into the core port and collects the answers.
//
// Requests come from lanes, each with its own queue and limits, so that several devices can be played at once; lanes that can
// send take turns. A batch belongs to Python, which keeps its arrays alive until the batch has finished.
#pragma once
#include <array>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "layout.hpp"
#include "operations.hpp"
#include "random.hpp"
#include "vector.hpp"

using RequestVector = Vector<REQUEST_WIDTH>;
using ResponseVector = Vector<RESPONSE_WIDTH>;

struct CoreIn {
    bool request_ready = false, response_valid = false;
    ResponseVector response;
};

struct CoreOut {
    bool request_valid = false, response_ready = false;
    RequestVector request;
};

class CoreDriver {
  public:
    static constexpr unsigned lanes = 8;

    CoreDriver(Operations& operations, std::function<void(const std::string&)> violation)
        : operations_(operations), violation_(std::move(violation)) {
        for (unsigned tag = 0; tag < in_flight_.size(); tag++) free_tags_.push_back(tag);
    }

    CoreOut out;
    uint64_t hang_limit = 100000;  // cycles without any answer while one is due

    void set_knobs(unsigned lane, const CoreKnobs& knobs) {
        lanes_[lane].knobs = knobs;
        random_ = Random(knobs.seed);
    }

    uint32_t submit(unsigned lane, const Request* requests, Answer* answers, size_t count) {
        const uint32_t handle = operations_.start();
        if (!count) {
            operations_.finish(handle);
            return handle;
        }
        if (idle()) last_progress_ = operations_.now;
        lanes_[lane].queue.push_back({handle, requests, answers, count});
        return handle;
    }

    // Requests of the batch that were not offered to the unit yet will not be; it finishes when the others are answered.
    void cancel(uint32_t handle) {
        for (auto& lane : lanes_)
            for (auto& batch : lane.queue)
                if (batch.handle == handle) {
                    batch.count = batch.sent;
                    batch.remaining = batch.outstanding;
                    if (!batch.remaining) operations_.finish(handle);
                }
        drop_finished();
    }

    bool idle() const {
        for (const auto& lane : lanes_)
            if (!lane.queue.empty()) return false;
        return true;
    }

    // Nothing is in flight when the unit is reset.
    void reset() {
        out = CoreOut{};
        held_ = false;
    }

    void clock(const CoreIn& in) {
        if (out.request_valid && in.request_ready) accepted();
        if (held_ && !(in.response_valid && in.response == held_response_))
            violation_("core: response changed before response_ready");
        if (in.response_valid && !held_) first_seen_ = operations_.now;
        held_ = in.response_valid && !out.response_ready;
        held_response_ = in.response;
        if (in.response_valid && out.response_ready) answered(in.response);
        if (!out.request_valid) offer();
        out.response_ready = !random_.percent(lanes_[0].knobs.response_stall_percent);
        if (!idle() && operations_.now - last_progress_ > hang_limit) hung();
    }

  private:
    struct Batch {
        uint32_t handle;
        const Request* requests;
        Answer* answers;
        size_t count;
        size_t sent = 0;
        size_t outstanding = 0;
        size_t remaining = count;
    };

    struct Lane {
        CoreKnobs knobs{};
        std::deque<Batch> queue;
        unsigned outstanding = 0;
    };

    struct InFlight {
        bool used = false, accepted = false;
        unsigned lane = 0;
        Batch* batch = nullptr;
        size_t index = 0;
    };

    // Puts the next request of the next lane that may send onto the port.
    void offer() {
        if (free_tags_.empty()) return;
        for (unsigned step = 1; step <= lanes; step++) {
            const unsigned number = (last_lane_ + step) % lanes;
            Lane& lane = lanes_[number];
            Batch* batch = next_batch(lane);
            const unsigned limit = lane.knobs.max_outstanding;
            if (!batch || (limit && lane.outstanding >= limit) || random_.percent(lane.knobs.gap_percent)) continue;
            const unsigned tag = free_tags_.front();
            free_tags_.pop_front();
            in_flight_[tag] = {true, false, number, batch, batch->sent++};
            batch->outstanding++;
            lane.outstanding++;
            last_lane_ = number;
            offered_ = tag;
            out.request_valid = true;
            out.request = RequestVector{};
            pack_request(batch->requests[in_flight_[tag].index],
                         [&](Slice slice, uint64_t value) { out.request.put(slice, value); });
            out.request.put(request_tag, tag);
            return;
        }
    }

    static Batch* next_batch(Lane& lane) {
        for (auto& batch : lane.queue)
            if (batch.sent < batch.count) return &batch;
        return nullptr;
    }

    void accepted() {
        InFlight& entry = in_flight_[offered_];
        entry.accepted = true;
        entry.batch->answers[entry.index].accept_cycle = operations_.now;
        out.request_valid = false;
    }

    void answered(const ResponseVector& response) {
        const unsigned tag = response.get(response_tag);
        InFlight entry = in_flight_[tag];
        if (!entry.used || !entry.accepted) {
            violation_("core: response with tag " + std::to_string(tag) + ", which no request has");
            return;
        }
        Answer& answer = entry.batch->answers[entry.index];
        unpack_response(answer, [&](Slice slice) { return response.get(slice); });
        answer.page_size = 4096u << 9 * response.get(response_page_size);
        answer.response_cycle = first_seen_;
        answer.answered = 1;
        last_progress_ = operations_.now;
        in_flight_[tag] = InFlight{};
        free_tags_.push_back(tag);
        lanes_[entry.lane].outstanding--;
        entry.batch->outstanding--;
        if (--entry.batch->remaining == 0) {
            operations_.finish(entry.batch->handle);
            drop_finished();
        }
    }

    // Batches are dropped from the front only, so that those behind keep their place in memory.
    void drop_finished() {
        for (auto& lane : lanes_)
            while (!lane.queue.empty() && !lane.queue.front().remaining) lane.queue.pop_front();
    }

    void hung() {
        std::string message = "core: no answer for " + std::to_string(hang_limit) + " cycles;";
        for (unsigned tag = 0; tag < in_flight_.size(); tag++) {
            const InFlight& entry = in_flight_[tag];
            if (!entry.used) continue;
            message += " waits: request " + std::to_string(entry.index) + " of its batch, tag " + std::to_string(tag) +
                       (entry.accepted ? "" : " (not accepted)");
            break;
        }
        violation_(message);
        last_progress_ = operations_.now;
    }

    Operations& operations_;
    std::function<void(const std::string&)> violation_;
    Random random_;
    std::array<Lane, lanes> lanes_;
    std::array<InFlight, 1u << TAG_WIDTH> in_flight_{};
    std::deque<unsigned> free_tags_;
    unsigned last_lane_ = 0, offered_ = 0;
    bool held_ = false;  // a response that the driver has not taken yet
    ResponseVector held_response_;
    uint64_t first_seen_ = 0, last_progress_ = 0;
};
