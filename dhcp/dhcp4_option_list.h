// DHCPv4 options: their numbers, one by itself, and those of a message. What a lease says in them is
// dhcp4_options.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <vector>

#include "netsetup/types/bytes.h"

namespace podnic::dhcp {

/// Option numbers: RFC 2132 unless another is named.
namespace option4 {
inline constexpr std::uint8_t pad = 0;
inline constexpr std::uint8_t subnet_mask = 1;
inline constexpr std::uint8_t router = 3;
inline constexpr std::uint8_t dns_servers = 6;
inline constexpr std::uint8_t host_name = 12;
inline constexpr std::uint8_t domain_name = 15;
inline constexpr std::uint8_t interface_mtu = 26;
inline constexpr std::uint8_t ntp_servers = 42;
inline constexpr std::uint8_t requested_address = 50;
inline constexpr std::uint8_t lease_time = 51;
inline constexpr std::uint8_t overload = 52;
inline constexpr std::uint8_t message_type = 53;
inline constexpr std::uint8_t server_identifier = 54;
inline constexpr std::uint8_t parameter_request_list = 55;
inline constexpr std::uint8_t message = 56;
inline constexpr std::uint8_t maximum_message_size = 57;
inline constexpr std::uint8_t renewal_time = 58;    // T1
inline constexpr std::uint8_t rebinding_time = 59;  // T2
inline constexpr std::uint8_t client_identifier = 61;
inline constexpr std::uint8_t boot_server_name = 66;
inline constexpr std::uint8_t boot_file_name = 67;
inline constexpr std::uint8_t rapid_commit = 80;                 // RFC 4039
inline constexpr std::uint8_t relay_agent_information = 82;      // RFC 3046
inline constexpr std::uint8_t ipv6_only_preferred = 108;         // RFC 8925
inline constexpr std::uint8_t auto_configure = 116;              // RFC 2563
inline constexpr std::uint8_t domain_search = 119;               // RFC 3397
inline constexpr std::uint8_t classless_routes = 121;            // RFC 3442
inline constexpr std::uint8_t classless_routes_microsoft = 249;  // [MS-DHCPE] 2.2.8: the bytes of 121
inline constexpr std::uint8_t end = 255;
}  // namespace option4

struct Dhcp4Option {
  std::uint8_t code = 0;
  Bytes data;  ///< of any length
  friend bool operator==(const Dhcp4Option&, const Dhcp4Option&) = default;
};

/// An option, or a part of one, whose data lies elsewhere.
struct Dhcp4OptionView {
  std::uint8_t code = 0;
  ByteView data;
  friend bool operator==(const Dhcp4OptionView& a, const Dhcp4OptionView& b) {
    return a.code == b.code && std::ranges::equal(a.data, b.data);
  }
};

/// The options of a message, in order. Their data lies in one buffer: a message has a dozen of them, most of
/// four bytes. What is taken out leaves its data behind. Views are good until the list changes.
class Dhcp4OptionList {
 public:
  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = Dhcp4OptionView;
    Iterator() = default;
    Iterator(const Dhcp4OptionList& list, std::size_t index) : list_(&list), index_(index) {}
    Dhcp4OptionView operator*() const { return (*list_)[index_]; }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    Iterator operator++(int) { return {*list_, index_++}; }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    const Dhcp4OptionList* list_ = nullptr;
    std::size_t index_ = 0;
  };

  Dhcp4OptionList() = default;
  Dhcp4OptionList(std::initializer_list<Dhcp4Option> options) {
    for (const Dhcp4Option& option : options) push_back(option);
  }

  [[nodiscard]] std::size_t size() const { return places_.size(); }
  [[nodiscard]] Dhcp4OptionView operator[](std::size_t index) const {
    const Place& place = places_[index];
    return {place.code, data_.bytes().subspan(place.begin, place.size)};
  }
  [[nodiscard]] Iterator begin() const { return {*this, 0}; }
  [[nodiscard]] Iterator end() const { return {*this, size()}; }
  /// The data of the first option with this code.
  [[nodiscard]] std::optional<ByteView> find(std::uint8_t code) const {
    const auto found = std::ranges::find(places_, code, &Place::code);
    if (found == places_.end()) return std::nullopt;
    return data_.bytes().subspan(found->begin, found->size);
  }

  /// For a list that is empty: it grows without a copy up to so many options with so many bytes of data.
  void reserve(std::size_t options, std::size_t data) {
    places_.reserve(options);
    data_ = ByteWriter(data);
  }
  void push_back(std::uint8_t code, ByteView data) {
    places_.push_back({code, data_.size(), data.size()});
    data_.append(data);
  }
  void push_back(const Dhcp4Option& option) { push_back(option.code, option.data); }
  /// One option, whose data is in these parts.
  void push_back(std::uint8_t code, std::span<const Dhcp4OptionView> parts) {
    const std::size_t begin = data_.size();
    for (const Dhcp4OptionView& part : parts) data_.append(part.data);
    places_.push_back({code, begin, data_.size() - begin});
  }
  /// Drops all but the first `size` options.
  void cut(std::size_t size) { places_.resize(std::min(size, places_.size())); }
  void clear() { cut(0); }
  void erase(std::uint8_t code) {
    std::erase_if(places_, [code](const Place& place) { return place.code == code; });
  }
  /// By the rank of their codes; equal ranks go by number.
  void sort(std::span<const std::uint16_t, 256> ranks) {
    std::ranges::sort(places_, {},
                      [ranks](const Place& place) { return ranks[place.code] * 256U + place.code; });
  }

  friend bool operator==(const Dhcp4OptionList& a, const Dhcp4OptionList& b) {
    return std::ranges::equal(a, b);
  }

 private:
  struct Place {
    std::uint8_t code = 0;
    std::size_t begin = 0;  ///< in data_
    std::size_t size = 0;
  };
  std::vector<Place> places_;
  ByteWriter data_;
};

}  // namespace podnic::dhcp
